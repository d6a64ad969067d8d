// What stands beside a list when a row of it is opened. `Esc` closes it, unless a dialog is open
// or something is typed.
import { useEffect } from "preact/hooks";
import { html } from "dom";

// `label`: what kind of thing it is; `actions`: buttons.
export function Details({ label, title, actions, onClose, children }) {
  useEffect(() => {
    const pressed = (event) => {
      if (event.key !== "Escape" || event.target.closest("input, select, textarea")) return;
      if (!document.querySelector("dialog[open]")) onClose();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [onClose]);
  return html`<section class="details" aria-label=${label}>
    <div class="heading"><h2>${title}</h2><div class="actions">
      ${actions}<button class="small" onClick=${onClose}>Close</button></div></div>
    ${children}
  </section>`;
}
