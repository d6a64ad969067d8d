// The range of time that is looked at: the last so much, or from one time to another.
import { useEffect, useState } from "preact/hooks";
import { html } from "dom";
import { Choice, TextField } from "parts/fields";
import { dated } from "parts/time";

export const LAST = [
  ["15m", "last 15 minutes"], ["1h", "last hour"], ["6h", "last 6 hours"], ["24h", "last 24 hours"],
  ["7d", "last 7 days"], ["30d", "last 30 days"],
];
const FIXED = "fixed";
export const DEFAULT_SINCE = "24h";
const DURATION = /^\d+[smhd]$/;

export const isDuration = (text) => DURATION.test(text);

// Seconds since 1970 as RFC 3339.
export const moment = (seconds) => new Date(seconds * 1000).toISOString();

// `onChange({since, until})`; a range that has no `until` ends now.
export function Range({ since, until, onChange }) {
  const fixed = Boolean(until) || !isDuration(since);
  const [from, setFrom] = useState(since);
  const [to, setTo] = useState(until);
  useEffect(() => {
    setFrom(since);
    setTo(until);
  }, [since, until]);
  const options = [...LAST, [FIXED, fixed ? `${dated(since) || since} – ${dated(until) || "now"}` : "from … to …"]];
  const choose = (value) => {
    if (value !== FIXED) onChange({ since: value, until: "" });
    else onChange({ since: moment(Date.now() / 1000 - 3600), until: moment(Date.now() / 1000) });
  };
  const submit = (event) => {
    event.preventDefault();
    onChange({ since: from, until: to });
  };
  return html`<div class="range">
    <${Choice} label="Range" value=${fixed ? FIXED : since} options=${options} onValue=${choose} />
    ${fixed ? html`<form class="range-fixed" onSubmit=${submit}>
      <${TextField} label="From" value=${from} onValue=${setFrom} />
      <${TextField} label="To" value=${to} onValue=${setTo} placeholder="now" />
      <button>Apply</button></form>` : null}
  </div>`;
}
