// Health: whether events are delivered, since when, and what to do if they are not.
import { html } from "dom";
import { get } from "api/http";
import { link } from "state/address";
import { useLoad } from "state/load";
import { may, useMe } from "state/me";
import { Ago } from "parts/ago";
import { Heading } from "parts/layout";
import { Loaded, Partial } from "parts/states";
import { Table } from "parts/table";
import { bytes, count, dated, span } from "parts/time";

const EVERY_SECONDS = 5;
const DAY_SECONDS = 86400;
const SOON_DAYS = 14;
const SAID = {
  ok: ["ok", "Delivery is healthy"],
  slow: ["warn", "Delivery is slow"],
  stalled: ["bad", "Delivery is stalled"],
  down: ["bad", "Delivery is down"],
};

export function Health() {
  const loaded = useLoad((options) => get("/v1/status", {}, options), [], { seconds: EVERY_SECONDS });
  return html`<${Heading}>Health<//>
    <${Loaded} from=${loaded}>${(status) => html`<${Shown} status=${status} />`}<//>
    <${Doctor} />`;
}

// How the gateway is set up: looked at once, as it changes seldom.
function Doctor() {
  const loaded = useLoad((options) => get("/v1/doctor", {}, options), []);
  return html`<h2>Checks</h2>
    <${Loaded} from=${loaded}>${({ checks }) => html`<${Checks} checks=${checks} />`}<//>`;
}

function Checks({ checks }) {
  const told = checks.filter(({ result }) => result !== "ok");
  const fine = html`<p>${count(checks.length - told.length)} of ${count(checks.length)} checks are ok.</p>`;
  if (!told.length) return fine;
  return html`<${Table} caption="Checks that are not ok" columns=${CHECKS} rows=${told}
    keyOf=${({ code, detail }) => code + detail} />${fine}`;
}

const CHECKS = [
  { label: "Check", whole: true, cell: ({ code, result }) => html`<span
    class=${`status ${result === "fail" ? "bad" : "warn"}`}>${code}</span>` },
  { label: "Found", cell: ({ detail }) => detail },
  { label: "What to do", cell: ({ advice }) => advice },
];

function Shown({ status }) {
  const me = useMe();
  const silent = status.gateways.filter(({ answers }) => !answers);
  return html`<${Verdict} status=${status} />
    ${silent.length ? html`<${Partial}>No answer from ${silent.map(({ name }) => name).join(", ")}:
      what they know is missing here.<//>` : null}
    <${Reasons} reasons=${status.reasons} />
    <h2>Gateways</h2>
    <${Table} caption="Gateways" columns=${COLUMNS} rows=${status.gateways} keyOf=${({ name }) => name} />
    <h2>Streams</h2><${Streams} streams=${status.streams} linked=${may(me, "ops.read", "stream")} />
    <h2>Store and retention</h2><${Store} log=${status.log} />
    <h2>Redis and TLS</h2><${Connections} gateways=${status.gateways} />
    <h2>Further</h2>
    <p>${destinationsOf(status.destinations)} · ${findingsOf(status.findings, may(me, "usage.read"))}</p>`;
}

// "Delivery is healthy · p99 18 ms · since 4 d"
function Verdict({ status: { delivery, since, streams } }) {
  const [mark, words] = SAID[delivery];
  return html`<p class="verdict" role="status"><span class=${`status ${mark}`}>${words}</span>
    ${streams.p99_seconds === null ? " · nothing delivered in the last minute" : ` · p99 ${took(streams.p99_seconds)}`}
    ${" · since "}<time datetime=${since} title=${dated(since)}>${span((Date.now() - new Date(since)) / 1000)}</time></p>`;
}

function Reasons({ reasons }) {
  if (!reasons.length) return null;
  return html`<ul class="reasons" aria-label="What is wrong">
    ${reasons.map(({ code, detail, since, advice }) => html`<li class="state partial" key=${code + detail}>
      <p><strong>${detail}</strong> <span class="quiet"><code>${code}</code>, since <${Ago} at=${since} /></span></p>
      <p>What to do: ${advice}.</p>
    </li>`)}
  </ul>`;
}

const took = (seconds) => (seconds < 1 ? `${Math.max(1, Math.round(seconds * 1000))} ms` : `${seconds.toFixed(1)} s`);

const COLUMNS = [
  { label: "Gateway", cell: ({ name }) => name },
  { label: "Delivery", whole: true, cell: (one) => (one.answers
    ? html`<span class=${`status ${SAID[one.delivery][0]}`}>${one.ready ? one.delivery : "not ready"}</span>`
    : html`<span class="status bad">no answer</span>`) },
  { label: "p99", whole: true, cell: ({ p99_seconds: p99 }) => (p99 === null ? "none" : took(p99)) },
  { label: "Streams", number: true, cell: ({ streams }) => count(streams) },
  { label: "Loop late by", whole: true, cell: ({ loop_delay_max_seconds: late }) => (late === null ? "" : took(late)) },
  { label: "Version", whole: true, cell: ({ version }) => version },
  { label: "Up since", whole: true, cell: ({ started_at: at }) => (at ? html`<${Ago} at=${at} />` : "") },
];

function Streams({ streams, linked }) {
  const open = Object.entries(streams.transports).filter(([, many]) => many)
    .map(([name, many]) => `${count(many)} ${name}`);
  const all = `${count(streams.open)} open`;
  return html`<p>${linked ? html`<a href=${link("streams")}>${all}</a>` : all}${open.length ? `: ${open.join(", ")}` : ""}
    ${streams.stalled ? html` · <span class="status warn">${count(streams.stalled)} whose clients read nothing</span>` : null}
    ${streams.overdue ? html` · <span class="status bad">${count(streams.overdue)} owed events for over 5 s</span>` : null}</p>`;
}

function Store({ log }) {
  const kept = [
    log.retention_age ? `for ${span(log.retention_age)}` : "",
    log.retention_bytes ? `up to ${bytes(log.retention_bytes)}` : "",
  ].filter(Boolean).join(" and ") || "for ever";
  return html`<dl class="facts">
    <dt>Store</dt><dd>${log.store === "postgresql" ? "PostgreSQL" : "SQLite"}, <span
      class=${`status ${log.takes_events ? "ok" : "bad"}`}>${log.takes_events ? "takes events" : "takes no events"}</span></dd>
    <dt>Events</dt><dd>${count(log.events)}${log.newest_at
      ? html`, the newest <${Ago} at=${log.newest_at} />, the oldest of ${dated(log.oldest_at)}` : null}</dd>
    <dt>Kept</dt><dd>${kept}</dd>
  </dl>`;
}

function Connections({ gateways }) {
  const known = gateways.filter(({ answers }) => answers);
  const away = known.filter(({ redis }) => redis === "away").map(({ name }) => name);
  const used = known.some(({ redis }) => redis && redis !== "none");
  const ends = known.map(({ certificate_expires_at: at }) => at).filter(Boolean).sort()[0];
  const days = ends ? (new Date(ends) - Date.now()) / 1000 / DAY_SECONDS : 0;
  return html`<dl class="facts">
    <dt>Redis</dt><dd>${used ? html`<span class=${`status ${away.length ? "warn" : "ok"}`}>${away.length
      ? `away for ${away.join(", ")}` : "answers"}</span>` : "not used"}</dd>
    <dt>TLS</dt><dd>${ends ? html`<span class=${`status ${days < SOON_DAYS ? "warn" : "ok"}`}>the certificate
      ends <${Ago} at=${ends} /></span>` : "not by the gateway itself"}</dd>
  </dl>`;
}

function destinationsOf(destinations) {
  if (!destinations.length) return "no destinations";
  const failing = destinations.filter(({ state }) => state === "failing" || state === "disabled");
  return html`<a href=${link("destinations")}>${count(destinations.length)} destinations</a>${failing.length
    ? html`, <span class="status bad">${failing.map(({ name }) => name).join(", ")} not delivered to</span>` : ""}`;
}

function findingsOf({ open }, linked) {
  if (open === null) return "findings cannot be read";
  const said = `${count(open)} open findings`;
  return linked ? html`<a href=${link("findings")}>${said}</a>` : said;
}
