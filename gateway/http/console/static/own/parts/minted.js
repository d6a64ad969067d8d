// A new key, which is shown this once: to be copied, downloaded, or put into ready lines.
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "dom";
import { holdView } from "state/address";
import { say } from "state/said";
import { Copy } from "parts/copy";
import { Dialog } from "parts/dialog";

// What follows a file of `tail`; the files of deploy/shippers have the rest.
const VECTOR = `sources:
  audit:
    type: file
    include: [/var/log/audit/events.ndjson, "/var/log/audit/events.ndjson.[0-9]*"]
    read_from: beginning
    max_line_bytes: 524288`;
const FILEBEAT = `filebeat.inputs:
  - type: filestream
    id: audit-gateway
    paths: [/var/log/audit/events.ndjson, "/var/log/audit/events.ndjson.[0-9]*"]
    file_identity.native: ~
    prospector.scanner.fingerprint.enabled: false
    parsers:
      - ndjson: {target: audit}`;

// Lines for programs that may be used with the key; none of them holds it.
function linesOf(url, actions) {
  const live = [
    ["curl, follow live", `curl -N -H "Authorization: Bearer $KEY" -H "Accept: application/x-ndjson" ${url}/v1/stream`],
    ["A file that has every event once", `AUDIT_GATEWAY_KEY=$KEY audit-gateway tail --url ${url} --from start --output /var/log/audit/events.ndjson --rotate-size 100MiB`],
    ["Vector, behind that file", VECTOR],
    ["Filebeat, behind that file", FILEBEAT],
  ];
  const pages = [["curl, the newest page", `curl -H "Authorization: Bearer $KEY" "${url}/v1/events?order=desc"`]];
  return [...(actions.includes("stream") ? live : []), ...(actions.includes("pull") ? pages : [])];
}

const actionsOf = (key) => key.grants.flatMap((grant) => grant.actions);

// `onDone` is called once somebody says that the key is stored.
export function Minted({ made, onDone }) {
  const [asking, setAsking] = useState(false);
  // Where somebody wanted to go, if it was not by Done.
  const leaving = useRef(null);
  const free = useRef(null);
  useEffect(() => {
    free.current = holdView((leave) => {
      leaving.current = leave;
      setAsking(true);
    });
    return free.current;
  }, []);
  const download = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${made.key}\n`], { type: "text/plain" }));
    link.download = `${made.name.replace(/[^\w.-]+/g, "-") || "key"}.key`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  const done = () => {
    free.current();
    say(`The key ${made.name} is made.`);
    if (leaving.current) leaving.current();
    else onDone(made);
  };
  const stay = () => {
    leaving.current = null;
    setAsking(false);
  };
  return html`<section class="state" aria-label="The new key">
    <h2>The key, shown this once</h2>
    <p><code class="secret">${made.key}</code></p>
    <div class="actions"><${Copy} text=${made.key} label="Copy the key" />
      <button onClick=${download}>Download as a file</button>
      <button class="strong" onClick=${() => setAsking(true)}>Done</button></div>
    ${linesOf(location.origin, actionsOf(made)).map(([label, text]) => html`<h3>${label}</h3><pre tabindex="0">${text}</pre>
      <${Copy} text=${text} label="Copy" />`)}
    ${asking ? html`<${Dialog} title="Is it stored?" onClose=${stay}>
      <p>Nobody can show the key again; another one would have to be made.</p>
      <div class="actions"><button onClick=${stay}>Back to the key</button>
        <button class="strong" onClick=${done}>It is stored</button></div><//>` : null}
  </section>`;
}
