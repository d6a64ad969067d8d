// An embedded viewer: a part of the log in a frame of another page, which gives it tickets.
import { render } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { html } from "dom";
import { onSignedOut } from "api/http";
import { askForTicket, onTicket, originAround, ticketOfAddress, trade } from "api/viewer";
import { Failed } from "parts/states";
import { Viewer } from "pages/viewer";

const BEFORE_END_MS = 60000;
const AGAIN_MS = 10000;
const GONE = "viewer_ended";
const ticket = ticketOfAddress();

function Embedded() {
  const [session, setSession] = useState(null);
  const [problem, setProblem] = useState(null);
  const around = useRef(originAround());
  const asking = useRef(0);
  const ask = useCallback(() => {
    clearTimeout(asking.current);
    askForTicket(around.current);
    asking.current = setTimeout(ask, AGAIN_MS);
  }, []);
  const take = useCallback(async (given) => {
    clearTimeout(asking.current);
    try {
      const next = await trade(given, around.current);
      around.current = next.origin;
      setSession(next);
      setProblem(null);
    } catch (error) {
      setProblem(error);
      // A ticket that was used or is over may be followed by one that is not.
      if (error.code === "invalid_ticket") ask();
    }
  }, []);
  useEffect(() => onTicket(() => around.current, take), []);
  useEffect(() => {
    onSignedOut((refused) => {
      if (refused.code === GONE) ask();
      else if (refused.code !== "invalid_ticket") setProblem(refused);
    });
    if (ticket) take(ticket);
    else ask();
  }, []);
  useEffect(() => {
    if (!session) return undefined;
    const left = new Date(session.expires_at) - Date.now() - BEFORE_END_MS;
    const timer = setTimeout(ask, Math.max(left, 0));
    return () => clearTimeout(timer);
  }, [session]);
  useEffect(() => {
    if (session) document.documentElement.className = `embedded theme-${session.theme} embedded-${session.columns.length}`;
  }, [session]);
  if (session && !(problem && problem.status === 401)) {
    return html`<${Viewer} options=${session} />`;
  }
  if (problem && problem.code !== "invalid_ticket") {
    return html`<main><${Failed} problem=${problem} /></main>`;
  }
  return html`<main><h1 class="hidden">Audit log</h1>
    <p class="state" role="status">Waiting for the page around this one …</p></main>`;
}

const app = document.getElementById("app");
app.replaceChildren();
render(html`<${Embedded} />`, app);
