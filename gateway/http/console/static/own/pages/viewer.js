// The page of an embedded viewer: events newest first, as its ticket says.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { html } from "dom";
import { saveEvents } from "api/export";
import { get } from "api/http";
import { openStream } from "api/stream";
import { useLoad } from "state/load";
import { Rows } from "state/rows";
import { say } from "state/said";
import { EventDetails } from "parts/events";
import { Choice, TextField } from "parts/fields";
import { Grid } from "parts/grid";
import { Said } from "parts/layout";
import { LAST } from "parts/range";
import { Empty, Failed, FilteredOut, Loading, Partial } from "parts/states";
import { bytes, count, dated, onZone, toggleZone, zoneName } from "parts/time";

const PAGE = 100;
const TYPED_MS = 400;
const MOST_SHOWN = 20000;
const NOTHING = { events: [], cursor: "", more: true, loading: true, problem: null };
const SECONDS = { m: 60, h: 3600, d: 86400 };
const TIMES = new Set(["time", "recorded_at"]);
const LABELS = {
  time: "Time", recorded_at: "Recorded", tenant: "Tenant", category: "Category", action: "Action",
  outcome: "Outcome", severity: "Severity", "actor.id": "Actor", "actor.name": "Actor",
  "source.ip": "Address", "targets.urn": "Target", reason: "Reason",
};

// `options`: what the ticket says: `columns`, `may`, `since`.
export function Viewer({ options }) {
  const may = (what) => options.may.includes(what);
  const ranges = rangesOf(options.since);
  const [since, setSince] = useState(ranges[ranges.length > 3 ? 3 : ranges.length - 1][0]);
  const [text, setText] = useState("");
  const [live, setLive] = useState(may("live"));
  const [, redraw] = useState(0);
  useEffect(() => onZone(() => redraw((before) => before + 1)), []);
  const asked = { since, text };
  const key = JSON.stringify(asked);
  const page = usePage(asked, key);
  const stream = useStream(asked, key, live && !page.loading ? page : null);
  const counted = useLoad((more) => get("/v1/counts", { ...asked, by: "outcome" }, more), [key]);
  const all = useMemo(() => listOf(stream.rows, page.events), [stream.rows, stream.rows.end, page.events]);
  return html`<main id="main">
    <h1 class="hidden">Audit log</h1>
    <div class="asks" role="search">
      ${may("text") ? html`<${Search} text=${text} onText=${setText} />` : null}
      <${Choice} label="Range" value=${since} options=${ranges} onValue=${setSince} />
      <div class="actions">
        ${may("live") ? html`<button aria-pressed=${live} onClick=${() => setLive(!live)}>Live</button>` : null}
        ${may("export") ? html`<${Save} asked=${asked} columns=${options.columns} />` : null}
        <button onClick=${toggleZone} title="Times are shown in this zone">${zoneName()}</button>
      </div>
    </div>
    <p class="quiet" role="status"><${Told} counted=${counted} live=${live} stream=${stream} /></p>
    <${List} all=${all} page=${page} columns=${options.columns} asked=${asked} onText=${setText} />
    <${Said} /></main>`;
}

// Ranges up to so many seconds; 0: all of them.
function rangesOf(most) {
  const within = LAST.filter(([name]) => !most || Number(name.slice(0, -1)) * SECONDS[name.slice(-1)] <= most);
  return within.length ? within : [[`${most}s`, `last ${most} seconds`]];
}

function Search({ text, onText }) {
  const [typed, setTyped] = useState(text);
  useEffect(() => setTyped(text), [text]);
  useEffect(() => {
    const timer = setTimeout(() => onText(typed.trim()), TYPED_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  useEffect(() => {
    const pressed = (event) => {
      if (event.key !== "/" || event.target.closest("input, select, textarea")) return;
      event.preventDefault();
      document.querySelector("[data-search]").focus();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
  return html`<${TextField} label="Text" data-search="1" value=${typed} onValue=${setTyped}
    placeholder='words, "a phrase", -not' aria-keyshortcuts="/" />`;
}

// A page of events after the other, newest first.
function usePage(asked, key) {
  const [page, setPage] = useState(NOTHING);
  const load = async (before, signal) => {
    const began = new Date().toISOString();
    setPage({ ...before, loading: true, problem: null });
    try {
      const query = { ...asked, order: "desc", limit: PAGE, before: before.cursor };
      const found = await get("/v1/events", query, { signal });
      setPage({
        events: [...before.events, ...found.events], cursor: found.cursor, more: found.has_more,
        began: before.began || began, key, loading: false, problem: null,
      });
    } catch (problem) {
      if (problem.name !== "AbortError") setPage({ ...before, loading: false, problem });
    }
  };
  useEffect(() => {
    const ending = new AbortController();
    load(NOTHING, ending.signal);
    return () => ending.abort();
  }, [key]);
  return { ...page, further: () => load(page) };
}

// What is recorded behind the newest event of a page; null for no stream.
function useStream(asked, key, page) {
  const rows = useMemo(() => new Rows(), [key]);
  const [, draw] = useState(0);
  const [state, setState] = useState({ name: "away", detail: "" });
  // A page of another query is still there for a moment.
  const ready = page !== null && page.key === key;
  const last = useRef({ key, cursor: "" });
  useEffect(() => {
    if (!ready) return undefined;
    if (last.current.key !== key) last.current = { key, cursor: "" };
    const newest = last.current.cursor || page.events[0]?.cursor;
    let frame = 0;
    const redraw = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        draw((before) => before + 1);
      });
    };
    const close = openStream({ text: asked.text }, {
      lines: (text) => {
        const lines = text.split("\n");
        rows.add(lines);
        last.current.cursor = JSON.parse(lines[lines.length - 1]).cursor;
        redraw();
      },
      control: (_, text) => {
        rows.add([text]);
        redraw();
      },
      state: (name, detail) => setState({ name, detail }),
    }, newest ? { after: newest, on_gap: "skip" } : { since: page.began });
    return () => {
      close();
      cancelAnimationFrame(frame);
    };
  }, [key, ready]);
  return { rows, state };
}

// One list of what has come live, and of the pages.
function listOf(rows, events) {
  const fresh = Math.min(rows.end - rows.first, MOST_SHOWN);
  return {
    count: fresh + events.length,
    at: (index) => (index < fresh ? rows.get(rows.end - 1 - index) : events[index - fresh]),
    numberOf: (index) => (index < fresh ? rows.end - 1 - index : -1 - (index - fresh)),
    indexOf: (number) => (number >= 0 ? rows.end - 1 - number : fresh - 1 - number),
  };
}

function List({ all, page, columns, asked, onText }) {
  const [open, setOpen] = useState(null);
  useEffect(() => setOpen(null), [asked.since, asked.text]);
  useEscape(() => setOpen(null));
  if (!all.count) {
    if (page.problem) return html`<${Failed} problem=${page.problem} again=${page.further} />`;
    if (page.loading) return html`<${Loading} />`;
    if (page.more) return html`<${Partial} action="Look further" onAction=${page.further}>Nothing found so far.<//>`;
    return asked.text
      ? html`<${FilteredOut} what="events" conditions=${[{ label: "the text", drop: () => onText("") }]} />`
      : html`<${Empty}>Nothing has happened in this range. Choose a longer one.<//>`;
  }
  const shown = columns.map((path, at) => ({ name: `column-${at}`, label: LABELS[path] || path, path }));
  const row = (index) => {
    const event = all.at(index);
    const key = all.numberOf(index);
    if (!event) return { key, cells: columns.map(() => ""), kind: "dropped" };
    if (!event.cursor || event.type) return { key, cells: [event.type || "", event.detail || ""], kind: event.type };
    return { key, cells: columns.map((path) => cellOf(event, path)), kind: event.outcome };
  };
  const event = open === null ? null : all.at(all.indexOf(open));
  return html`<div class=${event ? "split open" : "split"}>
      <${Grid} label="Events" columns=${shown} count=${all.count} row=${row} selected=${open}
        onOpen=${(index) => setOpen(all.numberOf(index))} />
      ${event ? html`<${EventDetails} event=${event} onNarrow=${null} onClose=${() => setOpen(null)} />` : null}
    </div>
    ${page.problem ? html`<${Failed} problem=${page.problem} again=${page.further} />` : null}
    ${page.more ? html`<p class="actions"><button onClick=${page.further} disabled=${page.loading}>
      ${page.loading ? "Loading …" : "Older ones"}</button></p>` : null}`;
}

// What stands at a path of an event; lists are gone through, as in files.
function valueAt(value, names) {
  if (value === undefined || value === null) return "";
  if (Array.isArray(value)) return value.map((one) => valueAt(one, names)).filter((one) => one !== "").join("; ");
  if (names.length) return typeof value === "object" ? valueAt(value[names[0]], names.slice(1)) : "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function cellOf(event, path) {
  const value = valueAt(event, path.split("."));
  return TIMES.has(path) ? dated(value) || value : value;
}

function Told({ counted, live, stream }) {
  const { value, problem } = counted;
  const newer = stream.rows.end - stream.rows.first;
  const state = live && stream.state.name === "ended"
    ? html` · <span class="status ended">live has ended: ${stream.state.detail.reason}</span>`
    : live ? html` · <span class=${`status ${stream.state.name}`}>${stream.state.name === "live" ? "live" : "connecting"}</span>` : null;
  if (problem) return html`not counted: ${problem.message}${state}`;
  if (!value) return html`counting …${state}`;
  return html`${count(value.total)} ${value.total === 1 ? "event" : "events"}${
    value.complete ? "" : `, counted back to ${dated(value.since)}`}${newer ? `, ${count(newer)} newer` : ""}${state}`;
}

function Save({ asked, columns }) {
  const [saving, setSaving] = useState(false);
  const save = async () => {
    setSaving(true);
    try {
      const { name, size } = await saveEvents("csv", { ...asked, columns: columns.join(",") });
      say(`Saved ${name}, ${bytes(size)}.`);
    } catch (problem) {
      say(problem.message);
    }
    setSaving(false);
  };
  return html`<button disabled=${saving} onClick=${save}>Save CSV</button>`;
}

function useEscape(act) {
  useEffect(() => {
    const pressed = (event) => event.key === "Escape" && act();
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}
