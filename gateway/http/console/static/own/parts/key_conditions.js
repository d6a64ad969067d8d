// Conditions of lists of keys, which the gateway finds page by page.
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "dom";
import { Choice, TextField } from "parts/fields";

const TYPED_MS = 200;
// Of keys that have not ended.
const LIVING = ["active", "draining", "suspended", "unreadable"];
const STATES = [["", "not ended"], "active", "draining", "suspended", "expired", "revoked",
  "unreadable", ["any", "any state"]];

// What the call is asked for; `state`: "" for keys that have not ended, "any" for all.
export function keyQuery({ q, owner, role, state }) {
  return { q, owner, role, state: state === "any" ? "" : state || LIVING };
}

// `summary`: that of the last answer, with the owners and roles that there are.
export function KeyConditions({ wanted, summary, set, withState }) {
  const [typed, setTyped] = useState(wanted.q);
  // Other conditions may change while somebody types.
  const latest = useRef(set);
  latest.current = set;
  useEffect(() => setTyped(wanted.q), [wanted.q]);
  useEffect(() => {
    if (typed === wanted.q) return undefined;
    const timer = setTimeout(() => latest.current({ q: typed }), TYPED_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  return html`<form class="selection" role="search" aria-label="Which keys"
    onSubmit=${(event) => { event.preventDefault(); set({ q: typed }); }}>
    <${TextField} label="Search" data-search="1" value=${typed} onValue=${setTyped} maxlength="256"
      placeholder="name, purpose, what it sees …" />
    <${Choice} label="Owner" value=${wanted.owner} options=${offered("any owner", wanted.owner, summary?.owners)}
      onValue=${(owner) => set({ owner })} />
    <${Choice} label="Role" value=${wanted.role} options=${offered("any role", wanted.role, summary?.roles)}
      onValue=${(role) => set({ role })} />
    ${withState ? html`<${Choice} label="State" value=${wanted.state} options=${STATES}
      onValue=${(state) => set({ state })} />` : null}
  </form>`;
}

// What is chosen is offered also before the others are known.
function offered(any, chosen, known = []) {
  return [["", any], ...(chosen && !known.includes(chosen) ? [chosen] : []), ...known];
}
