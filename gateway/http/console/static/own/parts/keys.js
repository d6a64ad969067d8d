// What pages say of keys: states, last uses, and which of them want looking at.
import { html } from "dom";
import { dated, relative } from "parts/time";

const STATUS = {
  active: "ok", draining: "warn", suspended: "warn", expired: "bad", revoked: "bad", unreadable: "bad",
};

export const ENDED = new Set(["expired", "revoked"]);

// Keys that want looking at: what is said of them, and the conditions that find them.
export const FLAGS = {
  expiring: { label: "expiring", asks: { expiring: "14d" } },
  unused: { label: "unused", asks: { unused: "30d" } },
  never_used: { label: "never used", asks: { never_used: true } },
  findings: { label: "with findings", asks: { findings: true } },
};

export function KeyState({ state }) {
  return html`<span class=${`status ${STATUS[state] || "bad"}`}>${state}</span>`;
}

export function Moment({ at, what = "" }) {
  return html`<time datetime=${at} title=${dated(at)}>${what} ${relative(at)}</time>`;
}

export function LastUse({ use }) {
  if (!use) return html`<span class="quiet">never used</span>`;
  return html`used <${Moment} at=${use.at} />${use.address
    ? html` <div class="quiet">from ${use.address}</div>` : null}`;
}

// When it ends; of ended ones, when and how; of a person, when they signed in last.
export function Ending({ of }) {
  if (of.state === "revoked") return html`<${Moment} what="revoked" at=${of.revoked_at} />`;
  if (of.person) return html`<${Moment} what="person, signed in" at=${of.person.signed_in_at} />`;
  if (of.state === "expired") return html`<${Moment} what="expired" at=${of.drains_until || of.expires_at} />`;
  if (of.state === "draining") return html`<${Moment} what="stops" at=${of.drains_until} />`;
  return html`<${Moment} what="expires" at=${of.expires_at} />${of.rotate_by
    ? html`, <${Moment} what="rotates" at=${of.rotate_by} />` : null}`;
}

export function Sentences({ of, none }) {
  if (!of.length) return html`<p class="quiet">${none}</p>`;
  return html`<ul class="sentences">${of.map((one) => html`<li>${one}</li>`)}</ul>`;
}
