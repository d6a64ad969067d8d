// Counts of a range, which may come in several answers, the newest first.
import { get } from "api/http";

// Hidden members cannot be counted by: they are left out, one after the other.
export async function counts(query, members, options) {
  let by = members;
  for (;;) {
    try {
      return await get("/v1/counts", { ...query, by: by.join(",") }, options);
    } catch (problem) {
      if (problem.code !== "hidden_by_mask" || !by.includes(problem.members.member)) throw problem;
      by = by.filter((name) => name !== problem.members.member);
    }
  }
}

// What two answers tell together, the second of them behind the first.
export function joined(newer, older) {
  const buckets = new Map(older.buckets.map((bucket) => [bucket.start, { ...bucket }]));
  for (const bucket of newer.buckets) {
    const there = buckets.get(bucket.start);
    if (there) there.count += bucket.count;
    else buckets.set(bucket.start, { ...bucket });
  }
  const sorted = [...buckets.values()].sort((a, b) => Date.parse(a.start) - Date.parse(b.start));
  const facets = {};
  for (const name of Object.keys(newer.facets || {})) {
    facets[name] = together(newer.facets[name], older.facets?.[name]);
  }
  return { ...older, until: newer.until, total: newer.total + older.total, buckets: sorted, facets };
}

// Of values beyond the most frequent, only how many events have them is known.
function together(newer, older) {
  if (!older) return newer;
  const values = new Map(newer.values.map(({ value, count }) => [value, count]));
  for (const { value, count } of older.values) values.set(value, (values.get(value) || 0) + count);
  const sorted = [...values].map(([value, count]) => ({ value, count })).sort((a, b) => b.count - a.count);
  return {
    values: sorted,
    distinct: Math.max(newer.distinct, older.distinct, sorted.length),
    others: newer.others + older.others,
    hidden: newer.hidden + older.hidden,
  };
}

const UNITS = { s: 1, m: 60, h: 3600, d: 86400 };

// Seconds of a step, or of a duration, such as `15m`.
export const stepSeconds = (step) => Number(step.slice(0, -1)) * UNITS[step.slice(-1)];
