// Times and numbers, as people read them.

const HOURS = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const DAY = { year: "numeric", month: "2-digit", day: "2-digit" };
const ZONE_KEY = "audit.zone";
const listeners = new Set();

export function zone() {
  return localStorage.getItem(ZONE_KEY) === "utc" ? "UTC" : undefined;
}

// What the zone of all times on the page is called.
export function zoneName() {
  return zone() || Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";
}

export function toggleZone() {
  localStorage.setItem(ZONE_KEY, zone() ? "local" : "utc");
  formats.clear();
  for (const listener of listeners) listener();
}

export function onZone(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const formats = new Map();

function formatted(name, options, moment) {
  let format = formats.get(name);
  if (!format) {
    format = new Intl.DateTimeFormat("sv-SE", { ...options, timeZone: zone() });
    formats.set(name, format);
  }
  return format.format(moment);
}

// 19:47:22.104
export function clock(text) {
  const moment = new Date(text);
  if (Number.isNaN(moment.getTime())) return text || "";
  return formatted("clock", { ...HOURS, fractionalSecondDigits: 3 }, moment).replace(",", ".");
}

// 2026-11-28 19:47:22
export function dated(text) {
  const moment = new Date(text);
  if (!text || Number.isNaN(moment.getTime())) return "";
  return formatted("dated", { ...DAY, ...HOURS }, moment);
}

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

// 4 d, 12 min
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  for (const [unit, size] of UNITS) {
    if (whole >= size) return `${Math.floor(whole / size)} ${unit}`;
  }
  return "0 s";
}

// in 31 d, 2 min ago
export function relative(text, now = Date.now()) {
  if (!text) return "";
  const seconds = (new Date(text).getTime() - now) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  return seconds > 0 ? `in ${span(seconds)}` : `${span(-seconds)} ago`;
}

const numbers = new Intl.NumberFormat("en");

export function count(number) {
  return number === undefined || number === null ? "" : numbers.format(number);
}

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(number) {
  let left = number || 0;
  let unit = 0;
  while (left >= 1024 && unit < SIZES.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${unit && left < 10 ? left.toFixed(1) : Math.round(left)} ${SIZES[unit]}`;
}
