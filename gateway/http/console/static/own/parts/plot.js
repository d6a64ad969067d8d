// A drawing of uPlot in an element: drawn again for another colour scheme or zone, and as wide as
// there is room.
import { useEffect, useState } from "preact/hooks";
import { onZone } from "parts/time";

const LEAST_WIDTH = 200;

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// `draw(element, width)` returns the drawing, or null for none; it is called when one of `inputs`
// changes, too.
export function usePlot(box, draw, inputs) {
  const [looks, setLooks] = useState(0);
  useEffect(() => {
    const again = () => setLooks((before) => before + 1);
    const media = matchMedia("(prefers-color-scheme: dark)");
    media.addEventListener("change", again);
    const silent = onZone(again);
    return () => {
      media.removeEventListener("change", again);
      silent();
    };
  }, []);
  useEffect(() => {
    const element = box.current;
    const width = () => Math.max(LEAST_WIDTH, element.clientWidth);
    const plot = draw(element, width());
    if (!plot) return undefined;
    const watcher = new ResizeObserver(() => plot.setSize({ width: width(), height: plot.height }));
    watcher.observe(element);
    return () => {
      watcher.disconnect();
      plot.destroy();
    };
  }, [...inputs, looks]);
}
