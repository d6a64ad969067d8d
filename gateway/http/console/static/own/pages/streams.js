// Streams: who reads now, from where, and how far behind; and the end of one.
import { useRef, useState } from "preact/hooks";
import { html } from "dom";
import { get, post } from "api/http";
import { link, replace } from "state/address";
import { useLoad } from "state/load";
import { may, useMe } from "state/me";
import { say } from "state/said";
import { Ago } from "parts/ago";
import { Confirm } from "parts/dialog";
import { Choice, SettledField } from "parts/fields";
import { Heading } from "parts/layout";
import { Empty, FilteredOut, Loaded, Partial } from "parts/states";
import { Table } from "parts/table";
import { bytes, count, dated, span } from "parts/time";

const LIMIT = 200;
const EVERY_SECONDS = 5;
const KEPT = 8;
const BARS = "▁▂▃▄▅▆▇█";
const OWN = "destination";
const TRANSPORTS = [["", "any transport"], "sse", "ndjson", "csv", "websocket",
  "audit.v1", "audit.v1.batch", OWN];
const STATES = [["", "any state"], "live", "replaying", "stalled"];
const ORDERS = [["", "most behind first"], ["opened", "longest open first"], ["bytes", "most sent first"]];
const CONDITIONS = { key: "the key", tenant: "the tenant", transport: "the transport", state: "the state" };
const STATUS = { live: "ok", replaying: "warn", stalled: "bad" };
// Parameters that choose no events.
const POSITIONS = new Set(["from", "since", "after", "on_gap", "format", "fields", "heartbeat"]);
const OPEN = `curl -N -H "Authorization: Bearer $KEY" -H 'Accept: text/event-stream' ${location.origin}/v1/stream`;

export function Streams({ query }) {
  const me = useMe();
  const wanted = Object.fromEntries(
    [...Object.keys(CONDITIONS), "order"].map((name) => [name, query.get(name) || ""]),
  );
  const lags = useRef(new Map());
  const loaded = useLoad(async (options) => {
    const found = await get("/v1/streams", { ...wanted, limit: LIMIT }, options);
    remember(lags, found.streams);
    return found;
  }, [JSON.stringify(wanted)], { seconds: EVERY_SECONDS });
  const [ending, setEnding] = useState(null);
  const set = (changes) => replace(link("streams", { ...wanted, ...changes }));
  const ended = (stream) => {
    say(`The stream of ${stream.name} has ended; its client comes back after a pause.`);
    loaded.again();
  };
  return html`<${Heading}>Streams<//>
    ${may(me, "ops.read") ? null : html`<p class="quiet">Those of your own key.</p>`}
    <${Conditions} wanted=${wanted} set=${set} everyone=${may(me, "ops.read")} />
    <${Loaded} from=${loaded}>${(found) => html`<${List} found=${found} wanted=${wanted} set=${set}
      lags=${lags.current} onEnd=${may(me, "ops.act") ? setEnding : null} />`}<//>
    ${ending ? html`<${Ending} stream=${ending} onEnded=${ended} onClose=${() => setEnding(null)} />` : null}`;
}

function Conditions({ wanted, set, everyone }) {
  return html`<form class="selection" role="search" aria-label="Which streams"
    onSubmit=${(event) => event.preventDefault()}>
    ${everyone ? html`<${SettledField} label="Key" placeholder="id of a key" data-search="1" value=${wanted.key}
      onValue=${(key) => set({ key })} />` : null}
    <${SettledField} label="Tenant" placeholder="all" value=${wanted.tenant}
      onValue=${(tenant) => set({ tenant })} />
    <${Choice} label="Transport" value=${wanted.transport} options=${TRANSPORTS}
      onValue=${(transport) => set({ transport })} />
    <${Choice} label="State" value=${wanted.state} options=${STATES} onValue=${(state) => set({ state })} />
    <${Choice} label="Order" value=${wanted.order} options=${ORDERS} onValue=${(order) => set({ order })} />
  </form>`;
}

function List({ found, wanted, set, lags, onEnd }) {
  const { streams, total, partial, missing } = found;
  const conditions = Object.entries(CONDITIONS).filter(([name]) => wanted[name])
    .map(([name, label]) => ({ label, drop: () => set({ [name]: "" }) }));
  return html`${partial
      ? html`<${Partial}>Without those of ${missing.join(", ")}: no answer within a second.<//>` : null}
    <p class="quiet" role="status">${count(streams.length)} of ${count(total)} streams</p>
    ${streams.length
      ? html`<${Table} caption="Live streams" rows=${streams} keyOf=${(one) => one.id}
          columns=${columns(lags, onEnd)} />`
      : conditions.length
        ? html`<${FilteredOut} what="streams" conditions=${conditions} />`
        : html`<${Empty} command=${OPEN}>Nobody reads a stream now. This opens one:<//>`}`;
}

function columns(lags, onEnd) {
  const shown = [
    { label: "Who", cell: (one) => html`<div>${one.name}</div>
      <div class="quiet">${one.owner} <code>${one.key}</code></div>` },
    { label: "State", whole: true, cell: (one) => html`<span class=${`status ${STATUS[one.state]}`}>${one.state}</span>
      <div class="quiet">${one.transport}</div>` },
    { label: "Where", cell: (one) => html`<div>${one.address ?? ""}</div>
      <div class="quiet">${one.client ?? ""}</div><div class="quiet">${placeOf(one)}</div>` },
    { label: "Since", whole: true, cell: (one) => html`<${Ago} at=${one.opened_at} />` },
    { label: "Lag", cell: (one) => html`<${Lag} stream=${one} before=${lags.get(one.id) || []} />` },
    { label: "Sent", whole: true, number: true, cell: (one) => html`<div>${count(one.sent_events)}</div>
      <div class="quiet">${bytes(one.sent_bytes)}</div>` },
    { label: "Unsent", whole: true, number: true, cell: (one) => bytes(one.unsent_bytes) },
    { label: "Asked for", cell: (one) => html`<${Asked} stream=${one} />` },
  ];
  if (onEnd) shown.push({ label: "End", whole: true, cell: (one) => html`<${End} stream=${one} onEnd=${onEnd} />` });
  return shown;
}

const placeOf = ({ replica, worker }) => `${replica}, worker ${worker}`;

function End({ stream, onEnd }) {
  if (stream.transport === OWN) return html`<a href=${link("destinations")}>Destinations</a>`;
  return html`<button class="small danger" aria-label=${`End the stream of ${stream.name}`}
    onClick=${() => onEnd(stream)}>End …</button>`;
}

function Lag({ stream, before }) {
  return html`<div>${stream.lag_events
      ? html`${count(stream.lag_events)} events, ${span(stream.lag_seconds)}` : "none"}
      ${before.length > 1 ? html` <span class="spark" aria-hidden="true">${spark(before)}</span>` : null}</div>
    <code class="quiet">${stream.cursor}</code>`;
}

// What it asked for; null where the session's grants hide it.
function Asked({ stream }) {
  if (stream.parameters === null) return html`<span class="quiet">hidden</span>`;
  const shown = Object.entries(stream.parameters);
  const all = shown.every(([name]) => POSITIONS.has(name));
  return html`${all ? html`<div>everything it may see</div>` : null}${shown.map(([name, value]) =>
    html`<div><span class="quiet">${name}</span> <code>${String(value)}</code></div>`)}`;
}

// The lags of the last looks, of which each is a bar.
function spark(before) {
  const most = Math.max(1, ...before);
  return before.map((one) => BARS[Math.round((one / most) * (BARS.length - 1))]).join("");
}

function remember(lags, streams) {
  const kept = new Map();
  for (const { id, lag_events: lag } of streams) {
    kept.set(id, [...(lags.current.get(id) || []), lag].slice(-KEPT));
  }
  lags.current = kept;
}

function Ending({ stream, onEnded, onClose }) {
  const me = useMe();
  const act = async (reason) => onEnded(await post(`/v1/streams/${encodeURIComponent(stream.id)}/end`, { reason }));
  const says = html`<dl class="facts">
      <dt>Key</dt><dd>${stream.name} <code>${stream.key}</code></dd>
      <dt>Client</dt><dd>${[stream.client, stream.address].filter(Boolean).join(" at ") || "not shown to you"}</dd>
      <dt>Open</dt><dd>since ${dated(stream.opened_at)}, by ${stream.transport}, at ${placeOf(stream)}</dd>
    </dl>
    <p>It ends with 4005 and its cursor. Clients that follow the interface come back from there after a pause
      and miss nothing. To keep this one out,
      ${may(me, "keys.admin") ? html`<a href=${link("keys", {}, stream.key)}>suspend its key</a>` : "have its key suspended"}.</p>`;
  return html`<${Confirm} title="End this stream?" says=${says} action="End the stream" asksReason
    act=${act} onClose=${onClose} />`;
}
