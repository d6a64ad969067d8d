// Explain: whether a key may do something, and which of its grants say so.
import { useState } from "preact/hooks";
import { html } from "dom";
import { post } from "api/http";
import { Choice, TextField } from "parts/fields";
import { Failed } from "parts/states";

const ACTIONS = ["pull", "stream", "ingest"];
const NEW = { action: "pull", category: "", tenant: "", address: "", at: "" };

export function Explain({ id }) {
  const [asked, setAsked] = useState(NEW);
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState(null);
  const set = (name) => (value) => setAsked((before) => ({ ...before, [name]: value }));
  const ask = async (event) => {
    event.preventDefault();
    const given = Object.fromEntries(Object.entries(asked).filter(([, value]) => value.trim()));
    setFound(null);
    setProblem(null);
    try {
      setFound(await post("/v1/authz/explain", { key: id, ...given }));
    } catch (error) {
      setProblem(error);
    }
  };
  const text = (label, name, placeholder) => html`<${TextField} label=${label} value=${asked[name]}
    onValue=${set(name)} placeholder=${placeholder} />`;
  return html`<h2>Explain</h2>
    <form class="selection" onSubmit=${ask}>
      <${Choice} label="Action" value=${asked.action} options=${ACTIONS} onValue=${set("action")} />
      ${text("Category of an event", "category", "auth.login")}
      ${text("Its tenant", "tenant", "acme")}
      ${text("Address", "address", "any")}
      ${text("At", "at", "now")}
      <div class="field"><span>May it?</span><button>Explain</button></div>
    </form>
    ${problem ? html`<${Failed} problem=${problem} />` : null}
    ${found ? html`<p class="state" role="status"><span class=${`status ${found.decision === "allow" ? "ok" : "bad"}`}>
      ${found.decision === "allow" ? "allowed" : "denied"}</span> <code>${found.reason_code}</code></p>
      <pre tabindex="0">${JSON.stringify({ grants: found.grants, nearest: found.nearest }, null, 2)}</pre>` : null}`;
}
