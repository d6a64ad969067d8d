// Key: what one key is for, what it sees, what it was used for, and what can be done with it.
import { useState } from "preact/hooks";
import { html } from "dom";
import { get, post } from "api/http";
import { link } from "state/address";
import { useLoad } from "state/load";
import { may, useMe } from "state/me";
import { say } from "state/said";
import { Chart } from "parts/chart";
import { DeclaredNote, undone } from "parts/declared";
import { Confirm } from "parts/dialog";
import { Explain } from "parts/explain";
import { KeyEditor } from "parts/key_editor";
import { ENDED, Ending, KeyState, LastUse, Sentences } from "parts/keys";
import { Heading } from "parts/layout";
import { Minted } from "parts/minted";
import { Loaded } from "parts/states";
import { Table } from "parts/table";
import { count, dated } from "parts/time";

const RECORDS = [
  { label: "Recorded", cell: ({ recorded_at: at }) => dated(at) },
  { label: "What", cell: ({ action, outcome }) => `${action}, ${outcome}` },
  { label: "By", cell: ({ actor }) => actor?.id || "" },
  { label: "From", cell: ({ source }) => source?.ip || "" },
];
const ACTS = {
  rotate: { action: "Rotate", says: "A successor with the same rights is made and shown once; this key works on for the overlap of its schedule, else for an hour." },
  suspend: { action: "Suspend", reason: true, says: "Its streams end at once, and it is refused until it is resumed.", did: "is suspended" },
  resume: { action: "Resume", says: "It may do again what its grants say.", did: "is resumed" },
  revoke: { action: "Revoke", reason: true, says: "It ends at once and for good; its streams end.", did: "is revoked" },
  reviewed: { action: "Mark as reviewed", reason: true, says: "You have looked at what it may do, and found it needed.", did: "is marked as reviewed" },
};

export function Key({ id }) {
  const path = `/v1/keys/${encodeURIComponent(id)}`;
  const loaded = useLoad((options) => get(`${path}/document`, {}, options), [id]);
  return html`<${Loaded} from=${loaded}>${(document) => html`
    <${Shown} found=${document} path=${path} again=${loaded.again} />`}<//>`;
}

function Shown({ found, path, again }) {
  const me = useMe();
  const [asked, setAsked] = useState("");
  const [made, setMade] = useState(null);
  const [editing, setEditing] = useState(false);
  const { key } = found;
  const admin = may(me, "keys.admin");
  const living = !ENDED.has(key.state);
  // The gateway knows of further cases, and refuses them.
  const own = key.id === me.id || key.owner === me.owner || key.created_by === me.id;
  const offered = [
    ...(admin && key.state === "active" && !key.person && !key.break_glass ? ["rotate"] : []),
    ...(admin && living ? [key.state === "suspended" ? "resume" : "suspend", "revoke"] : []),
    ...(living && !own ? ["reviewed"] : []),
  ];
  const act = async (reason) => {
    const body = asked === "rotate" || asked === "resume" ? {} : { [asked === "reviewed" ? "note" : "reason"]: reason };
    const answer = await post(`${path}/${asked}`, body);
    if (asked === "rotate") setMade(answer);
    else say(`The key ${key.name} ${ACTS[asked].did}.`);
    again();
  };
  const change = admin && living && !key.person
    ? html`<button onClick=${() => setEditing(true)}>Change</button>` : null;
  const changed = () => {
    setEditing(false);
    again();
  };
  return html`<${Heading} actions=${[change, ...offered.map((name) => html`<button class=${name === "revoke" ? "danger" : ""}
      onClick=${() => setAsked(name)}>${ACTS[name].action}</button>`)]}>${key.name}<//>
    <p><a href=${link("keys")}>All keys</a></p>
    ${made ? html`<${Minted} made=${made} onDone=${() => setMade(null)} />` : null}
    ${editing ? html`<${KeyEditor} of=${key} path=${path} onChanged=${changed} onClose=${() => setEditing(false)} />` : null}
    <p>${key.purpose}</p>
    ${admin ? html`<${DeclaredNote} of=${key} />` : null}
    <dl class="facts"><dt>Id</dt><dd><code>${key.id}</code></dd>
      <dt>State</dt><dd><${KeyState} state=${key.state} /> <${Ending} of=${key} /></dd>
      <dt>Owner</dt><dd>${key.owner || "nobody"}</dd>
      <dt>Made</dt><dd>${dated(key.created_at)} by ${key.created_by_name || key.created_by || "nobody known"}</dd>
      ${key.rotate ? html`<dt>Rotates</dt><dd>every ${key.rotate.every}, both secrets work for ${key.rotate.overlap}
        ${key.rotate_by ? `; next by ${dated(key.rotate_by)}` : ""}</dd>` : null}
      ${key.pending_successor ? html`<dt>Successor</dt><dd><a href=${link("keys", {}, key.pending_successor)}>
        <code>${key.pending_successor}</code></a> waits until its secret is in use</dd>` : null}
      ${key.successor ? html`<dt>Successor</dt><dd><a href=${link("keys", {}, key.successor)}>
        <code>${key.successor}</code></a></dd>` : null}
      ${key.managed_by ? html`<dt>Declared</dt><dd>as ${key.managed_by}</dd>` : null}
      <dt>Last use</dt><dd><${LastUse} use=${found.last_use} /></dd>
      ${key.reviewed_at ? html`<dt>Reviewed</dt><dd>${dated(key.reviewed_at)} by ${key.reviewed_by}</dd>` : null}</dl>
    <h2>It can</h2><${Sentences} of=${found.can} none="Nothing: it has no grants." />
    <h2>It cannot</h2><${Sentences} of=${found.cannot} none="" />
    <details><summary>Grants as JSON</summary><pre tabindex="0">${JSON.stringify(found.grants, null, 2)}</pre></details>
    ${may(me, "keys.admin", "usage.read") ? html`<${Explain} id=${key.id} />` : null}
    ${may(me, "usage.read") ? html`<${Usage} path=${path} />` : null}
    <${History} path=${path} />
    ${asked ? html`<${Confirm} title=${`${ACTS[asked].action}: ${key.name}`} says=${`${ACTS[asked].says} ${asked === "reviewed" ? "" : undone(key)}`}
      action=${ACTS[asked].action} asksReason=${ACTS[asked].reason} act=${act} onClose=${() => setAsked("")} />` : null}`;
}

function Usage({ path }) {
  const loaded = useLoad((options) => get(`${path}/usage`, { window: "24h", step: "1h" }, options), [path]);
  return html`<h2>Usage of 24 hours</h2><${Loaded} from=${loaded}>${({ rows }) => {
    const sum = (name) => rows.reduce((all, row) => all + row[name], 0);
    const said = `requests ${count(sum("requests"))} · events ${count(sum("events"))} · denials ${count(sum("denials"))}`;
    return html`<p>${said}</p><${Chart} label=${`Requests by hour: ${said}`}
      times=${rows.map(({ start }) => Date.parse(start) / 1000)}
      lines=${[{ label: "requests", values: rows.map(({ requests }) => requests) }]} />`;
  }}<//>`;
}

function History({ path }) {
  const loaded = useLoad((options) => get(`${path}/history`, { limit: 100 }, options), [path]);
  return html`<h2>History</h2><${Loaded} from=${loaded}>${({ events, notice, has_more: more }) => html`
    ${more ? html`<p class="quiet">The first 100 records are here.</p>` : null}
    ${events.length ? html`<${Table} caption="History" rows=${events} keyOf=${({ cursor }) => cursor} columns=${RECORDS} />`
      : html`<p class="quiet">${notice ? `You see none: ${notice.detail}.` : "None is recorded yet."}</p>`}`}<//>`;
}
