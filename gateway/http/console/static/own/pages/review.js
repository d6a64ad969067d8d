// Review of access: each key is looked at and marked as reviewed; the report of all is saved.
import { useRef, useState } from "preact/hooks";
import { html } from "dom";
import { saveReview } from "api/export";
import { get, post } from "api/http";
import { link, replace } from "state/address";
import { useLoad } from "state/load";
import { useMe } from "state/me";
import { say } from "state/said";
import { Confirm } from "parts/dialog";
import { KeyConditions, keyQuery } from "parts/key_conditions";
import { LastUse, Moment } from "parts/keys";
import { Heading } from "parts/layout";
import { Pages } from "parts/pages";
import { Empty, FilteredOut, Loaded } from "parts/states";
import { Table } from "parts/table";
import { bytes, count } from "parts/time";

const PAGE = 50;
const CONDITIONS = { q: "the search", owner: "the owner", role: "the role" };
const FORMATS = { html: "HTML", csv: "CSV", markdown: "Markdown", json: "JSON" };

export function Review({ query }) {
  const wanted = Object.fromEntries(
    [...Object.keys(CONDITIONS), "after"].map((name) => [name, query.get(name) || ""]),
  );
  const conditions = keyQuery(wanted);
  const asked = { ...conditions, order: "reviewed", limit: PAGE, after: wanted.after };
  const loaded = useLoad((options) => get("/v1/keys", asked, options), [JSON.stringify(asked)]);
  const known = useRef(null);
  if (loaded.value) known.current = loaded.value.summary;
  const set = (changes) => replace(link("review", { ...wanted, after: "", ...changes }));
  return html`<${Heading}>Review<//>
    <p>Who may see what, the key first that was reviewed least recently. Look at each, and mark it as reviewed
      where it is still needed; the report has all of them, with changes, roles and who looked at what.</p>
    <${Saving} conditions=${conditions} />
    <${KeyConditions} wanted=${wanted} summary=${known.current} set=${set} />
    <${Loaded} from=${loaded}>${(page) => html`
      <${Found} page=${page} wanted=${wanted} set=${set} again=${loaded.again} />`}<//>`;
}

function Saving({ conditions }) {
  const [saving, setSaving] = useState("");
  const [problem, setProblem] = useState(null);
  const save = async (format) => {
    setSaving(format);
    setProblem(null);
    try {
      // The report has keys that ended in its period, too.
      const { name, size } = await saveReview(format, { ...conditions, state: "" });
      say(`${name} is saved: ${bytes(size)}.`);
    } catch (error) {
      setProblem(error);
    }
    setSaving("");
  };
  return html`<div class="actions" role="group" aria-label="Save the report">
      <span>Save the report as</span>
      ${Object.entries(FORMATS).map(([format, label]) => html`<button disabled=${Boolean(saving)}
        onClick=${() => save(format)}>${saving === format ? "Making it …" : label}</button>`)}
    </div>
    ${problem ? html`<p class="problem" role="alert">${problem.message}</p>` : null}`;
}

function Found({ page, wanted, set, again }) {
  const me = useMe();
  const [asked, setAsked] = useState(null);
  const { keys, found, summary, next } = page;
  const conditions = Object.entries(CONDITIONS).filter(([name]) => wanted[name])
    .map(([name, label]) => ({ label, drop: () => set({ [name]: "" }) }));
  const columns = [...COLUMNS, { label: "Reviewed", cell: (key) => html`<${Mark} of=${key} me=${me} onAsk=${setAsked} />` }];
  const act = async (note) => {
    await post(`/v1/keys/${encodeURIComponent(asked.id)}/reviewed`, { note });
    say(`The key ${asked.name} is marked as reviewed.`);
    again();
  };
  return html`<p class="quiet" role="status">${count(found)} of ${count(summary.keys)} keys</p>
    ${keys.length
      ? html`<${Table} caption="Keys to review" columns=${columns} keyOf=${(key) => key.id} rows=${keys}
          href=${(key) => link("keys", {}, key.id)} />
        <${Pages} page="review" wanted=${wanted} next=${next} />`
      : conditions.length
        ? html`<${FilteredOut} what="keys" conditions=${conditions} />`
        : html`<${Empty} command="audit-gateway review --help">
            There is no key that has not ended. The report tells of those that have:<//>`}
    ${asked ? html`<${Confirm} title=${`Mark as reviewed: ${asked.name}`} action="Mark as reviewed" asksReason
      says="You have looked at what it may do, and found it needed. This is recorded with your reason."
      act=${act} onClose=${() => setAsked(null)} />` : null}`;
}

const COLUMNS = [
  { label: "Key", cell: (key) => key.name },
  { label: "Owner, purpose", cell: (key) => html`${key.owner || html`<span class="quiet">nobody</span>`}
    <div class="quiet">${key.purpose}</div>` },
  { label: "Sees", cell: (key) => html`<span class="scope">${key.scope.join(" ") || "Nothing."}</span>` },
  { label: "Last use", cell: (key) => html`<div class="whole"><${LastUse} use=${key.last_used} /></div>` },
  { label: "Age", number: true, cell: (key) => `${count(key.age_days)} d` },
];

function Mark({ of, me, onAsk }) {
  // The gateway knows of further cases, and refuses them.
  const own = of.id === me.id || of.owner === me.owner || of.created_by === me.id;
  return html`<div class="whole">${of.reviewed_at
      ? html`<${Moment} at=${of.reviewed_at} /> <div class="quiet">by ${of.reviewed_by}</div>`
      : html`<span class="quiet">never</span>`}</div>
    ${own ? html`<div class="quiet">yours, for others to review</div>`
      : html`<button class="small" aria-label=${`Mark ${of.name} as reviewed`}
          onClick=${() => onAsk(of)}>Mark as reviewed</button>`}`;
}
