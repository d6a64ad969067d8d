// Signing in and out.
import { address, call, get, useCsrf } from "api/http";

async function about(session) {
  useCsrf(session.csrf);
  const me = await get("/v1/me");
  return { ...me, session };
}

// Who is signed in. Raises a Problem with status 401 for nobody.
export async function current() {
  return about(await get("/v1/session"));
}

export async function signIn(key) {
  return about(await call("POST", "/v1/session", { body: { key } }));
}

export async function signOut() {
  await call("DELETE", "/v1/session");
}

// What the identity provider is called that people may sign in by; "" if there is none.
export function provider() {
  return document.querySelector("meta[name=identity-provider]")?.content || "";
}

// Leads to the provider, and back to the view that is shown now.
export function signInAddress() {
  return address("/v1/session/oidc", { to: location.hash.replace(/^#\/?/, "") });
}
