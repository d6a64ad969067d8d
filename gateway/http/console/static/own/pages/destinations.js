// Destinations: outside systems that events go to, whether they get them, and what to do if not.
import { useRef, useState } from "preact/hooks";
import { html } from "dom";
import { call, get, post } from "api/http";
import { go, link } from "state/address";
import { useLoad } from "state/load";
import { may, useMe } from "state/me";
import { say } from "state/said";
import { Ago } from "parts/ago";
import { DeadLetters } from "parts/dead_letters";
import { Details } from "parts/details";
import { Confirm } from "parts/dialog";
import { Heading } from "parts/layout";
import { Empty, Loaded } from "parts/states";
import { Table } from "parts/table";
import { bytes, count, dated, span } from "parts/time";

const EVERY_SECONDS = 5;
const STATUS = { active: "ok", failing: "bad", paused: "warn", disabled: "bad" };
const MAKE = `curl -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \\
  -d '{"name":"siem","type":"http","key":"ID OF A KEY","settings":{"url":"https://siem.example.org/in"}}' \\
  ${location.origin}/v1/destinations`;

const pathOf = (name, ...rest) => ["/v1/destinations", encodeURIComponent(name), ...rest].join("/");

export function Destinations({ parts }) {
  const me = useMe();
  const before = useRef({ at: 0, sent: new Map() });
  const loaded = useLoad(async (options) => {
    const { destinations } = await get("/v1/destinations", {}, options);
    return withRates(before, destinations);
  }, [], { seconds: EVERY_SECONDS });
  const opened = parts[0];
  return html`<${Heading}>Destinations<//>
    <${Loaded} from=${loaded}>${(all) => (all.length
      ? html`<div class=${opened ? "split open" : "split"}>
          <div><${Table} caption="Destinations" columns=${opened ? COLUMNS.slice(0, 4) : COLUMNS} rows=${all} keyOf=${({ name }) => name}
            href=${({ name }) => link("destinations", {}, name)} selected=${opened} /></div>
          ${opened ? html`<${Opened} key=${opened} of=${all.find(({ name }) => name === opened)}
            again=${loaded.again} onClose=${() => go(link("destinations"))} />` : null}
        </div>`
      : html`<${Empty} command=${may(me, "destinations.admin") ? MAKE : ""}>Events go to no outside system.
          ${may(me, "destinations.admin") ? " This makes a destination; deploy/destinations.md has all types:" : ""}<//>`)}<//>`;
}

// Each with its events a second since the look before; none at the first one.
function withRates(before, all) {
  const now = performance.now();
  const { at, sent } = before.current;
  before.current = { at: now, sent: new Map(all.map((one) => [one.name, one.delivered.events])) };
  return all.map((one) => {
    const known = sent.get(one.name);
    const rate = known === undefined ? null : Math.max(0, one.delivered.events - known) / ((now - at) / 1000);
    return { ...one, rate };
  });
}

const rateOf = ({ rate }) => (rate === null ? "" : `${rate && rate < 10 ? rate.toFixed(1) : count(Math.round(rate))}/s`);

const COLUMNS = [
  { label: "Destination", cell: ({ name }) => name },
  { label: "State", whole: true, cell: (one) => html`<${State} of=${one} />` },
  { label: "Type", whole: true, cell: ({ type }) => type },
  { label: "Lag", whole: true, cell: ({ lag }) => lagOf(lag) },
  { label: "Rate", number: true, cell: rateOf },
  { label: "Last error", cell: ({ last_error: error }) => (error
    ? html`<div><${Ago} at=${error.at} />: ${error.status || ""}</div><div class="quiet">${error.message}</div>` : "none") },
  { label: "Dead letters", number: true, cell: (one) => count(one.dead_letters) },
];

const lagOf = ({ events, seconds }) => (events ? `${count(events)} events, ${span(seconds)}` : "none");

function State({ of }) {
  return html`<span class=${`status ${STATUS[of.state]}`}>${of.state}</span>
    ${of.state === "active" ? null : html`<div class="quiet">since <${Ago} at=${of.since} />${of.state === "paused" && of.by
      ? html` by <code>${of.by}</code>` : null}${of.reason_code ? `, ${of.reason_code}` : ""}</div>`}
    ${of.replay?.state === "running" ? html`<div class="quiet">replaying</div>` : null}`;
}

function Opened({ of, again, onClose }) {
  const me = useMe();
  const [asking, setAsking] = useState("");
  if (!of) {
    return html`<${Details} label="Destination" title="No such destination" onClose=${onClose}>
      <p>There is none of this name.</p><//>`;
  }
  const close = () => setAsking("");
  const actions = may(me, "ops.act") ? html`<${Acts} of=${of} again=${again} onAsk=${setAsking} />` : null;
  return html`<${Details} label="Destination" title=${of.name} actions=${actions} onClose=${onClose}>
    <${Facts} of=${of} />
    ${of.replay ? html`<${Replay} of=${of} onAsk=${may(me, "ops.act") ? setAsking : null} />` : null}
    <${DeadLetters} of=${of} path=${pathOf(of.name)} again=${again} />
    ${asking ? html`<${QUESTIONS[asking]} of=${of} again=${again} onClose=${close} />` : null}
  <//>`;
}

function Facts({ of }) {
  const error = of.last_error;
  const stopped = of.state === "paused" || of.state === "disabled";
  return html`<dl class="facts">
    <dt>State</dt><dd><${State} of=${of} /></dd>
    ${of.reason ? html`<dt>Reason</dt><dd>${of.reason}</dd>` : null}
    <dt>${stopped ? "Backlog" : "Lag"}</dt><dd>${lagOf(of.lag)}</dd>
    <dt>Delivered</dt><dd>${count(of.delivered.events)} events, ${bytes(of.delivered.bytes)}, ${rateOf(of) || "…"}</dd>
    <dt>Last success</dt><dd>${of.last_success ? dated(of.last_success) : "none yet"}</dd>
    ${error ? html`<dt>Last error</dt><dd>${dated(error.at)} <code>${error.kind}</code> ${error.status || ""} ${error.message}</dd>` : null}
    ${of.next_attempt ? html`<dt>Next attempt</dt><dd><${Ago} at=${of.next_attempt} /></dd>` : null}
    <dt>Retries</dt><dd>${count(of.retries)}, ${count(of.rejected)} refused for good</dd>
    <dt>Type</dt><dd>${of.type}${of.confirmation ? `, a success means ${of.confirmation}` : ""}</dd>
    <dt>Events of</dt><dd><code>${of.key}</code></dd>
    ${Object.entries(of.settings).map(([name, value]) => html`<dt>${name}</dt><dd>${String(value)}</dd>`)}
    <dt>Cursor</dt><dd><code>${of.cursor}</code></dd>
    <dt>Made</dt><dd>${dated(of.created_at)} by <code>${of.created_by}</code>${of.managed_by === "config"
      ? ", kept by the configuration" : ""}</dd>
  </dl>`;
}

function Acts({ of, again, onAsk }) {
  const stopped = of.state === "paused" || of.state === "disabled";
  const [testing, setTesting] = useState(false);
  const test = async () => {
    setTesting(true);
    try {
      const { result, status, message, took_ms: took } = await post(pathOf(of.name, "test"));
      say(`Test event to ${of.name}: ${result}${status ? `, ${status}` : ""} in ${took} ms. ${message}`);
    } catch (problem) {
      say(problem.message);
    }
    setTesting(false);
    again();
  };
  return html`<button class="small" disabled=${testing} onClick=${test}>${testing ? "Testing …" : "Test"}</button>
    <button class="small" onClick=${() => onAsk(stopped ? "resume" : "pause")}>${stopped ? "Resume …" : "Pause …"}</button>`;
}

function Replay({ of: { replay }, onAsk }) {
  return html`<h3>Replay</h3><p>${replay.state}: ${count(replay.delivered)} sent again, ${count(replay.rejected)} refused.
      Begun ${dated(replay.started_at)} by <code>${replay.by}</code>${replay.reason ? `: ${replay.reason}` : ""}</p>
    ${onAsk && replay.state === "running"
      ? html`<button class="small" onClick=${() => onAsk("cancel")}>Cancel the replay …</button>` : null}`;
}

function Pause({ of, again, onClose }) {
  const resume = async () => {
    await post(pathOf(of.name, "resume"), { reason: "taken back" });
    say(`${of.name} goes on.`);
    again();
  };
  const act = async (reason) => {
    await post(pathOf(of.name, "pause"), { reason });
    say(`${of.name} is paused.`, resume);
    again();
  };
  const says = html`<p>The request that is under way is finished, then nothing more is sent. The position stays:
    events wait in the log, for as long as it keeps them.</p>`;
  return html`<${Confirm} title=${`Pause ${of.name}?`} says=${says} action="Pause" asksReason act=${act} onClose=${onClose} />`;
}

function Resume({ of, again, onClose }) {
  const act = async (reason) => {
    await post(pathOf(of.name, "resume"), { reason });
    say(`${of.name} goes on from its position.`);
    again();
  };
  const says = html`<p>It goes on from its position and sends ${count(of.lag.events)} events that wait, of which
    its key has to see them.</p>`;
  return html`<${Confirm} title=${`Resume ${of.name}?`} says=${says} action="Resume" asksReason act=${act} onClose=${onClose} />`;
}

function Cancel({ of, again, onClose }) {
  const act = async () => {
    await call("DELETE", pathOf(of.name, "replay"));
    say(`The replay to ${of.name} was cancelled.`);
    again();
  };
  const says = html`<p>What was sent again stays there. The delivery itself goes on beside.</p>`;
  return html`<${Confirm} title="Cancel the replay?" says=${says} action="Cancel the replay" act=${act} onClose=${onClose} />`;
}

const QUESTIONS = { pause: Pause, resume: Resume, cancel: Cancel };
