// Who is signed in, for all parts of the page.
import { createContext } from "preact";
import { useContext } from "preact/hooks";

export const Me = createContext(null);

export function useMe() {
  return useContext(Me);
}

// Whether the session may do one of these actions; what it may not is absent from the page.
export function may(me, ...actions) {
  return actions.some((action) => me.actions.includes(action));
}
