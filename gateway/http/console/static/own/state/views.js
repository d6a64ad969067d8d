// Saved views: queries with a range, which belong to whoever has signed in.
import { call, get } from "api/http";
import { link } from "state/address";

const path = (name) => `/v1/views/${encodeURIComponent(name)}`;

export const savedViews = async (options) => (await get("/v1/views", {}, options)).views;

export const saveView = (name, { query, since, until }) =>
  call("PUT", path(name), { body: { query, since: since || "", until: until || "" } });

export const deleteView = (name) => call("DELETE", path(name));

// Where a view is opened: one with a range on Investigate.
export function viewLink({ query, since, until }) {
  return since || until
    ? link("investigate", { ...query, since, until }) : link("live", query);
}
