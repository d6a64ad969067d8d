// The address of a view: `#/page/part?name=value`, which every state has, and which holds no data.
import { useEffect, useState } from "preact/hooks";
import { address } from "api/http";

export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [page = "", ...parts] = path.split("/").map(decode);
  return { page, parts, query: new URLSearchParams(query) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// `query` as that of a call.
export function link(page, query = {}, ...parts) {
  return address(["#", page, ...parts.map(encodeURIComponent)].join("/"), query);
}

// What asks before a view is left; null where nothing would be lost.
let holder = null;

// Calls `ask(go)` in place of leaving the view, until it calls `go`, or what is returned is called.
export function holdView(ask) {
  const closing = (event) => event.preventDefault();
  addEventListener("beforeunload", closing);
  const free = () => {
    if (holder === ask) holder = null;
    removeEventListener("beforeunload", closing);
  };
  holder = ask;
  return free;
}

export function go(to) {
  location.hash = to;
}

// As `go`, without a step in the history: for what is typed.
export function replace(to) {
  history.replaceState(null, "", to);
  dispatchEvent(new HashChangeEvent("hashchange"));
}

export function useAddress() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    let shown = location.hash;
    const changed = () => {
      const to = location.hash;
      if (holder && to !== shown) {
        history.replaceState(null, "", shown || "#");
        holder(() => go(to));
        return;
      }
      shown = to;
      setHash(to);
    };
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return parse(hash);
}
