// Templates: `html` makes elements of Preact. Text in them always becomes text nodes.
import { h } from "preact";
import htm from "htm";

export const html = htm.bind(h);
