// All pages, in the order of the navigation. `needs`: one of these actions shows it.
import { Live } from "pages/live";

export const PAGES = [
  { name: "live", title: "Live", key: "l", needs: ["stream"], component: Live },
];
