// A live stream over a WebSocket, as lines of text; it comes back from its cursor.
import { address, credentialProtocols, get, request } from "api/http";

const SUBPROTOCOL = "audit.v1.lines";
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15000;
const LAST_TERMINAL = 4999;
const FIRST_TERMINAL = 4500;
const CONTROL = '{"type":';
const CURSOR = /^\{"cursor":"([^"]+)"/;

// Opens the stream of a query. `on.lines(text)` gets lines of events, each with its cursor first;
// `on.control(message)` gaps and notices; `on.state(name, detail)` is called with `live`, `away`
// (it comes back by itself) or `ended`. `start`: where it begins, in place of now.
export function openStream(query, on, start = { from: "now" }) {
  let socket = null;
  let closed = false;
  let cursor = "";
  let pause = FIRST_PAUSE_MS;
  let timer = 0;

  const connect = () => {
    const begin = cursor ? { after: cursor, on_gap: "skip" } : start;
    const url = new URL(address("/v1/stream", { ...query, ...begin }), location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(url, [SUBPROTOCOL, ...credentialProtocols()]);
    let opened = false;
    socket.onopen = () => {
      opened = true;
      pause = FIRST_PAUSE_MS;
      on.state("live");
    };
    socket.onmessage = ({ data }) => taken(data);
    socket.onclose = ({ code, reason }) => {
      if (closed) return;
      if (code >= FIRST_TERMINAL && code <= LAST_TERMINAL) {
        on.state("ended", { code, reason: reasonOf(reason) });
        // The session may be over, which this tells the page.
        get("/v1/me", {}, { background: true }).catch(() => {});
        return;
      }
      if (opened) later();
      else explain();
    };
  };

  const taken = (text) => {
    if (text.startsWith(CONTROL)) {
      const message = JSON.parse(text);
      if (message.cursor) cursor = message.cursor;
      if (message.type === "gap" || message.type === "notice") on.control(message, text);
      return;
    }
    const last = text.lastIndexOf("\n") + 1;
    const found = CURSOR.exec(text.slice(last, last + 128));
    if (found) cursor = found[1];
    on.lines(text);
  };

  // Browsers do not tell why a handshake was refused: the same is asked in another way.
  const explain = async () => {
    const viewing = credentialProtocols().length > 0;
    const begin = cursor ? { after: cursor } : start;
    const options = { accept: "application/x-ndjson", background: true };
    try {
      const asked = { ...query, ...begin, on_gap: "skip", follow: false, limit: 1 };
      // Viewers may not ask for all that keys may.
      if (viewing) await get("/v1/me", {}, { background: true });
      else await request("GET", "/v1/stream", { ...options, query: asked });
      later();
    } catch (problem) {
      if (closed) return;
      // The page around a viewer gives another ticket.
      const passes = (viewing && problem.code === "viewer_ended") || problem.status === 0 || problem.status === 429 || problem.status >= 500;
      if (passes) later(problem.message);
      else on.state("ended", { code: problem.code, reason: problem.message });
    }
  };

  const later = (detail = "") => {
    if (closed) return;
    on.state("away", detail);
    timer = setTimeout(connect, pause * (0.75 + Math.random() / 2));
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  };

  connect();
  return () => {
    closed = true;
    clearTimeout(timer);
    socket?.close(1000);
  };
}

function reasonOf(text) {
  try {
    return JSON.parse(text).reason || text;
  } catch {
    return text;
  }
}
