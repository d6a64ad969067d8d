// Values with their counts, by which a view is narrowed.
import { html } from "dom";
import { condition } from "parts/events";
import { count } from "parts/time";

const PATHS = { actor: "actor.id" };

// `facets` as `/v1/counts` has them.
export function Facets({ facets, onNarrow }) {
  return html`<div class="facets">${Object.entries(facets || {}).map(([name, facet]) => {
    const path = PATHS[name] || name;
    return html`<section key=${name} aria-label=${`By ${name}`}>
      <h3>${name} <span class="quiet">${count(facet.distinct)}</span></h3>
      <ul>${facet.values.map(({ value, count: events }) => html`<li key=${value}>
        <button class="small" onClick=${() => onNarrow(condition(path, value, true))}
          aria-label=${`Only ${name} ${value}`}>${value === "" ? "none" : value}</button>
        <span class="number">${count(events)}</span></li>`)}</ul>
      ${facet.others ? html`<p class="quiet">${count(facet.others)} with other values</p>` : null}
      ${facet.hidden ? html`<p class="quiet">${count(facet.hidden)} hidden from this key</p>` : null}
    </section>`;
  })}</div>`;
}
