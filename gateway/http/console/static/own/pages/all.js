// All pages, in the order of the navigation. `needs`: one of these actions shows it;
// `present(me)`, if there, tells whether it has anything to show.
import { Destinations, anyDestination } from "pages/destinations";
import { Findings } from "pages/findings";
import { Health } from "pages/health";
import { Keys } from "pages/keys";
import { Live } from "pages/live";
import { Roles } from "pages/roles";
import { Streams } from "pages/streams";
import { Usage } from "pages/usage";

export const PAGES = [
  { name: "live", title: "Live", key: "l", needs: ["stream"], component: Live },
  { name: "keys", title: "Keys", key: "k", needs: ["keys.read"], component: Keys },
  { name: "roles", title: "Roles", key: "r", needs: ["keys.read"], component: Roles },
  { name: "findings", title: "Findings", key: "f", needs: ["usage.read"], component: Findings },
  { name: "streams", title: "Streams", key: "s", needs: ["ops.read", "stream"], component: Streams },
  { name: "destinations", title: "Destinations", key: "d", needs: ["ops.read"], component: Destinations,
    present: anyDestination },
  { name: "usage", title: "Usage", key: "u", needs: ["usage.read"], component: Usage },
  { name: "health", title: "Health", key: "h", needs: ["ops.read"], component: Health },
];
