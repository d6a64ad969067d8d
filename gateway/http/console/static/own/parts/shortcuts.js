// Shortcuts: `g l` goes to a page, `/` searches, `?` lists them. Never while something is typed.
import { useEffect } from "preact/hooks";
import { html } from "dom";
import { go, link } from "state/address";
import { Dialog } from "parts/dialog";

const TYPING = new Set(["INPUT", "TEXTAREA", "SELECT"]);
const SECOND_KEY_MS = 1500;

export function useShortcuts(pages, onHelp) {
  useEffect(() => {
    let went = 0;
    const pressed = (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (TYPING.has(event.target.tagName) || event.target.isContentEditable) return;
      if (Date.now() - went < SECOND_KEY_MS) {
        went = 0;
        const page = pages.find(({ key }) => key === event.key);
        if (page) {
          event.preventDefault();
          go(link(page.name));
        }
      } else if (event.key === "g") {
        went = Date.now();
      } else if (event.key === "/") {
        const field = document.querySelector("[data-search]");
        if (field) {
          event.preventDefault();
          field.focus();
        }
      } else if (event.key === "?") {
        onHelp();
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [pages, onHelp]);
}

export function ShortcutHelp({ pages, onClose }) {
  const others = [["/", "Search"], ["Space", "Pause the live view"], ["Esc", "Close"], ["?", "This list"]];
  return html`<${Dialog} title="Keys" onClose=${onClose}>
    <dl class="keys">
      ${pages.map(({ title, key }) => html`<dt><kbd>g</kbd> <kbd>${key}</kbd></dt><dd>${title}</dd>`)}
      ${others.map(([key, what]) => html`<dt><kbd>${key}</kbd></dt><dd>${what}</dd>`)}
    </dl>
    <div class="actions"><button class="strong" onClick=${onClose}>Close</button></div>
  <//>`;
}
