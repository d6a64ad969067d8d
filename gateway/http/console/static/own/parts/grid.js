// A grid of very many rows, of which it draws those in sight; all by keyboard.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { html } from "dom";

const ROW = 28;
const CARD = 52;
const AROUND = 8;
const NARROW = "(max-width: 600px)";

// Rows are numbered from 0, top first. `row(index)` is `{key, cells, kind}`; `onOpen(index)` opens
// one; `onScroll(isAtTop)` tells whether the newest is in sight.
export function Grid({ label, columns, count, row, selected, onOpen, onScroll }) {
  const box = useRef(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const [narrow, setNarrow] = useState(matchMedia(NARROW).matches);
  const [focused, setFocused] = useState(0);
  const size = narrow ? CARD : ROW;
  useEffect(() => {
    const media = matchMedia(NARROW);
    const changed = () => setNarrow(media.matches);
    media.addEventListener("change", changed);
    const watcher = new ResizeObserver(() => setHeight(box.current?.clientHeight || 600));
    watcher.observe(box.current);
    return () => {
      media.removeEventListener("change", changed);
      watcher.disconnect();
    };
  }, []);
  const wanted = useRef(-1);
  useLayoutEffect(() => {
    if (wanted.current < 0) return;
    box.current.querySelector(`[data-row="${wanted.current}"] button`)?.focus();
    wanted.current = -1;
  });
  const scrolled = () => {
    const at = box.current.scrollTop;
    setTop(at);
    onScroll?.(at < size);
  };
  const first = Math.max(0, Math.floor(top / size) - AROUND);
  const last = Math.min(count, Math.ceil((top + height) / size) + AROUND);
  const move = (to) => {
    const next = Math.max(0, Math.min(count - 1, to));
    setFocused(next);
    wanted.current = next;
    const element = box.current;
    if (next * size < element.scrollTop) element.scrollTop = next * size;
    else if ((next + 1) * size > element.scrollTop + element.clientHeight) {
      element.scrollTop = (next + 1) * size - element.clientHeight;
    }
    scrolled();
  };
  const page = Math.max(1, Math.floor(height / size) - 1);
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
  const pressed = (event) => {
    if (event.key in steps) move(focused + steps[event.key]);
    else if (event.key === "Home") move(0);
    else if (event.key === "End") move(count - 1);
    else return;
    event.preventDefault();
  };
  const rows = [];
  const tabbed = focused >= first && focused < last ? focused : Math.ceil(top / size);
  for (let index = first; index < last; index += 1) {
    const { key, cells, kind } = row(index);
    rows.push(html`<div role="row" key=${key} data-row=${index} aria-rowindex=${index + 2}
      class=${`grid-row ${kind || ""}`} aria-current=${selected === key ? "true" : undefined}
      style=${{ transform: `translateY(${index * size}px)`, height: `${size}px` }}
      onClick=${() => { setFocused(index); onOpen(index); }}>
      ${cells.map((cell, at) => html`<span role="cell" class=${`cell-${columns[at]?.name}`}>${
        at === 0 && onOpen
          ? html`<button class="row-open" tabindex=${index === tabbed ? 0 : -1}>${cell}</button>`
          : cell}</span>`)}
    </div>`);
  }
  return html`<div class="grid" role="table" aria-label=${label} aria-rowcount=${count + 1}
    aria-colcount=${columns.length}>
    <div role="rowgroup" class="grid-head"><div role="row" aria-rowindex="1" class="grid-row">
      ${columns.map(({ name, label: shown }) =>
        html`<span role="columnheader" class=${`cell-${name}`}>${shown}</span>`)}
    </div></div>
    <div role="rowgroup" class="grid-box" ref=${box} onScroll=${scrolled} onKeyDown=${pressed}>
      <div class="grid-space" role="presentation" style=${{ height: `${count * size}px` }}></div>
      ${rows}
    </div>
  </div>`;
}
