// Templates: `html` makes elements of Preact. Text in them always becomes text nodes, in which
// characters that are invisible, or turn the direction of writing, stand as their escapes in JSON.
import { h } from "preact";
import htm from "htm";

const UNSEEN = /[^\P{C}\t\n\r]|[\p{Zl}\p{Zp}]/gu;

function escaped(one) {
  const units = [...Array(one.length).keys()].map((at) => one.charCodeAt(at));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`).join("");
}

function seen(child) {
  if (typeof child === "string") return child.replace(UNSEEN, escaped);
  return Array.isArray(child) ? child.map(seen) : child;
}

export const html = htm.bind((type, props, ...children) => h(type, props, ...children.map(seen)));
