// Whether there is any destination, which the navigation asks.
import { get } from "api/http";
import { may } from "state/me";

// Whether the page is in the navigation: not where nothing is declared and nothing may be made.
export async function anyDestination(me) {
  if (may(me, "destinations.admin")) return true;
  const { destinations } = await get("/v1/destinations", {}, { background: true });
  return destinations.length > 0;
}
