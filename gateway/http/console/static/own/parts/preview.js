// What a proposed key would see: counts, samples as it sees them, and what it can and cannot do.
import { useEffect, useState } from "preact/hooks";
import { html } from "dom";
import { post } from "api/http";
import { Sentences } from "parts/keys";
import { clock, count, dated } from "parts/time";
import { who } from "parts/events";
import { Failed } from "parts/states";

const SETTLED_MS = 300;
const SAMPLES = 5;

// `grant`: null while it says nothing yet.
export function Preview({ grant }) {
  const [state, setState] = useState({ value: null, problem: null, asking: false });
  const asked = JSON.stringify(grant);
  useEffect(() => {
    if (!grant) return undefined;
    const ending = new AbortController();
    setState((before) => ({ ...before, asking: true }));
    const timer = setTimeout(async () => {
      try {
        const value = await post("/v1/authz/preview", { grants: [grant] }, { signal: ending.signal });
        setState({ value, problem: null, asking: false });
      } catch (problem) {
        if (problem.name !== "AbortError") setState({ value: null, problem, asking: false });
      }
    }, SETTLED_MS);
    return () => {
      clearTimeout(timer);
      ending.abort();
    };
  }, [asked]);
  return html`<section class="details preview" aria-label="What it would see">
    <h2>What it would see</h2>
    ${state.problem ? html`<${Failed} problem=${state.problem} />` : null}
    ${state.value ? html`<${Shown} found=${state.value} asking=${state.asking} />`
      : state.problem ? null : html`<p role="status">Looking …</p>`}
  </section>`;
}

function Shown({ found, asking }) {
  const { distinct } = found.facets.tenant;
  return html`<p role="status" aria-busy=${asking}><strong>would see ${count(found.total)} event${found.total === 1 ? "" : "s"} ${found.complete
      ? "of 24 h" : `since ${dated(found.since)}`} · of ${count(distinct)} tenant${distinct === 1 ? "" : "s"}</strong></p>
    ${found.exceeds.length ? html`<p class="state failed" role="alert">Your own key may not give that: it
      does not see as much itself.</p>` : null}
    <h3>Samples, as the key sees them</h3>
    ${found.samples.length ? html`<ul class="sentences">${found.samples.slice(0, SAMPLES).map((one) => html`<li>
        <details><summary>${clock(one.recorded_at)} ${one.tenant} ${one.action} ${who(one)} ${one.outcome}</summary>
        <pre tabindex="0">${JSON.stringify(one, null, 2)}</pre></details></li>`)}</ul>`
      : html`<p class="quiet">There is no such event that you may see yourself.</p>`}
    <h3>It can</h3><${Sentences} of=${found.can} none="Nothing." />
    <h3>It cannot</h3><${Sentences} of=${found.cannot} none="" />`;
}
