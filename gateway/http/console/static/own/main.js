// The console: signs in, and shows the page that the address names.
import { render } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";
import { html } from "dom";
import { onSignedOut, setPage } from "api/http";
import { current, signOut } from "api/session";
import { Me, may } from "state/me";
import { useAddress } from "state/address";
import { Layout } from "parts/layout";
import { Failed, Loading } from "parts/states";
import { ShortcutHelp, useShortcuts } from "parts/shortcuts";
import { SignIn } from "pages/sign_in";
import { PAGES } from "pages/all";

const GONE = {
  code: "page_not_loaded",
  message: "This page could not be loaded: the gateway is away, or has another version now.",
};

function Console() {
  const [state, setState] = useState({ asking: true, me: null, why: "", problem: null });
  const ask = useCallback(async () => {
    setState({ asking: true, me: null, why: "", problem: null });
    try {
      setState({ asking: false, me: await current(), why: "", problem: null });
    } catch (problem) {
      const signedOut = problem.status === 401;
      setState({ asking: false, me: null, why: "", problem: signedOut ? null : problem });
    }
  }, []);
  useEffect(() => {
    onSignedOut((problem) => {
      setState((before) => (before.me
        ? { asking: false, me: null, why: problem.message, problem: null } : before));
    });
    ask();
  }, []);
  const onSignedIn = (me) => setState({ asking: false, me, why: "", problem: null });
  const leave = async () => {
    await signOut();
    setState({ asking: false, me: null, why: "You are signed out.", problem: null });
  };
  if (state.asking) return html`<p class="boot" role="status">Loading the console …</p>`;
  if (state.problem) return html`<main><${Failed} problem=${state.problem} again=${ask} /></main>`;
  if (!state.me) return html`<${SignIn} why=${state.why} onSignedIn=${onSignedIn} />`;
  return html`<${Me.Provider} value=${state.me}><${Pages} me=${state.me} onSignOut=${leave} /><//>`;
}

function Pages({ me, onSignOut }) {
  const { page: asked, parts, query } = useAddress();
  const [helping, setHelping] = useState(false);
  const help = useCallback(() => setHelping(true), []);
  const absent = useAbsent(me);
  const pages = PAGES.filter(({ name, needs }) => may(me, ...needs) && (name === asked || !absent.has(name)));
  useShortcuts(pages, help);
  if (!pages.length) {
    return html`<${Layout} pages=${[]} current="" me=${me} onSignOut=${onSignOut}>
      <div class="state"><h1>Nothing to see here</h1>
        <p>This key may do nothing that has a page. It may: ${me.actions.join(", ") || "nothing"}.</p>
      </div><//>`;
  }
  const shown = pages.find(({ name }) => name === asked) || pages[0];
  setPage(shown.name);
  return html`<${Layout} pages=${pages} current=${shown.name} me=${me} onSignOut=${onSignOut}>
      <${Shown} key=${shown.name} page=${shown} parts=${parts} query=${query} /><//>
    ${helping ? html`<${ShortcutHelp} pages=${pages} onClose=${() => setHelping(false)} />` : null}`;
}

// A page, whose module is loaded when it is first gone to.
function Shown({ page, parts, query }) {
  const [{ component, failed }, setLoaded] = useState({ component: null, failed: false });
  useEffect(() => {
    page.load().then(
      (loaded) => setLoaded({ component: loaded, failed: false }),
      () => setLoaded({ component: null, failed: true }),
    );
  }, [page]);
  if (failed) return html`<${Failed} problem=${GONE} again=${() => location.reload()} />`;
  return component ? html`<${component} parts=${parts} query=${query} />` : html`<${Loading} />`;
}

// Names of the pages with nothing to show: those that say so, by `present(me)`, stay out of the
// navigation until they are known to have something. An address leads to them all the same.
function useAbsent(me) {
  const unsure = PAGES.filter(({ present, needs }) => present && may(me, ...needs));
  const [absent, setAbsent] = useState(() => new Set(unsure.map(({ name }) => name)));
  const appear = (name) => setAbsent((before) => new Set([...before].filter((one) => one !== name)));
  useEffect(() => {
    for (const { name, present } of unsure) {
      // One that cannot be asked for is shown, and says why.
      present(me).then((is) => is && appear(name), () => appear(name));
    }
  }, [me]);
  return absent;
}

render(html`<${Console} />`, document.getElementById("app"));
