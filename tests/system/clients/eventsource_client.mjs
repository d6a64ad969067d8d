// Prints the data of each event of a stream, as JSON strings, up to the last one.
//   node eventsource_client.mjs URL KEY LAST_ACTION
// Coming back after a cut is left to the package.
import { EventSource } from "eventsource";

const [url, key, lastAction] = process.argv.slice(2);
// The package's own timer does not keep the process while it waits to come back.
const staying = setInterval(() => {}, 60_000);
const source = new EventSource(url, {
  fetch: (input, init) =>
    fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${key}` } }),
});
source.onmessage = (event) => {
  const { action, cursor } = JSON.parse(event.data);
  if (event.lastEventId !== cursor) throw new Error(`id ${event.lastEventId}, cursor ${cursor}`);
  console.log(JSON.stringify(event.data));
  if (action !== lastAction) return;
  source.close();
  clearInterval(staying);
};
source.onerror = (error) => {
  if (source.readyState === EventSource.CLOSED) throw new Error(error.message);
};
