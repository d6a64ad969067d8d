// Keys: all of them, found by what they are for, whose they are, and what they want.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { html } from "dom";
import { get } from "api/http";
import { link, replace } from "state/address";
import { useLoad } from "state/load";
import { may, useMe } from "state/me";
import { Choice, TextField } from "parts/fields";
import { ENDED, Ending, FLAGS, KeyState, LastUse, isFlagged } from "parts/keys";
import { Heading } from "parts/layout";
import { Empty, FilteredOut, Loaded } from "parts/states";
import { Table } from "parts/table";
import { Key } from "pages/key";
import { NewKey } from "pages/new_key";
import { count } from "parts/time";

const PAGE = 50;
const TYPED_MS = 200;
const STATES = [["", "not ended"], "active", "draining", "suspended", "expired", "revoked",
  "unreadable", ["any", "any state"]];
const CONDITIONS = { q: "the search", owner: "the owner", role: "the role", state: "the state", flag: "the mark" };

export function Keys({ parts, query }) {
  const [opened] = parts;
  const me = useMe();
  if (opened === "new" && may(me, "keys.admin")) return html`<${NewKey} />`;
  if (opened) return html`<${Key} key=${opened} id=${opened} />`;
  return html`<${AllKeys} query=${query} />`;
}

function AllKeys({ query }) {
  const me = useMe();
  const loaded = useLoad((options) => get("/v1/keys", {}, options), []);
  const wanted = Object.fromEntries(
    [...Object.keys(CONDITIONS), "page"].map((name) => [name, query.get(name) || ""]),
  );
  const actions = may(me, "keys.admin")
    ? html`<a class="button strong" href=${link("keys", {}, "new")}>New key</a>` : null;
  return html`<${Heading} actions=${actions}>Keys<//>
    <${Loaded} from=${loaded}>${({ keys }) => html`<${List} keys=${keys} wanted=${wanted} />`}<//>`;
}

function List({ keys, wanted }) {
  const now = useMemo(() => Date.now(), [keys]);
  const texts = useMemo(() => keys.map(textOf), [keys]);
  const choices = useMemo(() => choicesOf(keys), [keys]);
  const flags = useMemo(() => flagged(keys, now), [keys]);
  const found = useMemo(
    () => select(keys, texts, wanted, now),
    [keys, ...Object.keys(CONDITIONS).map((name) => wanted[name])],
  );
  const set = (changes) => replace(link("keys", { ...wanted, page: "", ...changes }));
  const conditions = Object.entries(CONDITIONS).filter(([name]) => wanted[name])
    .map(([name, label]) => ({ label, drop: () => set({ [name]: "" }) }));
  return html`<${Conditions} wanted=${wanted} choices=${choices} set=${set} />
    <div class="chips flags" role="group" aria-label="Marks">
      ${Object.entries(flags).filter(([name, number]) => number || wanted.flag === name)
        .map(([name, number]) => html`<button aria-pressed=${wanted.flag === name}
          onClick=${() => set({ flag: wanted.flag === name ? "" : name })}>
          <span aria-hidden="true">⚑ </span>${FLAGS[name].label} ${count(number)}</button>`)}
    </div>
    <p class="quiet" role="status">${count(found.length)} of ${count(keys.length)} keys</p>
    ${found.length
      ? html`<${Page} found=${found} page=${Number(wanted.page) || 1} wanted=${wanted} />`
      : conditions.length
        ? html`<${FilteredOut} what="keys" conditions=${conditions} />`
        : html`<${Empty} command="audit-gateway keys create --help">
            There is no key that has not ended. This makes one:<//>`}`;
}

function Conditions({ wanted, choices, set }) {
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
    <${TextField} label="Search" data-search="1" value=${typed} onValue=${setTyped}
      placeholder="name, purpose, what it sees …" />
    <${Choice} label="Owner" value=${wanted.owner} options=${[["", "any owner"], ...choices.owners]}
      onValue=${(owner) => set({ owner })} />
    <${Choice} label="Role" value=${wanted.role} options=${[["", "any role"], ...choices.roles]}
      onValue=${(role) => set({ role })} />
    <${Choice} label="State" value=${wanted.state} options=${STATES}
      onValue=${(state) => set({ state })} />
  </form>`;
}

const COLUMNS = [
  { label: "Key", cell: (key) => key.name },
  { label: "Owner", cell: (key) => key.owner || html`<span class="quiet">nobody</span>` },
  { label: "Sees", cell: (key) => html`<span class="scope">${key.scope.join(" ") || "Nothing."}</span>` },
  { label: "Last use", cell: (key) => html`<div class="whole"><${LastUse} use=${key.last_used} /></div>` },
  { label: "Ends", cell: (key) => html`<div class="whole"><${Ending} of=${key} /></div>` },
  { label: "State", cell: (key) => html`<div class="whole"><${KeyState} state=${key.state} />${key.findings_open
    ? html`<div class="status bad">${count(key.findings_open)} finding${key.findings_open > 1 ? "s" : ""}</div>`
    : null}</div>` },
];

function Page({ found, page, wanted }) {
  const pages = Math.ceil(found.length / PAGE);
  const at = Math.min(Math.max(1, page), pages);
  const to = (number) => link("keys", { ...wanted, page: number > 1 ? number : "" });
  return html`<${Table} caption="Keys" columns=${COLUMNS} keyOf=${(key) => key.id}
      rows=${found.slice((at - 1) * PAGE, at * PAGE)} href=${(key) => link("keys", {}, key.id)} />
    ${pages > 1 ? html`<div class="pages" role="navigation" aria-label="Pages of the list">
      ${at > 1 ? html`<a class="button" href=${to(at - 1)}>Before</a>` : null}
      <span>${count(at)} of ${count(pages)}</span>
      ${at < pages ? html`<a class="button" href=${to(at + 1)}>Next</a>` : null}
    </div>` : null}`;
}

function textOf(key) {
  return [key.name, key.id, key.purpose, key.owner, key.created_by, ...(key.roles || []), ...key.scope]
    .join("\n").toLowerCase();
}

function choicesOf(keys) {
  const owners = new Set(keys.map(({ owner }) => owner).filter(Boolean));
  const roles = new Set(keys.flatMap((key) => key.roles || []));
  return { owners: [...owners].sort(), roles: [...roles].sort() };
}

function flagged(keys, now) {
  return Object.fromEntries(Object.keys(FLAGS).map(
    (flag) => [flag, keys.filter((key) => isFlagged(key, flag, now)).length],
  ));
}

// Newest first.
function select(keys, texts, { q, owner, role, state, flag }, now) {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  return keys.filter((key, index) => (
    words.every((word) => texts[index].includes(word))
    && (!owner || key.owner === owner)
    && (!role || (key.roles || []).includes(role))
    && (state === "any" || (state ? key.state === state : !ENDED.has(key.state)))
    && (!flag || !FLAGS[flag] || isFlagged(key, flag, now))
  )).reverse();
}
