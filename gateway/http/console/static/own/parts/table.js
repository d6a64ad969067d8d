// Tables. Below 600 px rows become cards, whose cells are named by `data-label`.
import { html } from "dom";

// `columns`: each `{label, cell(row), number, whole}`: `whole` ones do not break; `href(row)` makes the first cell a link.
export function Table({ caption, columns, rows, keyOf, href, selected }) {
  return html`<table class="list">
    <caption class="hidden">${caption}</caption>
    <thead><tr>${columns.map(({ label, number }) =>
      html`<th scope="col" class=${number ? "number" : ""}>${label}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${keyOf(row)} aria-current=${
      selected && selected === keyOf(row) ? "true" : undefined
    }>${columns.map(({ label, cell, number, whole }, index) => {
      const content = cell(row);
      const shown = index === 0 && href
        ? html`<a href=${href(row)}>${content}</a>` : content;
      return index === 0
        ? html`<th scope="row" data-label=${label} class=${whole ? "whole" : ""}><div>${shown}</div></th>`
        : html`<td data-label=${label} class=${[number && "number", whole && "whole"].filter(Boolean).join(" ")}><div>${shown}</div></td>`;
    })}</tr>`)}</tbody>
  </table>`;
}
