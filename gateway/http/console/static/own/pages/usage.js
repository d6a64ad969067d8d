// Usage: how much one key or all were used, beside the week before, and what limits leave.
import { useMemo } from "preact/hooks";
import { html } from "dom";
import { get } from "api/http";
import { link, replace } from "state/address";
import { useLoad } from "state/load";
import { may, useMe } from "state/me";
import { Chart } from "parts/chart";
import { Choice, SettledField } from "parts/fields";
import { Heading } from "parts/layout";
import { Empty, Loaded, Partial } from "parts/states";
import { Table } from "parts/table";
import { bytes, count, dated, span } from "parts/time";

const HOUR = 3600;
const WEEK = 7 * 86400;
const MOST_NAMES = 500;
const EVERY_SECONDS = 60;
// What is kept: minutes for two days, hours for 60 and days for 400. Seconds of windows and steps.
const WINDOWS = {
  "1h": { label: "the last hour", seconds: HOUR, steps: ["1m", "5m"] },
  "24h": { label: "the last day", seconds: 24 * HOUR, steps: ["1h", "15m"] },
  "7d": { label: "the last week", seconds: WEEK, steps: ["6h", "1h", "1d"] },
  "30d": { label: "the last 30 days", seconds: 30 * 86400, steps: ["1d", "6h"] },
  "365d": { label: "the last year", seconds: 365 * 86400, steps: ["7d", "1d"] },
};
const STEPS = { "1m": 60, "5m": 300, "15m": 900, "1h": HOUR, "6h": 6 * HOUR, "1d": 86400, "7d": WEEK };
const COUNTERS = [["requests", "Requests"], ["events", "Events"], ["bytes", "Bytes"], ["denials", "Denials"],
  ["streams", "Streams opened"]];
const BY = [["", "one key"], ["key", "all keys"], ["owner", "all owners"]];
const MOST_ROWS = 200;
// A limit that is so much higher is said, and would leave nothing of the line of what was used.
const FAR_HIGHER = 10;
const USE = `curl -H "Authorization: Bearer $KEY" ${location.origin}/v1/events`;

// Rows of the window, and those of the week before where they are kept in this step.
async function rowsOf({ key, window, step }, options) {
  const { seconds } = WINDOWS[window];
  const each = STEPS[step];
  const compared = each >= HOUR && each <= 86400 && seconds <= 30 * 86400;
  const asked = `${(seconds + (compared ? WEEK : 0)) / 60}m`;
  const path = `/v1/keys/${encodeURIComponent(key)}/usage`;
  const { rows } = await get(path, { window: asked, step }, options);
  const shown = Math.ceil(seconds / each);
  return { rows: rows.slice(-shown), before: compared ? rows.slice(-shown - WEEK / each, -(WEEK / each)) : null };
}

export function Usage({ query }) {
  const me = useMe();
  const window = query.get("window") in WINDOWS ? query.get("window") : "24h";
  const { steps } = WINDOWS[window];
  const step = steps.includes(query.get("step")) ? query.get("step") : steps[0];
  const counter = COUNTERS.some(([name]) => name === query.get("of")) ? query.get("of") : "requests";
  const by = BY.some(([name]) => name === query.get("by")) ? query.get("by") : "";
  const wanted = { by, key: query.get("key") || "", window, step, of: counter };
  const set = (changes) => replace(link("usage", { ...wanted, ...changes }));
  return html`<${Heading}>Usage<//>
    <${Conditions} wanted=${wanted} set=${set} />
    ${by ? html`<${OfAll} wanted=${wanted} />` : html`<${OfKey} id=${wanted.key || me.id} wanted=${wanted} />`}`;
}

function OfKey({ id, wanted }) {
  const me = useMe();
  const { window, step, of: counter } = wanted;
  const loaded = useLoad(
    (options) => rowsOf({ key: id, window, step }, options), [id, window, step], { seconds: EVERY_SECONDS },
  );
  const limit = id === me.id && step === "1d" ? me.limits?.[`${counter}-day`]?.limit || 0 : 0;
  return html`<${Loaded} from=${loaded}>${({ rows, before }) => html`
      <${Totals} rows=${rows} before=${before} />
      <${Shown} rows=${rows} before=${before} counter=${counter} window=${window} limit=${limit} />`}<//>
    ${id === me.id ? html`<${Limits} />` : null}`;
}

// All keys, or their owners, those with most first.
function OfAll({ wanted: { by, window, of: counter } }) {
  const asked = { by, window, order: counter, limit: MOST_ROWS };
  const loaded = useLoad((options) => get("/v1/usage", asked, options), [by, window, counter], { seconds: EVERY_SECONDS });
  const columns = [
    { label: by === "key" ? "Key" : "Owner", cell: (row) => (by === "key" ? row.name : row.owner) || "nobody" },
    ...(by === "key" ? [{ label: "Owner", cell: ({ owner }) => owner || "nobody" }] : []),
    ...COUNTERS.map(([name, label]) => ({ label, number: true, cell: ({ now }) => told(name, now[name]) })),
    { label: "Week before", number: true,
      cell: ({ week_before: before }) => (before ? told(counter, before[counter]) : "not kept") },
  ];
  const href = by === "key" ? ({ key }) => link("usage", { key, window, of: counter }) : undefined;
  return html`<${Loaded} from=${loaded}>${({ rows, others, total, total_week_before: before }) => (rows.length
    ? html`<${Totals} rows=${[total]} before=${before && [before]} />
      ${others ? html`<${Partial}>The ${count(rows.length)} with most are shown; ${count(others)} others were used, too.<//>` : null}
      <${Table} caption="Usage over keys" rows=${rows} keyOf=${(row) => row.key || row.owner} columns=${columns} href=${href} />`
    : html`<${Empty} command=${USE}>No key was used in ${WINDOWS[window].label}. This is a use:<//>`)}<//>`;
}

function Conditions({ wanted, set }) {
  const me = useMe();
  const names = useLoad(
    async (options) => (may(me, "keys.read") ? (await get("/v1/keys", {}, options)).keys.slice(-MOST_NAMES) : []), [],
  );
  return html`<form class="selection" role="search" aria-label="Which usage"
    onSubmit=${(event) => event.preventDefault()}>
    <${Choice} label="Whose" value=${wanted.by} onValue=${(by) => set({ by })} options=${BY} />
    ${wanted.by ? null : html`<${SettledField} label="Key" placeholder=${`yours, ${me.id}`} data-search="1" value=${wanted.key}
      onValue=${(key) => set({ key })} list="usage-keys" autocomplete="off" />`}
    <datalist id="usage-keys">${(names.value || []).map(({ id, name, owner }) =>
      html`<option value=${id}>${name}, ${owner}</option>`)}</datalist>
    <${Choice} label="Range" value=${wanted.window} onValue=${(window) => set({ window, step: "" })}
      options=${Object.entries(WINDOWS).map(([name, { label }]) => [name, label])} />
    ${wanted.by ? null : html`<${Choice} label="Step" value=${wanted.step} options=${WINDOWS[wanted.window].steps}
      onValue=${(step) => set({ step })} />`}
    <${Choice} label=${wanted.by ? "Most first" : "Chart"} value=${wanted.of} options=${COUNTERS} onValue=${(of) => set({ of })} />
  </form>`;
}

const told = (name, number) => (name === "bytes" ? bytes(number) : count(number));
const sum = (rows, name) => rows.reduce((all, row) => all + row[name], 0);

function Totals({ rows, before }) {
  return html`<dl class="totals">${COUNTERS.map(([name, label]) => html`<div><dt>${label}</dt>
    <dd>${told(name, sum(rows, name))}${before
      ? html`<span class="quiet"> week before ${told(name, sum(before, name))}</span>` : null}</dd></div>`)}</dl>`;
}

function Shown({ rows, before, counter, window, limit }) {
  const times = useMemo(() => rows.map(({ start }) => Date.parse(start) / 1000), [rows]);
  const [, label] = COUNTERS.find(([name]) => name === counter);
  const used = rows.filter((row) => COUNTERS.some(([name]) => row[name]));
  if (!used.length && !before?.some((row) => row[counter])) {
    return html`<${Empty} command=${USE}>The key was not used in ${WINDOWS[window].label}. This is a use:<//>`;
  }
  const lines = [{ label, values: rows.map((row) => row[counter]) }];
  if (before) lines.push({ label: "week before", values: before.map((row) => row[counter]), dashed: true });
  const near = limit && Math.max(...rows.map((row) => row[counter])) * FAR_HIGHER >= limit;
  if (near) lines.push({ label: "limit", values: rows.map(() => limit), dashed: true });
  return html`<${Chart} times=${times} lines=${lines} told=${(number) => told(counter, number)}
      label=${`${label} in ${WINDOWS[window].label}: ${told(counter, sum(rows, counter))} in all; the table has the numbers`} />
    ${before ? html`<p class="quiet">Dashed: the week before.</p>` : null}
    ${limit ? html`<p class="quiet">Your limit is ${told(counter, limit)} a day${near ? ": the level dashed line" : ", far above"}.</p>` : null}
    <p class="quiet" role="status">${count(used.length)} of ${count(rows.length)} steps with any use, newest first</p>
    <${Table} caption="Usage" columns=${COLUMNS} rows=${[...used].reverse()} keyOf=${({ start }) => start} />`;
}

const COLUMNS = [
  { label: "From", cell: ({ start }) => dated(start) },
  ...COUNTERS.map(([name, label]) => ({ label, number: true, cell: (row) => told(name, row[name]) })),
];

// Of one's own key alone: nobody else is told what is left of limits.
function Limits() {
  const loaded = useLoad((options) => get("/v1/me", {}, options), [], { seconds: EVERY_SECONDS });
  return html`<h2>Limits of your key</h2><${Loaded} from=${loaded}>${({ limits }) => {
    const all = Object.entries(limits);
    if (!all.length) return html`<p class="quiet">It has none.</p>`;
    return html`<${Table} caption="Limits of your key" rows=${all} keyOf=${([name]) => name} columns=${LIMITS} />`;
  }}<//>`;
}

const LIMITS = [
  { label: "Limit", cell: ([name]) => name.replaceAll("_", " ") },
  { label: "Left", number: true, cell: ([, { left }]) => count(left) },
  { label: "Of", number: true, cell: ([, { limit }]) => count(limit) },
  { label: "Whole again in", number: true, cell: ([, one]) => span(one.resets_in) },
];
