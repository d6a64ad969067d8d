// How events are shown: a row of columns, and all members beside it.
import { html } from "dom";
import { link } from "state/address";
import { Copy } from "parts/copy";
import { clock, count, dated } from "parts/time";

const SEVERITIES = ["", "informational", "low", "medium", "high", "critical", "fatal"];
// Events may have many thousands, which no page can show.
const MOST_MEMBERS = 500;
// Members that selectors narrow by; others are narrowed by a filter.
const SELECTORS = {
  tenant: "tenant", category: "category", action: "action", outcome: "outcome",
  "actor.id": "actor",
};

export const severityName = (number) => SEVERITIES[number] || String(number);

export function who(event) {
  const actor = event.actor || {};
  return actor.name || actor.id || "";
}

// Members of an event as `[path, value]`, in order; lists and objects are gone into.
export function members(value, path = "") {
  if (value === null || typeof value !== "object") return [[path, value]];
  const entries = Array.isArray(value)
    ? value.map((one, index) => [`${path}[${index}]`, one])
    : Object.entries(value).map(([name, one]) => [path ? `${path}.${name}` : name, one]);
  if (!entries.length) return [[path, Array.isArray(value) ? "[]" : "{}"]];
  return entries.flatMap(([name, one]) => members(one, name));
}

// The condition that a member has a value, or has not: `{selector}` or `{filter}`; null where
// neither can say it.
export function condition(path, value, wanted) {
  const selector = SELECTORS[path];
  if (selector && wanted) return { selector, value: String(value) };
  if (path.includes("[") || !/^[A-Za-z_][\w.]*$/.test(path)) return null;
  const same = `${path} == ${JSON.stringify(value)}`;
  return { filter: wanted ? same : `!(${same})` };
}

// `onNarrow(condition)`: narrows the view; `actions`: further buttons.
export function EventDetails({ event, onNarrow, onClose, actions }) {
  const shown = members(event).filter(([path]) => !["cursor"].includes(path));
  const text = JSON.stringify(event, null, 2);
  return html`<section class="details" aria-label="Event">
    <div class="heading"><h2>${event.action}</h2>
      <div class="actions">
        ${actions}
        <${Copy} text=${text} label="Copy JSON" />
        <button class="small" onClick=${onClose}>Close</button>
      </div></div>
    <p class="quiet">recorded ${dated(event.recorded_at)}${
      event.time !== event.recorded_at ? `, happened ${dated(event.time)}` : ""}</p>
    <dl class="members">${shown.slice(0, MOST_MEMBERS).map(([path, value]) => html`<div key=${path}>
      <dt>${path}</dt>
      <dd><span class="value">${String(value)}</span>
        ${value === "***" ? null : html`<${Narrow} path=${path} value=${value} onNarrow=${onNarrow} />`}
      </dd></div>`)}
    </dl>
    ${shown.length > MOST_MEMBERS ? html`<p class="quiet">${
      count(shown.length - MOST_MEMBERS)} more members are in its JSON.</p>` : null}
    <details><summary>JSON</summary><pre tabindex="0">${text}</pre></details>
  </section>`;
}

function Narrow({ path, value, onNarrow }) {
  if (!onNarrow) return null;
  const only = condition(path, value, true);
  const not = condition(path, value, false);
  return html`<span class="narrow">
    ${only ? html`<button class="small" aria-label=${`Only ${path} ${value}`}
      onClick=${() => onNarrow(only)}>only</button>` : null}
    ${not ? html`<button class="small" aria-label=${`Not ${path} ${value}`}
      onClick=${() => onNarrow(not)}>not</button>` : null}
  </span>`;
}

// Columns of a row of events, for grids.
export const COLUMNS = [
  { name: "time", label: "Recorded", text: (event) => clock(event.recorded_at) },
  { name: "tenant", label: "Tenant", text: (event) => event.tenant },
  { name: "category", label: "Category", text: (event) => event.category },
  { name: "action", label: "Action", text: (event) => event.action },
  { name: "who", label: "Actor", text: who },
  { name: "outcome", label: "Outcome", text: (event) => event.outcome },
];

// Leads to the events before and behind one.
export function AroundLink({ event }) {
  return html`<a class="button small" href=${link("investigate", { event: event.id, of: event.tenant })}>
    Around it</a>`;
}
