// New key: five decisions, beside what the key would see.
import { useState } from "preact/hooks";
import { html } from "dom";
import { get, post } from "api/http";
import { go, link } from "state/address";
import { useLoad } from "state/load";
import { may, useMe } from "state/me";
import { Choice, TextField } from "parts/fields";
import { Heading } from "parts/layout";
import { Minted } from "parts/minted";
import { Preview } from "parts/preview";
import { Failed } from "parts/states";
import { count } from "parts/time";

const KINDS = [
  ["errors", "Errors only"], ["sign-ins", "Sign-ins"], ["category", "Everything of a category"], ["all", "Everything"],
];
const ERRORS_FROM = 4;
const WAYS = [["stream,pull", "Live and as pages"], ["stream", "Live"], ["pull", "As pages"]];
const MEMBERS = [["actor", "Who did it"], ["source", "Where it came from"], ["targets", "What it was done to"], ["data", "Details"]];
const HIDING = [["", "shown"], ["mask", "masked, as ***"], ["pseudonymize", "a pseudonym"], ["drop", "left out"]];
const ROTATIONS = [["", "never"], ["7d", "every 7 days"], ["30d", "every 30 days"], ["90d", "every 90 days"]];
const OVERLAP = "1d";
const LIVES = [["7d", "7 days"], ["30d", "30 days"], ["90d", "90 days"]];
const NEW = {
  name: "", purpose: "", owner: "", kind: "errors", category: "auth.**", tenant: "", ways: "stream,pull", hidden: {}, cidr: "",
  expires_in: "30d", rotate: "", requests_per_second: "",
};

const list = (text) => text.split(/[\s,]+/).filter(Boolean);

function grantOf(wanted) {
  const grant = { actions: list(wanted.ways), categories: ["**"] };
  if (wanted.kind === "errors") grant.min_severity = ERRORS_FROM;
  if (wanted.kind === "sign-ins") grant.categories = ["auth", "auth.**"];
  if (wanted.kind === "category") grant.categories = list(wanted.category);
  if (wanted.tenant) grant.tenants = list(wanted.tenant);
  for (const [name, how] of Object.entries(wanted.hidden)) {
    if (how) (grant.fields ||= {})[how] = [...(grant.fields[how] || []), name];
  }
  if (wanted.cidr) grant.when = { cidr: list(wanted.cidr) };
  return grant.categories.length ? grant : null;
}

function bodyOf(wanted) {
  const { name, purpose, owner, expires_in } = wanted;
  const body = { name, purpose, owner, expires_in, grants: [grantOf(wanted)] };
  if (wanted.requests_per_second) body.limits = { requests_per_second: Number(wanted.requests_per_second) };
  if (wanted.rotate) body.rotate = { every: wanted.rotate, overlap: OVERLAP };
  return body;
}

// What there is to pick from, as far as the session sees it.
function useFacets() {
  const me = useMe();
  const { value } = useLoad(async (options) => (may(me, "pull")
    ? (await get("/v1/counts", { since: "24h", by: "tenant,category", top: 8 }, options)).facets : {}), []);
  return value || {};
}

function Picks({ label, facet, onPick }) {
  if (!facet?.values.length) return null;
  return html`<div class="chips" role="group" aria-label=${label}>${facet.values.map(({ value, count: number }) => html`
    <button type="button" class="small" onClick=${() => onPick(value)}>${value} ${count(number)}</button>`)}</div>`;
}

export function NewKey() {
  const me = useMe();
  const facets = useFacets();
  const [wanted, setWanted] = useState({ ...NEW, owner: me.owner });
  const [made, setMade] = useState(null);
  const [problem, setProblem] = useState(null);
  const set = (name) => (value) => setWanted((before) => ({ ...before, [name]: value }));
  const make = async (event) => {
    event.preventDefault();
    setProblem(null);
    try {
      setMade(await post("/v1/keys", bodyOf(wanted)));
    } catch (error) {
      setProblem(error);
    }
  };
  if (made) {
    return html`<${Heading}>New key<//><${Minted} made=${made} onDone=${({ id }) => go(link("keys", {}, id))} />`;
  }
  const text = (label, name, more = {}) => html`<${TextField} label=${label} value=${wanted[name]}
    onValue=${set(name)} ...${more} />`;
  return html`<${Heading}>New key<//>
    <div class="split open"><form class="steps" onSubmit=${make}>
      <fieldset><legend>1 · For what, and whose</legend>
        ${text("Name", "name", { required: true })}
        ${text("Purpose", "purpose", { required: true })}
        ${text("Owner", "owner", { required: true, hint: "Who answers for it." })}</fieldset>
      <fieldset><legend>2 · What it sees</legend>
        <${Choice} label="Events" value=${wanted.kind} options=${KINDS} onValue=${set("kind")} />
        ${wanted.kind === "category" ? html`${text("Category", "category")}
          <${Picks} label="Categories of 24 hours" facet=${facets.category} onPick=${set("category")} />` : null}
        ${text("Tenants", "tenant", { placeholder: "all" })}
        <${Picks} label="Tenants of 24 hours" facet=${facets.tenant} onPick=${set("tenant")} />
        <${Choice} label="Read" value=${wanted.ways} options=${WAYS} onValue=${set("ways")} /></fieldset>
      <fieldset><legend>3 · What is hidden in them</legend>
        ${MEMBERS.map(([name, label]) => html`<${Choice} label=${label} value=${wanted.hidden[name] || ""} options=${HIDING}
          onValue=${(how) => set("hidden")({ ...wanted.hidden, [name]: how })} />`)}
        <small>A pseudonym stands for the same value each time, and does not tell which.</small></fieldset>
      <fieldset><legend>4 · From where, how long, how much</legend>
        ${text("Networks", "cidr", { placeholder: "any, or 10.1.2.0/24" })}
        <${Choice} label="Ends in" value=${wanted.expires_in} options=${LIVES} onValue=${set("expires_in")} />
        <${Choice} label="Rotates" value=${wanted.rotate} options=${ROTATIONS} onValue=${set("rotate")}
          hint="By whoever places the new secret; both work for a day then." />
        ${text("Requests a second", "requests_per_second", { placeholder: "no limit", inputmode: "numeric" })}</fieldset>
      ${problem ? html`<${Failed} problem=${problem} />` : null}
      <div class="actions"><button class="strong">Make the key</button>
        <a class="button" href=${link("keys")}>Cancel</a></div>
    </form><${Preview} grant=${grantOf(wanted)} /></div>`;
}
