// The states of a list: loading, empty, filtered to nothing, partial, failed.
import { html } from "dom";
import { dated } from "parts/time";

export function Loading() {
  return html`<p class="state" role="status">Loading …</p>`;
}

// `command`: a line that would fill the list.
export function Empty({ children, command }) {
  return html`<div class="state">
    <p>${children}</p>
    ${command ? html`<pre class="command" tabindex="0">${command}</pre>` : null}
  </div>`;
}

// `conditions`: those to drop, each as `{label, drop}`.
export function FilteredOut({ what, conditions }) {
  return html`<div class="state">
    <p>No ${what} with these conditions.</p>
    <ul class="chips">
      ${conditions.map(
        ({ label, drop }) => html`<li><button onClick=${drop}>Drop ${label}</button></li>`,
      )}
    </ul>
  </div>`;
}

export function Partial({ children, action, onAction }) {
  return html`<p class="state partial" role="status">
    ${children} ${action ? html`<button onClick=${onAction}>${action}</button>` : null}
  </p>`;
}

export function Failed({ problem, again }) {
  const id = problem.requestId ? html` · request <code>${problem.requestId}</code>` : null;
  return html`<div class="state failed" role="alert">
    <p>${problem.message}</p>
    <p class="quiet"><code>${problem.code}</code>${id}</p>
    ${again ? html`<button onClick=${again}>Try again</button>` : null}
  </div>`;
}

// What was loaded by `useLoad`, by its state. What is there stays while the gateway is away.
export function Loaded({ from, children }) {
  const { loading, value, problem, since, again } = from;
  if (value === undefined) {
    if (problem) return html`<${Failed} problem=${problem} again=${again} />`;
    return loading ? html`<${Loading} />` : null;
  }
  return html`${problem
      ? html`<p class="state stale" role="alert">
          ${problem.message} What you see is of ${dated(new Date(since).toISOString())}.
          <button onClick=${again}>Try again</button>
        </p>`
      : null}
    ${children(value)}`;
}
