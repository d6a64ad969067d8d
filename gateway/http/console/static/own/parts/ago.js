// Moments, told from now on; the whole of it stands in a tip.
import { html } from "dom";
import { dated, relative } from "parts/time";

export function Ago({ at }) {
  return at ? html`<time datetime=${at} title=${dated(at)}>${relative(at)}</time>` : null;
}
