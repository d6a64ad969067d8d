// A change of a key: what it would do is looked up first, and what was looked at is what is applied.
import { useState } from "preact/hooks";
import { html } from "dom";
import { call, get, post } from "api/http";
import { say } from "state/said";
import { Details } from "parts/details";
import { Field, TextField } from "parts/fields";
import { Failed, Loading, Partial } from "parts/states";
import { count } from "parts/time";

const SINCE = "7d";
// What was found stands below a long form.
const intoView = (node) => node?.scrollIntoView({ block: "nearest" });
const MEMBERS = ["name", "purpose", "owner", "expires_at", "grants", "roles", "limits", "rotate"];
const same = (one, other) => JSON.stringify(one ?? null) === JSON.stringify(other ?? null);

const startOf = (key) => ({
  name: key.name, purpose: key.purpose, owner: key.owner, expires_in: "",
  every: key.rotate?.every || "", overlap: key.rotate?.overlap || "",
  grants: JSON.stringify(key.grants, null, 2), roles: (key.roles || []).join(" "),
});

// Merge patch of what was typed. Raises a SyntaxError for grants that are no JSON.
function patchOf(key, typed) {
  const patch = {};
  for (const name of ["name", "purpose", "owner"]) if (typed[name] !== key[name]) patch[name] = typed[name];
  if (typed.expires_in) patch.expires_in = typed.expires_in.trim();
  const grants = JSON.parse(typed.grants);
  if (!same(grants, key.grants)) patch.grants = grants;
  const roles = typed.roles.split(/[\s,]+/).filter(Boolean);
  if (!same(roles, key.roles || [])) patch.roles = roles;
  const rotate = typed.every ? { every: typed.every.trim(), overlap: typed.overlap.trim() || "1h" } : null;
  if (!same(rotate, key.rotate)) patch.rotate = rotate;
  return patch;
}

// What the patch would do, and the state of the key that it is meant for.
async function simulated(key, patch) {
  if (!("grants" in patch || "roles" in patch)) return { ifMatch: `"${key.revision}"`, patch };
  const proposal = { key: key.id, grants: patch.grants ?? key.grants, roles: patch.roles ?? key.roles ?? [] };
  const found = await post("/v1/authz/simulate", { ...proposal, since: SINCE });
  const sum = (name) => Math.max(0, ...["stream", "pull"].map((action) => found.events[action]?.[name].count || 0));
  return {
    ifMatch: found.apply.if_match, patch: { ...patch, ...found.apply.patch }, complete: found.window.complete,
    denied: found.uses && found.uses.would_be_denied.reduce((all, one) => all + one.count, 0),
    lost: sum("no_longer_seen"), hidden: sum("more_hidden"), gained: sum("newly_seen") + sum("less_hidden"),
  };
}

// `onChanged()` is called once the key is another; `onClose()` to leave it as it is.
export function KeyEditor({ of, path, onChanged, onClose }) {
  const [key, setKey] = useState(of);
  const [typed, setTyped] = useState(startOf(of));
  const [wrong, setWrong] = useState("");
  const [found, setFound] = useState({ state: "none" });
  const set = (name) => (value) => {
    setTyped((before) => ({ ...before, [name]: value }));
    setWrong("");
    setFound({ state: "none" });
  };
  const look = async (event) => {
    event?.preventDefault();
    let patch;
    try {
      patch = patchOf(key, typed);
    } catch (error) {
      setWrong(`No JSON: ${error.message}`);
      return;
    }
    setFound({ state: "looking" });
    try {
      setFound({ state: "there", ...(await simulated(key, patch)) });
    } catch (problem) {
      setFound({ state: "failed", problem });
    }
  };
  const apply = async () => {
    try {
      await call("PATCH", path, { body: found.patch, ifMatch: found.ifMatch });
    } catch (problem) {
      const newest = problem.status === 412 ? await get(path).catch(() => null) : null;
      setFound(newest ? { state: "stale", newest } : { state: "failed", problem });
      return;
    }
    say(`The key ${typed.name} is changed.`);
    onChanged();
  };
  const takeNewest = () => {
    setKey(found.newest);
    setTyped(startOf(found.newest));
    setFound({ state: "none" });
  };
  const text = (label, name, more = {}) => html`<${TextField} label=${label} value=${typed[name]}
    onValue=${set(name)} ...${more} />`;
  return html`<${Details} label="Change" title=${`Change ${key.name}`} onClose=${onClose}>
    ${key.managed_by ? html`<${Partial}>It is declared as ${key.managed_by}: change it there, too, or the next apply
      undoes what differs.<//>` : null}
    <form onSubmit=${look}>
      ${text("Name", "name", { required: true })}${text("Purpose", "purpose", { required: true })}
      ${text("Owner", "owner", { required: true })}
      ${text("Ends in", "expires_in", { placeholder: "as it is, or 30d" })}
      ${text("Rotates every", "every", { placeholder: "never, or 30d" })}
      ${text("Both secrets work for", "overlap", { placeholder: "1h" })}
      ${text("Roles", "roles", { placeholder: "none" })}
      <${Field} label="Grants as JSON" error=${wrong}><textarea rows="6" spellcheck="false" value=${typed.grants}
        onInput=${(event) => set("grants")(event.target.value)}></textarea><//>
      <div class="actions"><button disabled=${found.state === "looking"}>Simulate</button></div>
    </form>
    <${Found} found=${found} before=${key} again=${look} onApply=${apply} onNewest=${takeNewest} /><//>`;
}

function Found({ found, before, again, onApply, onNewest }) {
  if (found.state === "none") return null;
  if (found.state === "looking") return html`<${Loading} />`;
  if (found.state === "failed") return html`<${Failed} problem=${found.problem} again=${again} />`;
  if (found.state === "stale") return html`<${Stale} before=${before} newest=${found.newest} onNewest=${onNewest} />`;
  const members = Object.keys(found.patch);
  if (!members.length) return html`<p role="status">Nothing is changed yet.</p>`;
  return html`<h3>What it would do</h3><p role="status">It changes ${members.join(", ")}. ${said(found)}
      Its live streams narrow or end at once.</p>
    ${found.complete === false ? html`<${Partial}>Not all events of 7 days were looked at.<//>` : null}
    <div class="actions" ref=${intoView}><button class="strong" onClick=${onApply}>Apply</button></div>`;
}

function said({ denied, lost, hidden, gained }) {
  if (lost === undefined) return "";
  const uses = denied === null ? "" : `${count(denied)} ${denied === 1 ? "use" : "uses"} of the last 7 days would be denied; `;
  return `${uses}${count(lost)} events no longer seen, ${count(hidden)} with more hidden, ${count(gained)} newly seen.`;
}

// Somebody was first: what the key has now, beside what it was.
function Stale({ before, newest, onNewest }) {
  const differing = MEMBERS.filter((name) => !same(before[name], newest[name]));
  return html`<div class="state" role="alert"><p>The key was changed meanwhile, so nothing was applied.</p>
    <dl class="facts">${differing.map((name) => html`<dt>${name}</dt>
      <dd>${JSON.stringify(before[name] ?? null)} is now ${JSON.stringify(newest[name] ?? null)}</dd>`)}</dl>
    <div class="actions"><button onClick=${onNewest}>Begin with what it is now</button></div></div>`;
}
