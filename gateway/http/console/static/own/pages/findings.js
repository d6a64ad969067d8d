// Findings: what is unusual about keys, why, and what to make of it.
import { useState } from "preact/hooks";
import { html } from "dom";
import { call, get, post } from "api/http";
import { go, link, replace } from "state/address";
import { useLoad } from "state/load";
import { may, useMe } from "state/me";
import { say } from "state/said";
import { Ago } from "parts/ago";
import { Details } from "parts/details";
import { Confirm } from "parts/dialog";
import { members, severityName } from "parts/events";
import { Choice, SettledField } from "parts/fields";
import { Heading } from "parts/layout";
import { SIGNAL_NAMES, sureness, titleOf, whyOf } from "parts/signals";
import { Empty, FilteredOut, Loaded, Partial } from "parts/states";
import { Table } from "parts/table";
import { Uses } from "parts/uses";
import { count, dated } from "parts/time";

const LIMIT = 1000;
const EVERY_SECONDS = 15;
const TABS = [["open", "Open"], ["expected", "Expected"], ["all", "All"]];
const CONDITIONS = { key: "the key", signal: "the signal" };
const EXPLAINED = "5 refusals within 10 minutes, uses from a new network and the like become findings. "
  + "deploy/unusual-activity.md lists all signals. This looks by hand:";
const LOOK = `curl -H "Authorization: Bearer $KEY" ${location.origin}/v1/findings`;

export function Findings({ parts, query }) {
  const wanted = { key: query.get("key") || "", signal: query.get("signal") || "" };
  const tab = TABS.some(([name]) => name === query.get("state")) ? query.get("state") : "open";
  const loaded = useLoad(
    (options) => get("/v1/findings", { ...wanted, limit: LIMIT }, options),
    [JSON.stringify(wanted)], { seconds: EVERY_SECONDS },
  );
  const state = tab === "open" ? "" : tab;
  const to = (changes, ...at) => link("findings", { ...wanted, state, ...changes }, ...at);
  const set = (changes) => replace(to(changes));
  const opened = parts[0];
  return html`<${Heading}>Findings<//>
    <${Conditions} wanted=${wanted} set=${set} />
    <${Loaded} from=${loaded}>${({ findings }) => {
      const found = findings.find(({ id }) => id === opened);
      return html`
        <div class=${opened ? "split open" : "split"}>
          <div><${Tabs} findings=${findings} tab=${tab} to=${to} />
            <${List} findings=${findings} tab=${tab} opened=${opened} wanted=${wanted} set=${set} to=${to} /></div>
          ${opened ? html`<${Opened} key=${opened} finding=${found} again=${loaded.again}
            onClose=${() => go(to({}))} />` : null}
        </div>`;
    }}<//>`;
}

function Conditions({ wanted, set }) {
  return html`<form class="selection" role="search" aria-label="Which findings"
    onSubmit=${(event) => event.preventDefault()}>
    <${SettledField} label="Key" placeholder="id of a key" data-search="1" value=${wanted.key}
      onValue=${(key) => set({ key })} />
    <${Choice} label="Signal" value=${wanted.signal} onValue=${(signal) => set({ signal })}
      options=${[["", "any signal"], ...SIGNAL_NAMES.map((name) => [name, titleOf(name)])]} />
  </form>`;
}

const inTab = (tab) => ({ state }) => tab === "all" || state === tab;

function Tabs({ findings, tab, to }) {
  return html`<ul class="chips" aria-label="States">${TABS.map(([name, label]) => html`<li>
    <a class="button" href=${to({ state: name === "open" ? "" : name })}
      aria-current=${name === tab ? "true" : undefined}>
      ${label} ${count(findings.filter(inTab(name)).length)}</a></li>`)}</ul>`;
}

function List({ findings, tab, opened, wanted, set, to }) {
  const shown = findings.filter(inTab(tab));
  if (shown.length) {
    return html`${findings.length >= LIMIT
        ? html`<${Partial}>The newest ${count(LIMIT)} are here. Choose a key or a signal for older ones.<//>` : null}
      <${Table} caption="Findings" rows=${shown} keyOf=${({ id }) => id}
        columns=${opened ? COLUMNS.filter(({ label }) => BESIDE.has(label)) : COLUMNS}
        href=${({ id }) => to({}, id)} selected=${opened} />`;
  }
  const conditions = Object.entries(CONDITIONS).filter(([name]) => wanted[name])
    .map(([name, label]) => ({ label, drop: () => set({ [name]: "" }) }));
  if (conditions.length) return html`<${FilteredOut} what="findings" conditions=${conditions} />`;
  if (findings.length) {
    return html`<div class="state"><p>None ${tab === "open" ? "is open" : "was marked as expected"}.
      <a href=${to({ state: "all" })}>Show all ${count(findings.length)}</a></p></div>`;
  }
  return html`<${Empty} command=${LOOK}>Nothing unusual was found. ${EXPLAINED}<//>`;
}

// What it is about: a key, or else an address or a person.
const aboutOf = ({ key, address, operator }) => key || operator || address || "the gateway";

const COLUMNS = [
  { label: "What", cell: ({ signal }) => titleOf(signal) },
  { label: "About", whole: true, cell: (one) => html`<code>${aboutOf(one)}</code>` },
  { label: "Severity", whole: true, cell: ({ severity }) => severityName(severity) },
  { label: "Sure", whole: true, cell: ({ signal }) => sureness(signal) },
  { label: "Times", number: true, cell: (one) => count(one.count) },
  { label: "Last", whole: true, cell: (one) => html`<${Ago} at=${one.last_seen} />` },
  { label: "State", whole: true, cell: ({ state }) => html`<span class=${`status ${state === "open" ? "warn" : ""}`}>${state}</span>` },
];

// What stays of a row beside an opened finding.
const BESIDE = new Set(["What", "About", "Last", "State"]);

function Opened({ finding, again, onClose }) {
  const me = useMe();
  const [asking, setAsking] = useState("");
  if (!finding) {
    return html`<${Details} label="Finding" title="No such finding" onClose=${onClose}>
      <p>This finding is not there any more, or your conditions leave it out.</p><//>`;
  }
  const close = () => setAsking("");
  const judges = may(me, "keys.admin") && finding.key !== me.id;
  const actions = judges ? html`<${Judgement} finding=${finding} again=${again} onAsk=${setAsking} />` : null;
  return html`<${Details} label="Finding" title=${titleOf(finding.signal)} actions=${actions} onClose=${onClose}>
    <p>${whyOf(finding.signal)}</p>
    ${may(me, "keys.admin") && !judges
      ? html`<p class="quiet">It is about your own key: somebody else has to judge it.</p>` : null}
    <dl class="facts">
      <dt>About</dt><dd>${finding.key && may(me, "keys.read")
        ? html`<a href=${link("keys", {}, finding.key)}>${finding.key}</a>` : aboutOf(finding)}</dd>
      <dt>Signal</dt><dd><code>${finding.signal}</code>, ${severityName(finding.severity)}, ${sureness(finding.signal)}</dd>
      <dt>Seen</dt><dd>${count(finding.count)} times, from ${dated(finding.first_seen)} to ${dated(finding.last_seen)}</dd>
      ${Object.entries(finding.data).map(([name, value]) => html`<dt>${name.replaceAll("_", " ")}</dt>
        <dd>${textOf(value)}</dd>`)}
      ${finding.state === "expected" ? html`<dt>Expected</dt><dd>${finding.reason || "no reason given"}
        ${finding.by ? html` · by <code>${finding.by}</code>` : null}</dd>` : null}
    </dl>
    ${finding.key && may(me, "pull") ? html`<${Uses} finding=${finding} />` : null}
    ${asking === "expected" ? html`<${Expect} finding=${finding} again=${again} onClose=${close} />` : null}
    ${asking === "suspend" ? html`<${Suspend} finding=${finding} onClose=${close} />` : null}
  <//>`;
}

function textOf(value) {
  if (Array.isArray(value)) return value.map(textOf).join(", ");
  if (value === null || typeof value !== "object") return String(value);
  return members(value).map(([path, one]) => `${path} ${one}`).join(", ");
}

const pathOf = ({ id }) => `/v1/findings/${encodeURIComponent(id)}/expected`;

async function expect(finding, reason, again) {
  await post(pathOf(finding), reason ? { reason } : {});
  again();
}

async function reopen(finding, again) {
  await call("DELETE", pathOf(finding));
  again();
}

function Judgement({ finding, again, onAsk }) {
  const takeBack = async () => {
    try {
      await reopen(finding, again);
      say("The signal is heard again for this key.", () => expect(finding, finding.reason, again));
    } catch (problem) {
      say(problem.message);
    }
  };
  return html`${finding.state === "open"
      ? html`<button class="small" onClick=${() => onAsk("expected")}>Expected …</button>`
      : html`<button class="small" onClick=${takeBack}>Not expected</button>`}
    ${finding.key ? html`<button class="small danger" onClick=${() => onAsk("suspend")}>Suspend key …</button>` : null}`;
}

function Expect({ finding, again, onClose }) {
  const act = async (reason) => {
    await expect(finding, reason, again);
    say("Marked as expected: this signal is silent from now on.", () => reopen(finding, again));
  };
  const says = html`<p>From now on “${titleOf(finding.signal)}” is silent for
    <code>${aboutOf(finding)}</code>, until somebody takes it back. Other signals are heard.</p>`;
  return html`<${Confirm} title="Mark it as expected?" says=${says} action="Mark as expected" asksReason
    act=${act} onClose=${onClose} />`;
}

function Suspend({ finding, onClose }) {
  const path = `/v1/keys/${encodeURIComponent(finding.key)}`;
  const act = async (reason) => {
    await post(`${path}/suspend`, { reason });
    say(`The key ${finding.key} is suspended.`, async () => {
      await post(`${path}/resume`, { reason: "taken back" });
      say(`The key ${finding.key} counts again.`);
    });
  };
  const says = html`<p>The key <code>${finding.key}</code> is refused at once, and its streams end with 4504,
    until somebody resumes it. Nothing is lost: readers go on from their cursors then.</p>`;
  return html`<${Confirm} title="Suspend this key?" says=${says} action="Suspend the key" asksReason
    act=${act} onClose=${onClose} />`;
}
