// Keys: found by what they are for, whose they are, and what they want; the gateway finds them.
import { useRef } from "preact/hooks";
import { html } from "dom";
import { get } from "api/http";
import { link, replace } from "state/address";
import { useLoad } from "state/load";
import { may, useMe } from "state/me";
import { DeclaredMark } from "parts/declared";
import { KeyConditions, keyQuery } from "parts/key_conditions";
import { Ending, FLAGS, KeyState, LastUse } from "parts/keys";
import { Heading } from "parts/layout";
import { Pages } from "parts/pages";
import { Empty, FilteredOut, Loaded } from "parts/states";
import { Table } from "parts/table";
import { Key } from "pages/key";
import { NewKey } from "pages/new_key";
import { count } from "parts/time";

const PAGE = 50;
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
  const wanted = Object.fromEntries(
    [...Object.keys(CONDITIONS), "after"].map((name) => [name, query.get(name) || ""]),
  );
  const asked = {
    ...keyQuery(wanted), ...FLAGS[wanted.flag]?.asks, order: "newest", limit: PAGE, after: wanted.after,
  };
  const loaded = useLoad((options) => get("/v1/keys", asked, options), [JSON.stringify(asked)]);
  const known = useRef(null);
  if (loaded.value) known.current = loaded.value.summary;
  const set = (changes) => replace(link("keys", { ...wanted, after: "", ...changes }));
  const actions = html`<a class="button" href=${link("review")}>Review</a>
    ${may(me, "keys.admin") ? html`<a class="button strong" href=${link("keys", {}, "new")}>New key</a>` : null}`;
  return html`<${Heading} actions=${actions}>Keys<//>
    <${KeyConditions} wanted=${wanted} summary=${known.current} set=${set} withState />
    ${known.current ? html`<${Flags} marks=${known.current.marks} wanted=${wanted} set=${set} />` : null}
    <${Loaded} from=${loaded}>${(page) => html`<${Found} page=${page} wanted=${wanted} set=${set} />`}<//>`;
}

function Flags({ marks, wanted, set }) {
  return html`<div class="chips flags" role="group" aria-label="Marks">
    ${Object.keys(FLAGS).filter((name) => marks[name] || wanted.flag === name)
      .map((name) => html`<button aria-pressed=${wanted.flag === name}
        onClick=${() => set({ flag: wanted.flag === name ? "" : name })}>
        <span aria-hidden="true">⚑ </span>${FLAGS[name].label} ${count(marks[name] || 0)}</button>`)}
  </div>`;
}

function Found({ page, wanted, set }) {
  const { keys, found, summary, next } = page;
  const conditions = Object.entries(CONDITIONS).filter(([name]) => wanted[name])
    .map(([name, label]) => ({ label, drop: () => set({ [name]: "" }) }));
  return html`<p class="quiet" role="status">${count(found)} of ${count(summary.keys)} keys</p>
    ${keys.length
      ? html`<${Table} caption="Keys" columns=${COLUMNS} keyOf=${(key) => key.id} rows=${keys}
          href=${(key) => link("keys", {}, key.id)} />
        <${Pages} page="keys" wanted=${wanted} next=${next} />`
      : conditions.length
        ? html`<${FilteredOut} what="keys" conditions=${conditions} />`
        : html`<${Empty} command="audit-gateway keys create --help">
            There is no key that has not ended. This makes one:<//>`}`;
}

const COLUMNS = [
  { label: "Key", cell: (key) => key.name },
  { label: "Owner", cell: (key) => html`${key.owner || html`<span class="quiet">nobody</span>`}
    <${DeclaredMark} of=${key} />` },
  { label: "Sees", cell: (key) => html`<span class="scope">${key.scope.join(" ") || "Nothing."}</span>` },
  { label: "Last use", cell: (key) => html`<div class="whole"><${LastUse} use=${key.last_used} /></div>` },
  { label: "Ends", cell: (key) => html`<div class="whole"><${Ending} of=${key} /></div>` },
  { label: "State", cell: (key) => html`<div class="whole"><${KeyState} state=${key.state} />${key.findings_open
    ? html`<div class="status bad">${count(key.findings_open)} finding${key.findings_open > 1 ? "s" : ""}</div>`
    : null}</div>` },
];
