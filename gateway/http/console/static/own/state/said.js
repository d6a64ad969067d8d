// What was done, said to everybody: in a corner of the page, and by screen readers.
import { useEffect, useState } from "preact/hooks";

const listeners = new Set();
const SHOWN_MS = 8000;
let number = 0;

// `undo`: a function that takes it back, if there is one.
export function say(text, undo = null) {
  number += 1;
  for (const listener of listeners) listener({ number, text, undo });
}

export function useSaid() {
  const [said, setSaid] = useState([]);
  useEffect(() => {
    const heard = (one) => {
      setSaid((before) => [...before.slice(-2), one]);
      setTimeout(() => setSaid((before) => before.filter((it) => it !== one)), SHOWN_MS);
    };
    listeners.add(heard);
    return () => listeners.delete(heard);
  }, []);
  return said;
}
