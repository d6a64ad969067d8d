// Loading: what a page shows comes from a call that may wait, fail, or be asked again.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

const EMPTY = { loading: true, value: undefined, problem: null, since: 0 };

// `load(signal)` is called when one of `inputs` changes, on `again`, and every `seconds`. What was
// loaded stays while the gateway is away; `since` says from when it is.
export function useLoad(load, inputs, { seconds = 0 } = {}) {
  const [state, setState] = useState(EMPTY);
  const [turn, setTurn] = useState(0);
  const background = useRef(false);
  const current = useRef(load);
  current.current = load;
  useEffect(() => setState(EMPTY), inputs);
  useEffect(() => {
    const ending = new AbortController();
    const options = { signal: ending.signal, background: background.current };
    background.current = false;
    current.current(options).then(
      (value) => setState({ loading: false, value, problem: null, since: Date.now() }),
      (problem) => {
        if (problem.name === "AbortError") return;
        setState((before) => ({ ...before, loading: false, problem }));
      },
    );
    return () => ending.abort();
  }, [...inputs, turn]);
  useEffect(() => {
    if (!seconds) return undefined;
    const timer = setInterval(() => {
      if (document.hidden) return;
      background.current = true;
      setTurn((before) => before + 1);
    }, seconds * 1000);
    return () => clearInterval(timer);
  }, [seconds]);
  const again = useCallback(() => setTurn((before) => before + 1), []);
  return { ...state, again };
}
