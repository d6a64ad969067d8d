// A text to be copied.
import { useState } from "preact/hooks";
import { html } from "dom";
import { say } from "state/said";

const SHOWN_MS = 2000;

export function Copy({ text, label = "Copy" }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      say("The browser does not let it be copied: select it by hand.");
      return;
    }
    setCopied(true);
    setTimeout(() => setCopied(false), SHOWN_MS);
  };
  return html`<button type="button" class="small" onClick=${copy}>${copied ? "Copied" : label}</button>`;
}
