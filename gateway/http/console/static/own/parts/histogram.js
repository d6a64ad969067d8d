// Counts over time, as bars. Dragging over them chooses a range; a table says the same in numbers.
import { useRef } from "preact/hooks";
import { html } from "dom";
import { colour, usePlot } from "parts/plot";
import { count, dated, zone } from "parts/time";

const HEIGHT = 120;
const DAYS_FROM_SECONDS = 2 * 86400;

// `buckets`: each `{start, count}`, oldest first; `seconds`: length of one.
export function Histogram({ buckets, seconds, onRange }) {
  const box = useRef(null);
  const chosen = useRef(onRange);
  chosen.current = onRange;
  const draw = (element, width) => (buckets.length
    ? chart(element, width, buckets, seconds, (...range) => chosen.current(...range)) : null);
  usePlot(box, draw, [buckets, seconds]);
  const busy = buckets.filter((bucket) => bucket.count);
  return html`<div class="histogram">
    <div ref=${box} role="img" aria-label=${`Events over time, in ${buckets.length} steps`}></div>
    <details><summary>Numbers</summary>
      <table class="list"><thead><tr><th scope="col">From</th><th scope="col" class="number">Events</th></tr></thead>
        <tbody>${busy.map((bucket) => html`<tr key=${bucket.start}>
          <th scope="row" data-label="From"><button class="small" onClick=${() => {
            const start = Date.parse(bucket.start) / 1000;
            onRange(start, start + seconds);
          }}>${dated(bucket.start)}</button></th>
          <td class="number" data-label="Events">${count(bucket.count)}</td></tr>`)}</tbody></table>
    </details>
  </div>`;
}

// Of short ranges the time of day, of long ones the day.
function label({ min, max }) {
  const days = max - min > DAYS_FROM_SECONDS;
  return (at) => {
    const text = dated(new Date(at * 1000).toISOString());
    return days ? text.slice(0, 10) : text.slice(11, 16);
  };
}

function chart(element, width, buckets, seconds, onRange) {
  const starts = buckets.map((bucket) => Date.parse(bucket.start) / 1000);
  const axis = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 } };
  return new uPlot({
    width,
    height: HEIGHT,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { drag: { x: true, y: false, setScale: false }, points: { show: false } },
    scales: { x: { time: true, range: [starts[0], starts[starts.length - 1] + seconds] } },
    tzDate: (at) => (zone() ? uPlot.tzDate(new Date(at * 1000), zone()) : new Date(at * 1000)),
    axes: [{ ...axis, space: 70, values: (drawn, ticks) => ticks.map(label(drawn.scales.x)) }, { ...axis, size: 50, values: (_, ticks) => ticks.map((one) => count(one)) }],
    series: [{}, {
      fill: colour("accent"), width: 0, points: { show: false },
      paths: uPlot.paths.bars({ size: [0.9, 100], align: 1 }),
    }],
    hooks: {
      setSelect: [(drawn) => {
        const { left, width } = drawn.select;
        if (width < 2) return;
        onRange(drawn.posToVal(left, "x"), drawn.posToVal(left + width, "x"));
      }],
    },
  }, [starts, buckets.map((bucket) => bucket.count)], element);
}
