// Declared objects: which set has them, and what becomes of a change that is made here.
import { html } from "dom";

export const undone = ({ managed_by: by }) => by
  ? `It is declared as ${by}: what is changed here is shown as drift, and undone when that set is applied next.` : "";

export function DeclaredMark({ of }) {
  return of.managed_by ? html`<div class="quiet">declared</div>` : null;
}

export function DeclaredNote({ of }) {
  return of.managed_by ? html`<p class="quiet">${undone(of)}</p>` : null;
}
