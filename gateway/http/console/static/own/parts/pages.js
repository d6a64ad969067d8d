// Links between the pages of a list.
import { html } from "dom";
import { link } from "state/address";

// Pages of a list that goes forwards: from the first one, or on from this.
export function Pages({ page, wanted, next }) {
  if (!next && !wanted.after) return null;
  return html`<div class="pages" role="navigation" aria-label="Pages of the list">
    ${wanted.after ? html`<a class="button" href=${link(page, { ...wanted, after: "" })}>First page</a>` : null}
    ${next ? html`<a class="button" href=${link(page, { ...wanted, after: next })}>Next page</a>` : null}
  </div>`;
}
