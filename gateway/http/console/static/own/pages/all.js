// All pages, in the order of the navigation. `needs`: one of these actions shows it; `load` brings
// its module, which the first visit to another page does without; `present(me)`, if there, tells
// whether it has anything to show.
import { anyDestination } from "state/destinations";

export const PAGES = [
  { name: "live", title: "Live", key: "l", needs: ["stream"],
    load: () => import("pages/live").then((page) => page.Live) },
  { name: "investigate", title: "Investigate", key: "i", needs: ["pull"],
    load: () => import("pages/investigate").then((page) => page.Investigate) },
  { name: "keys", title: "Keys", key: "k", needs: ["keys.read"],
    load: () => import("pages/keys").then((page) => page.Keys) },
  { name: "review", title: "Review", key: "v", needs: ["keys.read"],
    load: () => import("pages/review").then((page) => page.Review) },
  { name: "roles", title: "Roles", key: "r", needs: ["keys.read"],
    load: () => import("pages/roles").then((page) => page.Roles) },
  { name: "findings", title: "Findings", key: "f", needs: ["usage.read"],
    load: () => import("pages/findings").then((page) => page.Findings) },
  { name: "streams", title: "Streams", key: "s", needs: ["ops.read", "stream"],
    load: () => import("pages/streams").then((page) => page.Streams) },
  { name: "destinations", title: "Destinations", key: "d", needs: ["ops.read"],
    present: anyDestination,
    load: () => import("pages/destinations").then((page) => page.Destinations) },
  { name: "usage", title: "Usage", key: "u", needs: ["usage.read"],
    load: () => import("pages/usage").then((page) => page.Usage) },
  { name: "health", title: "Health", key: "h", needs: ["ops.read"],
    load: () => import("pages/health").then((page) => page.Health) },
  { name: "sessions", title: "Sessions", key: "e", needs: ["stream", "pull", "keys.read", "usage.read", "ops.read"],
    load: () => import("pages/sessions").then((page) => page.Sessions) },
];
