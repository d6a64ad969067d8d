// The session of an embedded viewer: tickets come from the page around it, and are traded for tokens.
import { post, useToken } from "api/http";

// Messages to the page around this one, and from it; `deploy/embedding.md` has their shapes.
const WANTED = "audit-gateway.ticket-wanted";
const GIVEN = "audit-gateway.ticket";

// The ticket in the address, which is removed from there.
export function ticketOfAddress() {
  const ticket = new URLSearchParams(location.hash.slice(1)).get("ticket") || "";
  history.replaceState(null, "", location.pathname);
  return ticket;
}

// Origin of the page around this one, as the browser tells it; "" if it does not.
export function originAround() {
  const told = location.ancestorOrigins?.[0];
  if (told && told !== "null") return told;
  try {
    return document.referrer ? new URL(document.referrer).origin : "";
  } catch {
    return "";
  }
}

// Trades a ticket; whoever has asked holds the token from now on. `origin`: the page that gave it.
export async function trade(ticket, origin) {
  useToken("");
  const session = await post("/v1/viewer/session", { ticket });
  if (origin && session.origin !== origin) {
    throw new Error("The ticket was made for a page of another origin than the one around this.");
  }
  useToken(session.token);
  // It is kept where it is sent from, and nowhere else.
  return { ...session, token: undefined };
}

export function askForTicket(origin) {
  if (origin && parent !== window) parent.postMessage({ type: WANTED }, origin);
}

// Calls `take(ticket)` for tickets of the page around this one, if `origin()` is its origin.
export function onTicket(origin, take) {
  const heard = ({ source, origin: from, data }) => {
    if (source !== parent || from !== origin() || data?.type !== GIVEN) return;
    if (typeof data.ticket === "string") take(data.ticket);
  };
  addEventListener("message", heard);
  return () => removeEventListener("message", heard);
}
