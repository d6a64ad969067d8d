// Calls of the gateway's HTTP interface, under the session's cookie, or the token of a viewer.

// A refusal, as its problem document (RFC 9457) says it; `status` 0: there was no answer.
export class Problem extends Error {
  constructor(status, members) {
    super(members.detail);
    this.status = status;
    this.code = members.code;
    this.requestId = members.request_id || "";
    this.retryAfter = members.retryAfter || 0;
    this.members = members;
  }
}

const BEARER = "base64url.bearer.authorization.audit.";
const AWAY = { code: "away", detail: "The gateway does not answer." };
let csrf = "";
let page = "";
let token = "";
let cookies = "same-origin";
let signedOut = () => {};

export function useCsrf(token) {
  csrf = token;
}

// Sends this token with all that follows, and no cookie.
export function useToken(text) {
  token = text;
  cookies = "omit";
}

// What a WebSocket offers beside its subprotocol, as browsers let it send no header.
export function credentialProtocols() {
  if (!token) return [];
  return [BEARER + btoa(token).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")];
}

// Names the page in the gateway's record of each look.
export function setPage(name) {
  page = name;
}

// Calls `listener` when the session is over.
export function onSignedOut(listener) {
  signedOut = listener;
}

// `query` holds strings, numbers, booleans or lists; empty ones are left out.
export function address(path, query = {}) {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "") pairs.append(name, String(one));
    }
  }
  const text = pairs.toString();
  return text ? `${path}?${text}` : path;
}

// `background`: no person has caused it, so that it does not keep the session.
export async function request(method, path, options = {}) {
  const { query, body, accept, background, signal, ifMatch } = options;
  const headers = { Accept: accept || "application/json" };
  if (page) headers["X-Audit-Page"] = `console/${page}`;
  if (token) headers.Authorization = `Bearer ${token}`;
  if (method !== "GET" && csrf) headers["X-Audit-CSRF"] = csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (background) headers["X-Audit-Background"] = "1";
  if (ifMatch) headers["If-Match"] = ifMatch;
  let response;
  try {
    response = await fetch(address(path, query), {
      method,
      headers,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: cookies,
      cache: "no-store",
      redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, AWAY);
  }
  if (response.ok) return response;
  throw await refusal(response);
}

async function refusal(response) {
  let members;
  try {
    members = await response.json();
  } catch {
    members = { code: "unreadable", detail: `The gateway answered ${response.status}.` };
  }
  members.retryAfter = Number(response.headers.get("Retry-After")) || 0;
  const problem = new Problem(response.status, members);
  if (response.status === 401) signedOut(problem);
  return problem;
}

// The JSON of an answer; null if it has none.
export async function call(method, path, options) {
  const response = await request(method, path, options);
  return response.status === 204 ? null : response.json();
}

export const get = (path, query, options = {}) => call("GET", path, { ...options, query });
export const post = (path, body = {}, options = {}) => call("POST", path, { ...options, body });
