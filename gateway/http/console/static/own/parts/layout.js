// The frame of all pages: navigation, who is signed in, what was just done.
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "dom";
import { link } from "state/address";
import { say, useSaid } from "state/said";
import { BreakGlass } from "parts/break_glass";
import { onZone, toggleZone, zoneName } from "parts/time";

// `pages`: each `{name, title, key}`; `key` is pressed behind `g` to go there.
export function Layout({ pages, current, me, onSignOut, children }) {
  const [, redraw] = useState(0);
  useEffect(() => onZone(() => redraw((before) => before + 1)), []);
  const title = pages.find(({ name }) => name === current)?.title || "Console";
  useEffect(() => {
    document.title = `${title} · Audit log gateway`;
  }, [title]);
  return html`<a class="skip" href="#main" onClick=${skip}>Skip to the page</a>
    <header class="top">
      <a class="brand" href=${link("live")}>Audit log gateway</a>
      <span class="who">${me.name || me.id} <code>${me.id}</code></span>
      <button class="small" onClick=${toggleZone} title="Times are shown in this zone">
        ${zoneName()}</button>
      <button class="small" onClick=${onSignOut}>Sign out</button>
    </header>
    <${BreakGlass} me=${me} />
    <nav aria-label="Pages"><ul>
      ${pages.map(({ name, title: shown, key }) => html`<li>
        <a href=${link(name)} aria-current=${name === current ? "page" : undefined}
          aria-keyshortcuts=${`g ${key}`}>${shown}</a></li>`)}
    </ul></nav>
    <main id="main" tabindex="-1">${children}</main>
    <${Said} />`;
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

// The heading of a page, which gets the focus when the page is gone to.
export function Heading({ children, actions }) {
  const element = useRef(null);
  useEffect(() => element.current.focus({ preventScroll: true }), []);
  return html`<div class="heading">
    <h1 ref=${element} tabindex="-1">${children}</h1>
    ${actions ? html`<div class="actions">${actions}</div>` : null}
  </div>`;
}

export function Said() {
  const said = useSaid();
  return html`<div class="said" role="status" aria-live="polite">
    ${said.map(({ number, text, undo }) => html`<p key=${number}>${text}
      ${undo ? html`<button class="small" onClick=${() => undone(undo)}>Undo</button>` : null}</p>`)}
  </div>`;
}

async function undone(undo) {
  try {
    await undo();
  } catch (problem) {
    say(`It could not be undone: ${problem.message}`);
  }
}
