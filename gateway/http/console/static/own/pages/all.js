// All pages, in the order of the navigation. `needs`: one of these actions shows it;
// `present(me)`, if there, tells whether it has anything to show.
import { Destinations, anyDestination } from "pages/destinations";
import { Findings } from "pages/findings";
import { Live } from "pages/live";
import { Streams } from "pages/streams";

export const PAGES = [
  { name: "live", title: "Live", key: "l", needs: ["stream"], component: Live },
  { name: "findings", title: "Findings", key: "f", needs: ["usage.read"], component: Findings },
  { name: "streams", title: "Streams", key: "s", needs: ["ops.read", "stream"], component: Streams },
  { name: "destinations", title: "Destinations", key: "d", needs: ["ops.read"], component: Destinations,
    present: anyDestination },
];
