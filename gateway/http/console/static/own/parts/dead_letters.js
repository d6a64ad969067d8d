// Dead letters of a destination: pointers to the events that its receiver did not take.
import { useState } from "preact/hooks";
import { html } from "dom";
import { call, get, post } from "api/http";
import { link } from "state/address";
import { useLoad } from "state/load";
import { may, useMe } from "state/me";
import { say } from "state/said";
import { Ago } from "parts/ago";
import { Confirm } from "parts/dialog";
import { Loaded, Partial } from "parts/states";
import { Table } from "parts/table";
import { count } from "parts/time";

const LIMIT = 100;

// `path`: that of the destination `of`; `again` asks for it anew.
export function DeadLetters({ of, path, again }) {
  const me = useMe();
  const [asking, setAsking] = useState("");
  const loaded = useLoad(
    (options) => get(`${path}/dead-letters`, { limit: LIMIT }, options), [path, of.dead_letters],
  );
  if (!of.dead_letters) return null;
  const close = () => setAsking("");
  return html`<h3>Dead letters</h3>
    ${may(me, "destinations.admin") ? html`<div class="actions">
      <button class="small" onClick=${() => setAsking("resend")}>Send again …</button>
      <button class="small danger" onClick=${() => setAsking("forget")}>Forget all …</button></div>` : null}
    <${Loaded} from=${loaded}>${({ dead_letters: letters }) => html`
      ${of.dead_letters > letters.length
        ? html`<${Partial}>The first ${count(letters.length)} of ${count(of.dead_letters)}.<//>` : null}
      <${Table} caption="Dead letters" columns=${columns(may(me, "pull"))} rows=${letters} keyOf=${({ id }) => id} />`}<//>
    ${asking === "resend" ? html`<${Resend} of=${of} path=${path} again=${again} onClose=${close} />` : null}
    ${asking === "forget" ? html`<${Forget} of=${of} path=${path} again=${again} onClose=${close} />` : null}`;
}

const columns = (looks) => [
  { label: "Event", cell: (one) => (looks
    ? html`<a href=${link("investigate", { around: one.id })}>${one.event || one.id}</a>` : one.event || one.id) },
  { label: "Tenant", whole: true, cell: ({ tenant }) => tenant },
  { label: "Why", cell: ({ reason, status }) => [reason, status].filter(Boolean).join(" ") },
  { label: "When", cell: ({ at, attempts }) => html`<${Ago} at=${at} />, ${count(attempts)} attempts` },
];

function Resend({ of, path, again, onClose }) {
  const act = async (reason) => {
    await post(`${path}/replay`, { dead_letters: "all", reason });
    say(`${count(of.dead_letters)} events are sent to ${of.name} again.`);
    again();
  };
  const says = html`<p>All ${count(of.dead_letters)} events are sent once more, with the same ids, beside the
    delivery. What is refused again stays here.</p>`;
  return html`<${Confirm} title="Send the dead letters again?" says=${says} action="Send again" asksReason
    act=${act} onClose=${onClose} />`;
}

function Forget({ of, path, again, onClose }) {
  const act = async () => {
    const { deleted } = await call("DELETE", `${path}/dead-letters`);
    say(`${count(deleted)} dead letters of ${of.name} are forgotten.`);
    again();
  };
  const says = html`<p>The pointers to ${count(of.dead_letters)} events are deleted, which cannot be taken back. The
    events themselves stay in the log; ${of.name} will never get them.</p>`;
  return html`<${Confirm} title="Forget all dead letters?" says=${says} action="Forget them" act=${act} onClose=${onClose} />`;
}
