// Saved views: what is looked at is saved under a name, opened again and deleted.
import { useState } from "preact/hooks";
import { html } from "dom";
import { deleteView, saveView, savedViews, viewLink } from "state/views";
import { useLoad } from "state/load";
import { say } from "state/said";
import { Dialog } from "parts/dialog";
import { Choice, TextField } from "parts/fields";
import { Empty, Loaded } from "parts/states";
import { dated } from "parts/time";

const RELATIVE = "relative";
const FIXED = "fixed";

// `view`: `{query, since, until}` of the page; `fixed`, if there, is its range with fixed ends.
export function Views({ view, fixed }) {
  const [open, setOpen] = useState(false);
  return html`<button onClick=${() => setOpen(true)}>Views …</button>
    ${open ? html`<${ViewsDialog} view=${view} fixed=${fixed} onClose=${() => setOpen(false)} />` : null}`;
}

function ViewsDialog({ view, fixed, onClose }) {
  const loaded = useLoad(savedViews, []);
  return html`<${Dialog} title="Saved views" onClose=${onClose}>
    <${Loaded} from=${loaded}>${(views) => html`
      ${views.length
        ? html`<ul class="views">${views.map((one) => html`<${View} key=${one.name} view=${one}
            again=${loaded.again} onClose=${onClose} />`)}</ul>`
        : html`<${Empty}>You have saved no view yet.<//>`}
      <${Save} view=${view} fixed=${fixed} views=${views} onSaved=${onClose} />`}<//>
    <div class="actions"><button onClick=${onClose}>Close</button></div>
  <//>`;
}

function View({ view, again, onClose }) {
  const [asking, setAsking] = useState(false);
  const [problem, setProblem] = useState(null);
  const forget = async () => {
    try {
      await deleteView(view.name);
      say(`The view ${view.name} is deleted.`, () => saveView(view.name, view));
      again();
    } catch (error) {
      setProblem(error);
    }
  };
  return html`<li>
    <div class="view-name"><a href=${viewLink(view)} onClick=${onClose}>${view.name}</a>
      <div class="quiet">${toldOf(view)}</div></div>
    ${asking
      ? html`<span class="actions"><button class="small danger" onClick=${forget}>Delete it</button>
          <button class="small" onClick=${() => setAsking(false)}>Keep it</button></span>`
      : html`<button class="small" aria-label=${`Delete the view ${view.name}`}
          onClick=${() => setAsking(true)}>Delete …</button>`}
    ${problem ? html`<p class="problem" role="alert">${problem.message}</p>` : null}
  </li>`;
}

function Save({ view, fixed, views, onSaved }) {
  const [name, setName] = useState("");
  const [range, setRange] = useState(RELATIVE);
  const [problem, setProblem] = useState(null);
  const before = views.find((one) => one.name === name.trim());
  const saved = range === FIXED ? { ...view, ...fixed } : view;
  const submit = async (event) => {
    event.preventDefault();
    try {
      await saveView(name.trim(), saved);
      say(`The view ${name.trim()} is ${before ? "replaced" : "saved"}.`,
        before ? () => saveView(before.name, before) : () => deleteView(name.trim()));
      onSaved();
    } catch (error) {
      setProblem(error);
    }
  };
  return html`<form class="save-view" onSubmit=${submit}>
    <h3>Save this view</h3>
    <p class="quiet">${toldOf(saved)}. No event is saved: it shows what there is when it is opened.</p>
    <${TextField} label="Name" required maxlength="64" value=${name} onValue=${setName}
      hint=${before ? "Replaces the view of this name." : ""} error=${problem?.message} />
    ${fixed ? html`<${Choice} label="Range" value=${range} onValue=${setRange} options=${[
      [RELATIVE, `always the last ${view.since}`],
      [FIXED, `${dated(fixed.since)} – ${dated(fixed.until)}`]]} />` : null}
    <div class="actions"><button class="strong">${before ? "Replace it" : "Save"}</button></div>
  </form>`;
}

// "category auth.**, outcome denied; last 24h"
function toldOf({ query, since, until }) {
  const conditions = Object.entries(query).map(([name, value]) =>
    `${name} ${Array.isArray(value) ? value.join(" or ") : value}`);
  const from = since && dated(since) ? `from ${dated(since)}` : since ? `last ${since}` : "";
  const to = until ? `to ${dated(until) || until}` : "";
  const range = [from, to].filter(Boolean).join(" ") || "live";
  return `${conditions.join(", ") || "everything"}; ${range}`;
}
