// A chart of numbers over time (uPlot). Whoever does not see it has the same in a table.
import { useRef } from "preact/hooks";
import { html } from "dom";
import { colour, usePlot } from "parts/plot";
import { count, dated, zone } from "parts/time";

const HEIGHT = 220;
const DAY = 86400;
// Whole numbers alone.
const INCREMENTS = [...Array(15).keys()].flatMap((zeros) => [1, 2, 5].map((one) => one * 10 ** zeros));

// `times`: seconds since 1970; `lines`: each `{label, values, dashed}`. `label` says what it shows; `told(number)`
// writes a value.
export function Chart({ label, times, lines, told = count }) {
  const box = useRef(null);
  const draw = (element, width) => new window.uPlot(
    optionsOf(lines, told, width), [times, ...lines.map(({ values }) => values)], element);
  usePlot(box, draw, [times, JSON.stringify(lines)]);
  return html`<div class="chart" ref=${box} role="img" aria-label=${label}></div>`;
}

function optionsOf(lines, told, width) {
  const axis = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    tzDate: zone() ? (at) => window.uPlot.tzDate(new Date(at * 1000), "Etc/UTC") : undefined,
    scales: { y: { range: (_, __, most) => [0, Math.max(1, most)] } },
    axes: [
      { ...axis, size: 32, values: (_, moments, __, ___, step) => moments.map((at) => momentOf(at, step)) },
      { ...axis, size: 70, incrs: INCREMENTS, values: (_, numbers) => numbers.map(told) },
    ],
    series: [{}, ...lines.map(({ label, dashed }) => ({
      label,
      stroke: colour(dashed ? "quiet" : "accent"),
      width: 2,
      dash: dashed ? [4, 4] : undefined,
      fill: dashed ? undefined : `${colour("accent")}22`,
      points: { show: false },
    }))],
  };
}

// The hour, and the day where one begins.
function momentOf(at, step) {
  const [day, hour] = dated(new Date(at * 1000).toISOString()).split(" ");
  return step >= DAY || hour === "00:00:00" ? day.slice(5) : hour.slice(0, 5);
}
