// Roles: named lists of grants, who has them, and what a change of one would change.
import { useState } from "preact/hooks";
import { html } from "dom";
import { call, get } from "api/http";
import { go, link } from "state/address";
import { useLoad } from "state/load";
import { may, useMe } from "state/me";
import { say } from "state/said";
import { Details } from "parts/details";
import { DeclaredMark, DeclaredNote } from "parts/declared";
import { Confirm } from "parts/dialog";
import { Heading } from "parts/layout";
import { RoleEditor } from "parts/role_editor";
import { Empty, Loaded } from "parts/states";
import { Table } from "parts/table";
import { count } from "parts/time";

const ENDED = new Set(["expired", "revoked"]);
const NEW = "new";
const MAKE = `curl -X PUT -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \\
  -d '{"description":"sign-ins","grants":[{"actions":["stream"],"categories":["auth.**"]}]}' \\
  ${location.origin}/v1/roles/sign-ins`;

// Roles, and the keys that have not ended, by the names of their roles.
async function rolesAndKeys(options) {
  const [{ roles }, { keys }] = await Promise.all([get("/v1/roles", {}, options), get("/v1/keys", {}, options)]);
  const having = new Map(roles.map(({ name }) => [name, []]));
  for (const key of keys) {
    if (!ENDED.has(key.state)) for (const name of key.roles || []) having.get(name)?.push(key);
  }
  return { roles, having };
}

export function Roles({ parts, query }) {
  const me = useMe();
  const loaded = useLoad(rolesAndKeys, []);
  const [opened, act] = parts;
  const changes = may(me, "keys.admin");
  const adding = changes && query.has(NEW);
  const close = () => go(link("roles"));
  return html`<${Heading} actions=${changes
      ? html`<a class="button strong" href=${link("roles", { [NEW]: 1 })}>New role</a>` : null}>Roles<//>
    <${Loaded} from=${loaded}>${({ roles, having }) => {
      const role = roles.find(({ name }) => name === opened);
      const put = (name) => {
        loaded.again();
        go(link("roles", {}, name));
      };
      return html`<div class=${opened || adding ? "split open" : "split"}>
        <div>${roles.length
          ? html`<${Table} caption="Roles" rows=${roles} keyOf=${({ name }) => name} selected=${opened}
              href=${({ name }) => link("roles", {}, name)} columns=${columns(having, Boolean(opened || adding))} />`
          : html`<${Empty} command=${MAKE}>There is no role. This makes one:<//>`}</div>
        ${adding ? html`<${RoleEditor} role=${null} having=${[]} roles=${roles} onPut=${put} onClose=${close} />` : null}
        ${opened && changes && act === "change" && role && !role.builtin
          ? html`<${RoleEditor} key=${opened} role=${role} having=${having.get(opened)} roles=${roles} onPut=${put}
              onClose=${() => go(link("roles", {}, opened))} />`
          : opened ? html`<${Opened} key=${opened} role=${role} having=${having.get(opened) || []}
              changes=${changes} again=${loaded.again} onClose=${close} />` : null}
      </div>`;
    }}<//>`;
}

function columns(having, beside) {
  const shown = [
    { label: "Role", cell: ({ name }) => name },
    { label: "Keys", number: true, cell: ({ name }) => count(having.get(name).length) },
    { label: "Kind", whole: true, cell: ({ builtin, problems, managed_by }) => html`${builtin ? "predefined" : "own"}
      <${DeclaredMark} of=${{ managed_by }} />
      ${problems?.length ? html`<div class="status bad">invalid</div>` : null}` },
  ];
  return beside ? shown : [...shown, { label: "What for", cell: ({ description }) => description }];
}

function Opened({ role, having, changes, again, onClose }) {
  const [deleting, setDeleting] = useState(false);
  if (!role) {
    return html`<${Details} label="Role" title="No such role" onClose=${onClose}>
      <p>There is no such role.</p><//>`;
  }
  const actions = changes && !role.builtin
    ? html`<a class="button small" href=${link("roles", {}, role.name, "change")}>Change …</a>
        <button class="small danger" onClick=${() => setDeleting(true)}>Delete …</button>` : null;
  return html`<${Details} label="Role" title=${role.name} actions=${actions} onClose=${onClose}>
    <p>${role.description}</p>
    ${changes ? html`<${DeclaredNote} of=${role} />` : null}
    ${role.builtin ? html`<p class="quiet">Predefined roles cannot be changed.</p>` : null}
    ${(role.problems || []).map((problem) => html`<p class="problem">${Object.values(problem).join(": ")}</p>`)}
    <h3>Grants</h3>
    <pre tabindex="0">${JSON.stringify(role.grants, null, 2)}</pre>
    <h3>Keys that have it</h3>
    ${having.length
      ? html`<${Table} caption="Keys that have it" rows=${having} columns=${KEYS} keyOf=${({ id }) => id}
          href=${({ id }) => link("keys", {}, id)} />`
      : html`<p class="quiet">No key has it.</p>`}
    ${deleting ? html`<${Deletion} role=${role} having=${having} again=${again} onDeleted=${onClose}
      onClose=${() => setDeleting(false)} />` : null}
  <//>`;
}

const KEYS = [
  { label: "Key", cell: ({ name }) => name },
  { label: "Owner", cell: ({ owner }) => owner },
  { label: "State", whole: true, cell: ({ state }) => state },
];

function Deletion({ role, having, again, onDeleted, onClose }) {
  const act = async () => {
    const found = await call("DELETE", `/v1/roles/${encodeURIComponent(role.name)}`);
    say(`The role ${role.name} is deleted${found ? `; ${count(found.keys.length)} keys had it` : ""}.`);
    again();
    onDeleted();
  };
  const says = html`<p>It is taken out of its keys, whose streams narrow or end at once, which cannot be taken back.</p>
    <p>${having.length ? html`These have it: ${having.map(({ name, id }) => `${name} (${id})`).join(", ")}.` : "No key has it."}</p>
    <${DeclaredNote} of=${role} />`;
  return html`<${Confirm} title=${`Delete the role ${role.name}?`} says=${says} action="Delete the role" act=${act}
    onClose=${onClose} />`;
}
