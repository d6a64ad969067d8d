// Sessions: who is signed in to the console, and the end of a session.
import { useState } from "preact/hooks";
import { html } from "dom";
import { call, get } from "api/http";
import { link } from "state/address";
import { useLoad } from "state/load";
import { may, useMe } from "state/me";
import { say } from "state/said";
import { Ago } from "parts/ago";
import { Confirm } from "parts/dialog";
import { Heading } from "parts/layout";
import { Empty, Loaded, Partial } from "parts/states";
import { Table } from "parts/table";
import { count, dated } from "parts/time";

const HIDDEN = "***";

export function Sessions() {
  const me = useMe();
  const loaded = useLoad((options) => get("/v1/sessions", {}, options), []);
  const [ending, setEnding] = useState(null);
  const onEnded = () => {
    say(`The session of ${ending.name || ending.key} has ended.`);
    loaded.again();
  };
  return html`<${Heading}>Sessions<//>
    <p class="quiet">${may(me, "keys.read") ? "Everybody who is signed in to the console."
      : "Where your own key is signed in to the console."}</p>
    <${Loaded} from=${loaded}>${({ sessions, total }) => html`
      ${total > sessions.length ? html`<${Partial}>The ${count(sessions.length)} that were used last,
        of ${count(total)}.<//>` : null}
      ${sessions.length
        ? html`<${Table} caption="Sessions" rows=${sessions} keyOf=${(one) => one.id}
            columns=${columns(me, setEnding)} />`
        : html`<${Empty}>Nobody is signed in.<//>`}`}<//>
    ${ending ? html`<${Ending} session=${ending} onEnded=${onEnded} onClose=${() => setEnding(null)} />`
      : null}`;
}

function columns(me, onEnd) {
  const named = (one) => html`<div>${one.name}</div><div class="quiet">${may(me, "keys.read")
    ? html`<a href=${link("keys", {}, one.key)}><code>${one.key}</code></a>`
    : html`<code>${one.key}</code>`}</div>`;
  return [
    { label: "Key", cell: named },
    { label: "Where", cell: (one) => html`<div>${shown(one.address)}</div>
      <div class="quiet">${shown(one.client)}</div>` },
    { label: "Signed in", whole: true, cell: (one) => html`<${Ago} at=${one.created_at} />` },
    { label: "Used", whole: true, cell: (one) => html`<${Ago} at=${one.used_at} />` },
    { label: "Ends", whole: true, cell: (one) => html`<${Ago} at=${one.ends_at} />` },
    { label: "End", whole: true, cell: (one) => {
      if (one.current) return html`<span class="quiet">this one</span>`;
      if (one.key !== me.id && !may(me, "keys.admin")) return "";
      return html`<button class="small danger" aria-label=${`End the session of ${one.name || one.key}`}
        onClick=${() => onEnd(one)}>End …</button>`;
    } },
  ];
}

const shown = (text) => (!text || text === HIDDEN ? "hidden" : text);

function Ending({ session, onEnded, onClose }) {
  const act = async () => {
    await call("DELETE", `/v1/sessions/${session.id}`);
    onEnded();
  };
  const says = html`<dl class="facts">
      <dt>Key</dt><dd>${session.name} <code>${session.key}</code></dd>
      <dt>Where</dt><dd>${shown(session.client)} at ${shown(session.address)}</dd>
      <dt>Signed in</dt><dd>${dated(session.created_at)}</dd>
    </dl>
    <p>The page is signed out within a second, with its streams. Whoever has the key may sign in again:
      to keep them out, suspend the key.</p>`;
  return html`<${Confirm} title="End this session?" says=${says} action="End the session"
    act=${act} onClose=${onClose} />`;
}
