// The banner on all pages while a key for an emergency works.
import { html } from "dom";
import { get } from "api/http";
import { useLoad } from "state/load";
import { may } from "state/me";
import { link } from "state/address";
import { dated } from "parts/time";

const SECONDS = 15;

export function BreakGlass({ me }) {
  const { value } = useLoad((options) => get("/v1/me", {}, options), [], { seconds: SECONDS });
  const until = (value || me).break_glass_until;
  if (!until || Date.parse(until) <= Date.now()) return null;
  return html`<p class="banner" role="alert">A break-glass key works until <time datetime=${until}>${dated(until)}</time>.
    ${may(me, "usage.read") ? html` <a href=${link("findings")}>See the finding</a>` : null}</p>`;
}
