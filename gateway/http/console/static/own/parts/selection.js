// What a view shows: selectors, text and a filter, kept in the address.
import { useEffect, useState } from "preact/hooks";
import { html } from "dom";
import { Choice, TextField } from "parts/fields";
import { severityName } from "parts/events";

export const SELECTION = [
  "tenant", "category", "action", "outcome", "actor", "resource", "min_severity", "filter", "text",
];
const TYPED_MS = 400;
const OUTCOMES = [["", "any outcome"], "success", "failure", "denied", "unknown"];

// The selection in an address, as parameters of the interface.
export function selectionOf(query) {
  const selection = {};
  for (const name of SELECTION) {
    const values = query.getAll(name).filter((value) => value !== "");
    if (values.length) selection[name] = values.length > 1 ? values : values[0];
  }
  return selection;
}

// A selection narrowed by a condition of `parts/events`.
export function narrowed(selection, { selector, value, filter }) {
  if (selector) return { ...selection, [selector]: value };
  const before = selection.filter;
  return { ...selection, filter: before ? `(${before}) && ${filter}` : filter };
}

// `onChange(selection)` is called when somebody has stopped typing.
export function Selection({ selection, onChange, texts }) {
  const [typed, setTyped] = useState(selection);
  useEffect(() => setTyped(selection), [JSON.stringify(selection)]);
  useEffect(() => {
    if (JSON.stringify(typed) === JSON.stringify(selection)) return undefined;
    const timer = setTimeout(() => onChange(typed), TYPED_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  const set = (name) => (value) => setTyped((before) => ({ ...before, [name]: value }));
  const text = (name) => (Array.isArray(typed[name]) ? typed[name].join(" ") : typed[name] || "");
  const severities = [["", "any severity"],
    ...[2, 3, 4, 5, 6].map((number) => [String(number), `${severityName(number)} and above`])];
  return html`<form class="selection" role="search" aria-label="What is shown"
    onSubmit=${(event) => { event.preventDefault(); onChange(typed); }}>
    ${texts === false ? null : html`<${TextField} label="Text" data-search="1" value=${text("text")}
      onValue=${set("text")} placeholder='words, "a phrase", -not' />`}
    <${TextField} label="Tenant" value=${text("tenant")} onValue=${set("tenant")} placeholder="all" />
    <${TextField} label="Category" value=${text("category")} onValue=${set("category")}
      placeholder="auth.**" />
    <${TextField} label="Actor" value=${text("actor")} onValue=${set("actor")} placeholder="all" />
    <${Choice} label="Outcome" value=${typed.outcome || ""} options=${OUTCOMES}
      onValue=${set("outcome")} />
    <${Choice} label="Severity" value=${String(typed.min_severity || "")} options=${severities}
      onValue=${set("min_severity")} />
    <${TextField} label="Filter" value=${text("filter")} onValue=${set("filter")}
      placeholder='data.bytes > 1000' class="wide" />
  </form>`;
}
