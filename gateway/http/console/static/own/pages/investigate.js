// Investigate: how many events there were, when and of what, and the events, newest first.
import { useEffect, useState } from "preact/hooks";
import { html } from "dom";
import { saveEvents } from "api/export";
import { get } from "api/http";
import { go, link, replace } from "state/address";
import { counts, joined, stepSeconds } from "state/counts";
import { useLoad } from "state/load";
import { may, useMe } from "state/me";
import { say } from "state/said";
import { Copy } from "parts/copy";
import { AroundLink, COLUMNS, EventDetails } from "parts/events";
import { Facets } from "parts/facets";
import { Grid } from "parts/grid";
import { Histogram } from "parts/histogram";
import { Heading } from "parts/layout";
import { DEFAULT_SINCE, Range, isDuration, moment } from "parts/range";
import { Selection, narrowed, selectionOf } from "parts/selection";
import { Empty, Failed, FilteredOut, Loaded, Loading, Partial } from "parts/states";
import { bytes, count, dated } from "parts/time";
import { Views } from "parts/views";

const PAGE = 200;
const AROUND = 50;
const BY = ["category", "outcome", "actor"];
const EMPTY_ROWS = { events: [], cursor: "", more: true, loading: false, problem: null };

export function Investigate({ query }) {
  if (query.get("event")) return html`<${Around} id=${query.get("event")} tenant=${query.get("of")} />`;
  return html`<${Search} query=${query} />`;
}

function Search({ query }) {
  const me = useMe();
  const selection = selectionOf(query);
  const since = query.get("since") || DEFAULT_SINCE;
  const until = query.get("until") || "";
  const asked = { ...selection, since, until };
  const key = JSON.stringify(asked);
  const counted = useLoad((options) => counts(asked, BY, options), [key]);
  const rows = useRows(asked, key);
  const [open, setOpen] = useState(null);
  useEffect(() => setOpen(null), [key]);
  const to = (change) => link("investigate", { ...asked, ...change });
  const change = (now) => replace(link("investigate", { ...now, since, until }));
  const narrow = (condition) => condition
    && go(link("investigate", { ...narrowed(selection, condition), since, until }));
  const range = (from, end) => go(to({ since: moment(from), until: moment(end) }));
  const fixed = () => location.origin + location.pathname + to(fixedRange(since, until));
  return html`<${Heading} actions=${html`
      ${may(me, "stream") ? html`<${Save} asked=${asked} />` : null}
      <${Views} view=${{ query: selection, since, until }}
        fixed=${isDuration(since) && !until ? fixedRange(since, until) : null} />
      <${Copy} text=${fixed()} label="Copy link" />
      ${may(me, "stream") ? html`<a class="button" href=${link("live", selection)}>Live</a>` : null}
    `}>Investigate<//>
    <${Range} since=${since} until=${until} onChange=${(one) => go(to(one))} />
    <${Selection} selection=${selection} onChange=${change} />
    <${Loaded} from=${counted}>${(found) => html`<${Counted} found=${found} asked=${asked}
      onRange=${range} onNarrow=${narrow} />`}<//>
    <${Rows} rows=${rows} open=${open} setOpen=${setOpen} selection=${selection}
      onNarrow=${narrow} onChange=${change} since=${since} />`;
}

function fixedRange(since, until) {
  const end = until || moment(Date.now() / 1000);
  if (!isDuration(since)) return { since, until: end };
  return { since: moment(Date.now() / 1000 - stepSeconds(since)), until: end };
}

function Counted({ found, asked, onRange, onNarrow }) {
  const [all, setAll] = useState(found);
  const [problem, setProblem] = useState(null);
  useEffect(() => setAll(found), [found]);
  const further = async () => {
    try {
      const before = { ...asked, before: all.next, step: all.step };
      setAll(joined(all, await counts(before, Object.keys(all.facets || {}))));
    } catch (error) {
      setProblem(error);
    }
  };
  return html`<p class="quiet" role="status"><strong>${count(all.total)}</strong> ${all.total === 1 ? "event" : "events"}, exact${
      all.complete ? "" : `, counted back to ${dated(all.since)}`}</p>
    ${all.complete ? null : html`<${Partial} action="Count further" onAction=${further}>
      Older ones are not counted yet.<//>`}
    ${problem ? html`<${Failed} problem=${problem} again=${further} />` : null}
    <${Histogram} buckets=${all.buckets} seconds=${stepSeconds(all.step)} onRange=${onRange} />
    <${Facets} facets=${all.facets} onNarrow=${onNarrow} />`;
}

// Events of a range, newest first, a page at a time.
function useRows(asked, key) {
  const [rows, setRows] = useState(EMPTY_ROWS);
  const load = async (before, signal) => {
    setRows({ ...before, loading: true, problem: null });
    try {
      const query = { ...asked, order: "desc", limit: PAGE, before: before.cursor };
      const page = await get("/v1/events", query, { signal });
      setRows({
        events: [...before.events, ...page.events], cursor: page.cursor, more: page.has_more,
        loading: false, problem: null,
      });
    } catch (problem) {
      if (problem.name !== "AbortError") setRows({ ...before, loading: false, problem });
    }
  };
  useEffect(() => {
    const ending = new AbortController();
    load(EMPTY_ROWS, ending.signal);
    return () => ending.abort();
  }, [key]);
  return { ...rows, further: () => load(rows) };
}

function Rows({ rows, open, setOpen, selection, onNarrow, onChange, since }) {
  if (rows.problem && !rows.events.length) {
    return html`<${Failed} problem=${rows.problem} again=${rows.further} />`;
  }
  if (!rows.events.length) {
    if (rows.loading) return html`<${Loading} />`;
    if (rows.more) return html`<${Partial} action="Look further" onAction=${rows.further}>
      Nothing found so far.<//>`;
    return html`<${Nothing} selection=${selection} onChange=${onChange} since=${since} />`;
  }
  const row = (index) => {
    const event = rows.events[index];
    return { key: event.cursor, cells: COLUMNS.map(({ text }) => text(event)), kind: event.outcome };
  };
  return html`<div class=${open === null ? "split" : "split open"}>
      <${Grid} label="Events" columns=${COLUMNS} count=${rows.events.length} row=${row}
        selected=${open === null ? null : rows.events[open].cursor} onOpen=${setOpen} />
      ${open === null ? null : html`<${EventDetails} event=${rows.events[open]} onNarrow=${onNarrow}
        onClose=${() => setOpen(null)} actions=${html`<${AroundLink} event=${rows.events[open]} />`} />`}
    </div>
    ${rows.problem ? html`<${Failed} problem=${rows.problem} again=${rows.further} />` : null}
    ${rows.more ? html`<p class="actions"><button onClick=${rows.further} disabled=${rows.loading}>
      ${rows.loading ? "Loading …" : "Older ones"}</button></p>` : null}`;
}

function Nothing({ selection, onChange, since }) {
  const conditions = Object.keys(selection).map((name) => ({
    label: name,
    drop: () => onChange({ ...selection, [name]: "" }),
  }));
  if (conditions.length) return html`<${FilteredOut} what="events" conditions=${conditions} />`;
  return html`<${Empty}>There is no event that you may see in this range (${since}). Choose a longer one.<//>`;
}

function Save({ asked }) {
  const [saving, setSaving] = useState(false);
  const save = (kind) => async () => {
    setSaving(true);
    try {
      const { name, size } = await saveEvents(kind, asked);
      say(`Saved ${name}, ${bytes(size)}.`);
    } catch (problem) {
      say(problem.message);
    }
    setSaving(false);
  };
  return html`<button disabled=${saving} onClick=${save("csv")}>Save CSV</button>
    <button disabled=${saving} onClick=${save("ndjson")}>Save NDJSON</button>`;
}

function Around({ id, tenant }) {
  const path = `/v1/events/${encodeURIComponent(id)}`;
  const found = useLoad(
    (options) => get(path, { around: AROUND, tenant: tenant || undefined }, options), [id, tenant]);
  const [open, setOpen] = useState(null);
  const narrow = (condition) => condition && go(link("investigate", narrowed({}, condition)));
  return html`<${Heading} actions=${html`<a class="button" href=${link("investigate")}>All events</a>`}>
      Around an event<//>
    <${Loaded} from=${found}>${({ event, before, after }) => {
      const events = newestFirst([event, ...before, ...after]);
      const row = (index) => ({
        key: events[index].cursor, cells: COLUMNS.map(({ text }) => text(events[index])),
        kind: events[index].cursor === event.cursor ? "chosen" : events[index].outcome,
      });
      const shown = open === null ? event : events[open];
      return html`<div class="split open">
        <${Grid} label="Events" columns=${COLUMNS} count=${events.length} row=${row}
          selected=${shown.cursor} onOpen=${setOpen} />
        <${EventDetails} event=${shown} onNarrow=${narrow} onClose=${() => go(link("investigate"))} />
      </div>`;
    }}<//>`;
}

// Cursors of one log are in the order of the log.
function newestFirst(events) {
  return events.sort((a, b) => (a.cursor < b.cursor ? 1 : -1));
}
