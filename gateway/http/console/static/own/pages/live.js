// Live: events as they are recorded, newest on top.
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { html } from "dom";
import { openStream } from "api/stream";
import { go, link, replace } from "state/address";
import { may, useMe } from "state/me";
import { Rows } from "state/rows";
import { AroundLink, COLUMNS, EventDetails } from "parts/events";
import { Grid } from "parts/grid";
import { Heading } from "parts/layout";
import { Selection, narrowed, selectionOf } from "parts/selection";
import { Empty, FilteredOut } from "parts/states";
import { count } from "parts/time";
import { Views } from "parts/views";

const RATE_MS = 2000;
const ANNOUNCED_MS = 10000;
const AWAY = { asked: "", name: "away", detail: "" };
const SEND = "curl -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' \\\n"
  + "  -d '{\"category\":\"auth\",\"action\":\"user.login\"}' " + location.origin + "/v1/events";

export function Live({ query }) {
  const me = useMe();
  const selection = selectionOf(query);
  const asked = JSON.stringify(selection);
  const rows = useMemo(() => new Rows(), [asked]);
  const [, draw] = useState(0);
  const [heard, setHeard] = useState(AWAY);
  // What was heard of another stream is over.
  const state = heard.asked === asked ? heard : AWAY;
  const [held, setHeld] = useState(null);
  const [open, setOpen] = useState(null);
  const rate = useRate(rows);
  useEffect(() => {
    let frame = 0;
    // At most once a frame, however much comes.
    const redraw = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        draw((before) => before + 1);
      });
    };
    const close = openStream(selection, {
      lines: (text) => {
        rows.add(text.split("\n"));
        redraw();
      },
      control: (_, text) => {
        rows.add([text]);
        redraw();
      },
      state: (name, detail) => setHeard({ asked, name, detail }),
    });
    setHeld(null);
    setOpen(null);
    return () => {
      close();
      cancelAnimationFrame(frame);
    };
  }, [asked]);
  const pause = useCallback(() => {
    setHeld((before) => (before === null ? { end: rows.end, paused: true } : null));
  }, [rows]);
  useSpace(pause);
  const end = held === null ? rows.end : held.end;
  const shown = Math.max(0, end - rows.first);
  const scrolled = (isAtTop) => {
    if (held?.paused) return;
    if (isAtTop) setHeld(null);
    else if (held === null) setHeld({ end: rows.end, paused: false });
  };
  const change = (to) => replace(link("live", to));
  const narrow = (condition) => go(link("live", narrowed(selection, condition)));
  const row = (index) => rowOf(rows, end - 1 - index);
  return html`<${Heading} actions=${html`
      <${Status} state=${state} rate=${rate} paused=${held?.paused} />
      <button aria-pressed=${Boolean(held?.paused)} aria-keyshortcuts="Space" onClick=${pause}>
        ${held?.paused ? "Go on" : "Pause"}</button>
      <${Views} view=${{ query: selection }} />
      ${may(me, "pull")
        ? html`<a class="button" href=${link("investigate", selection)}>Investigate</a>` : null}`}>Live<//>
    <${Selection} selection=${selection} onChange=${change} />
    ${state.name === "ended" ? html`<p class="state failed" role="alert">
      The stream has ended: ${state.detail.reason}</p>` : null}
    ${held && rows.end > held.end ? html`<p class="state partial" role="status">
      ${count(rows.end - held.end)} newer <button onClick=${() => setHeld(null)}>Show them</button></p>`
      : null}
    <div class=${open === null ? "split" : "split open"}>
      ${shown
        ? html`<${Grid} label="Events" columns=${COLUMNS} count=${shown} row=${row}
            selected=${open} onOpen=${(index) => setOpen(end - 1 - index)} onScroll=${scrolled} />`
        : html`<${Nothing} state=${state} selection=${selection} onChange=${change} />`}
      ${open === null ? null : html`<${Opened} event=${rows.get(open)} onNarrow=${narrow}
        onClose=${() => setOpen(null)} />`}
    </div>
    ${rows.first ? html`<p class="quiet">${count(rows.first)} older ones were dropped here.</p>` : null}
    <${Announcer} rows=${rows} />`;
}

function rowOf(rows, number) {
  const event = rows.get(number);
  if (event === null) return { key: number, cells: ["", "", "", "", "", ""], kind: "dropped" };
  if (event.type === "gap") return { key: number, cells: ["gap", event.detail || "Events are missing here"], kind: "gap" };
  if (event.type === "notice") return { key: number, cells: ["notice", event.detail], kind: "notice" };
  return { key: number, cells: COLUMNS.map(({ text }) => text(event)), kind: event.outcome };
}

function Opened({ event, onNarrow, onClose }) {
  const me = useMe();
  if (event === null) {
    return html`<section class="details"><p>This row was dropped.</p>
      <button onClick=${onClose}>Close</button></section>`;
  }
  const actions = event.id && may(me, "pull") ? html`<${AroundLink} event=${event} />` : null;
  return html`<${EventDetails} event=${event} onNarrow=${event.id ? onNarrow : null}
    onClose=${onClose} actions=${actions} />`;
}

function Status({ state, rate, paused }) {
  const shown = { live: "live", away: "connecting", ended: "ended" }[state.name];
  return html`<span class=${`status ${state.name}`} role="status">
    ${paused ? "paused" : shown} ${state.name === "live" ? `${count(rate)}/s` : ""}</span>`;
}

function Nothing({ state, selection, onChange }) {
  const conditions = Object.keys(selection).map((name) => ({
    label: name,
    drop: () => onChange({ ...selection, [name]: "" }),
  }));
  if (state.name !== "live") return html`<p class="state" role="status">Connecting …</p>`;
  if (conditions.length) return html`<${FilteredOut} what="events yet" conditions=${conditions} />`;
  return html`<${Empty} command=${SEND}>Waiting for the first event. This sends one:<//>`;
}

// Events a second, over the last two.
function useRate(rows) {
  const [rate, setRate] = useState(0);
  const before = useRef({ at: performance.now(), end: 0 });
  useEffect(() => {
    before.current = { at: performance.now(), end: rows.end };
    const timer = setInterval(() => {
      const now = performance.now();
      const { at, end } = before.current;
      setRate(Math.round(((rows.end - end) * 1000) / (now - at)));
      before.current = { at: now, end: rows.end };
    }, RATE_MS);
    return () => clearInterval(timer);
  }, [rows]);
  return rate;
}

// Tells screen readers of new events, at most every ten seconds.
function Announcer({ rows }) {
  const [text, setText] = useState("");
  useEffect(() => {
    let end = rows.end;
    const timer = setInterval(() => {
      if (rows.end > end) setText(`${count(rows.end - end)} new events`);
      end = rows.end;
    }, ANNOUNCED_MS);
    return () => clearInterval(timer);
  }, [rows]);
  return html`<p class="hidden" role="status" aria-live="polite">${text}</p>`;
}

function useSpace(act) {
  useEffect(() => {
    const pressed = (event) => {
      if (event.key !== " " || event.target.closest("input, select, textarea, button, a, dialog")) return;
      event.preventDefault();
      act();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [act]);
}
