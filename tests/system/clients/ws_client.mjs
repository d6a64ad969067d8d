// Prints each event of a stream, as JSON strings, up to the last one.
//   node ws_client.mjs URL KEY LAST_ACTION [SUBPROTOCOL]
// The key goes into a header without a subprotocol, beside the subprotocol otherwise.
import WebSocket from "ws";

const [url, key, lastAction, subprotocol] = process.argv.slice(2);
const bearer = `base64url.bearer.authorization.audit.${Buffer.from(key).toString("base64url")}`;
// The gateway pings every second.
const quietMilliseconds = 2500;
let begin = "from=start";

function connect() {
  const socket = subprotocol
    ? new WebSocket(`${url}?${begin}`, [subprotocol, bearer])
    : new WebSocket(`${url}?${begin}`, { headers: { Authorization: `Bearer ${key}` } });
  let quiet;
  const alive = () => {
    clearTimeout(quiet);
    quiet = setTimeout(() => socket.terminate(), quietMilliseconds);
  };
  let done = false;
  alive();
  socket.on("open", () => {
    if (socket.protocol !== (subprotocol ?? "")) throw new Error(`got ${socket.protocol}`);
  });
  socket.on("ping", alive);
  socket.on("message", (data, isBinary) => {
    alive();
    if (isBinary) throw new Error("a binary frame");
    const message = JSON.parse(data);
    const event = subprotocol ? message.event : message;
    begin = `after=${(event ?? message).cursor}`;
    if (!event) return;
    const text = data.toString();
    console.log(JSON.stringify(subprotocol ? text.slice('{"type":"event","event":'.length, -1) : text));
    done ||= event.action === lastAction;
    if (done) socket.close();
  });
  // "close" follows.
  socket.on("error", () => {});
  socket.on("close", () => {
    clearTimeout(quiet);
    if (!done) setTimeout(connect, 50);
  });
}

connect();
