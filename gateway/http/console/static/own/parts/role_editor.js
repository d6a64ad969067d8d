// A role as JSON, and for each of its keys what a change would change, before it is put.
import { useState } from "preact/hooks";
import { html } from "dom";
import { call, post } from "api/http";
import { may, useMe } from "state/me";
import { say } from "state/said";
import { Details } from "parts/details";
import { Field, TextField } from "parts/fields";
import { Failed, Loading, Partial } from "parts/states";
import { Table } from "parts/table";
import { count } from "parts/time";

const MOST_KEYS = 100;
const SINCE = "7d";
const EXAMPLE = { description: "", grants: [{ actions: ["stream", "pull"], categories: ["auth.**"] }] };

// What a key would gain and lose, by what it did and what there was in the last days.
async function changeFor(key, role, grants, roles) {
  const others = (key.roles || []).filter((name) => name !== role)
    .flatMap((name) => roles.find((one) => one.name === name)?.grants || []);
  // Grants of different roles may have the same id, which those of one key may not.
  const proposed = [...key.grants, ...others, ...grants].map(({ id, ...grant }) => grant);
  const found = await post("/v1/authz/simulate", { key: key.id, grants: proposed, roles: [], since: SINCE });
  const sum = (name) => Math.max(0, ...["stream", "pull"].map((action) => found.events[action]?.[name].count || 0));
  const uses = (name) => (found.uses?.[name] || []).reduce((all, one) => all + one.count, 0);
  return {
    key, complete: found.window.complete, lost: sum("no_longer_seen"), hidden: sum("more_hidden"),
    denied: uses("would_be_denied"), gained: sum("newly_seen") + sum("less_hidden"),
  };
}

const narrows = ({ lost, hidden, denied }) => lost + hidden + denied > 0;

// `role`: null for a new one; `having`: its keys; `roles`: all. `onPut(name)` is called afterwards.
export function RoleEditor({ role, having, roles, onPut, onClose }) {
  const before = role ? { description: role.description, grants: role.grants } : EXAMPLE;
  const [name, setName] = useState(role?.name || "");
  const [text, setText] = useState(JSON.stringify(before, null, 2));
  const [wrong, setWrong] = useState("");
  const [preview, setPreview] = useState({ state: "none" });
  const change = (set) => (value) => {
    set(value);
    setWrong("");
    setPreview({ state: "none" });
  };
  const look = async (event) => {
    event.preventDefault();
    const body = parsed(text, setWrong);
    if (!body) return;
    if (roles.some((one) => !role && one.name === name.trim())) {
      setWrong("There is a role of this name: open and change it.");
      return;
    }
    setPreview({ state: "looking" });
    try {
      const changes = [];
      for (const key of having.slice(0, MOST_KEYS)) {
        changes.push(await changeFor(key, role.name, body.grants, roles));
      }
      setPreview({ state: "there", changes, body });
    } catch (problem) {
      setPreview({ state: "failed", problem });
    }
  };
  return html`<${Details} label="Change" title=${role ? `Change ${role.name}` : "New role"} onClose=${onClose}>
    <form onSubmit=${look}>
      ${role ? null : html`<${TextField} label="Name" required value=${name} onValue=${change(setName)}
        hint="lower case letters, digits and hyphens" />`}
      <${Field} label="Role as JSON" error=${wrong}>
        <textarea rows="14" spellcheck="false" value=${text}
          onInput=${(event) => change(setText)(event.target.value)}></textarea><//>
      <div class="actions"><button disabled=${preview.state === "looking"}>Preview</button></div>
    </form>
    <${Preview} preview=${preview} name=${name.trim()} before=${role && before} having=${having} again=${look}
      onPut=${onPut} />
  <//>`;
}

function parsed(text, setWrong) {
  try {
    const body = JSON.parse(text);
    if (Array.isArray(body?.grants)) return body;
    setWrong("It needs `grants`, a list.");
  } catch (error) {
    setWrong(`No JSON: ${error.message}`);
  }
  return null;
}

function Preview({ preview, name, before, having, again, onPut }) {
  const [problem, setProblem] = useState(null);
  if (preview.state === "none") return null;
  if (preview.state === "looking") return html`<${Loading} />`;
  if (preview.state === "failed") return html`<${Failed} problem=${preview.problem} again=${again} />`;
  const put = async (body) => call("PUT", `/v1/roles/${encodeURIComponent(name)}`, { body });
  const undo = before && (async () => {
    await put(before);
    say(`The role ${name} is as it was.`);
    onPut(name);
  });
  const act = async () => {
    try {
      await put(preview.body);
    } catch (refused) {
      setProblem(refused);
      return;
    }
    say(`The role ${name} is ${before ? "changed" : "made"}.`, undo);
    onPut(name);
  };
  return html`<${Changes} changes=${preview.changes} having=${having} />
    ${problem ? html`<${Failed} problem=${problem} />` : null}
    <div class="actions"><button class="strong" onClick=${act}>Put the role</button></div>`;
}

function Changes({ changes, having }) {
  const me = useMe();
  const narrowed = changes.filter(narrows);
  const gaining = changes.filter(({ gained }) => gained);
  const shown = [...narrowed, ...gaining.filter((one) => !narrows(one))];
  const complete = changes.every((one) => one.complete) && changes.length === having.length;
  return html`<h3>What it would change</h3>
    ${having.length ? html`<p role="status">Of ${count(having.length)} keys ${count(narrowed.length)} would see or do less,
        and ${count(gaining.length)} would see more, by the last 7 days. Their live streams narrow or end at once.</p>`
      : html`<p role="status">No key has it, so nothing changes now.</p>`}
    ${complete ? null : html`<${Partial}>Not everything was looked at: ${changes.length < having.length
        ? `only the first ${count(changes.length)} keys` : "only a part of the events"}.<//>`}
    ${having.length && !may(me, "pull") ? html`<p class="quiet">Your key pulls no events, so only uses are compared.</p>` : null}
    ${shown.length ? html`<${Table} caption="Keys that change" columns=${COLUMNS} rows=${shown}
      keyOf=${({ key }) => key.id} />` : null}`;
}

const COLUMNS = [
  { label: "Key", cell: ({ key }) => html`${key.name}<div class="quiet"><code>${key.id}</code></div>` },
  { label: "Uses refused", number: true, cell: ({ denied }) => count(denied) },
  { label: "Events lost", number: true, cell: ({ lost }) => count(lost) },
  { label: "Hidden", number: true, cell: ({ hidden }) => count(hidden) },
  { label: "Gained", number: true, cell: ({ gained }) => count(gained) },
];
