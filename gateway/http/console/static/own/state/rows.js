// Rows of a live view: lines of text in chunks, decoded when they are shown.

const CHUNK = 1000;
const MOST_ROWS = 100000;
const MOST_BYTES = 96 * 1024 * 1024;
const MOST_DECODED = 500;

// Rows have numbers, counted from 0 in the order of their arrival; `first` is the oldest that is
// still there, `end` one more than the newest.
export class Rows {
  constructor() {
    this.clear();
  }

  clear() {
    this.chunks = [];
    this.first = 0;
    this.end = 0;
    this.characters = 0;
    this.decoded = new Map();
  }

  // Adds lines, in order. Of the oldest, whole chunks make room.
  add(lines) {
    for (const line of lines) {
      let chunk = this.chunks[this.chunks.length - 1];
      if (!chunk || chunk.lines.length === CHUNK) {
        chunk = { lines: [], characters: 0 };
        this.chunks.push(chunk);
      }
      chunk.lines.push(line);
      chunk.characters += line.length;
      this.characters += line.length;
      this.end += 1;
    }
    while (this.chunks.length > 1
      && (this.end - this.first > MOST_ROWS || 2 * this.characters > MOST_BYTES)) {
      const dropped = this.chunks.shift();
      this.first += dropped.lines.length;
      this.characters -= dropped.characters;
    }
  }

  line(number) {
    const at = number - this.first;
    return this.chunks[Math.floor(at / CHUNK)]?.lines[at % CHUNK];
  }

  // The event of a row, or the control message that stands there; null for one that was dropped.
  get(number) {
    const known = this.decoded.get(number);
    if (known) return known;
    const line = number >= this.first && number < this.end ? this.line(number) : undefined;
    if (line === undefined) return null;
    if (this.decoded.size >= MOST_DECODED) {
      this.decoded.delete(this.decoded.keys().next().value);
    }
    const event = decode(line);
    this.decoded.set(number, event);
    return event;
  }
}

function decode(line) {
  try {
    return JSON.parse(line);
  } catch {
    return { type: "notice", detail: "A line could not be read." };
  }
}
