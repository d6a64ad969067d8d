// What a key did around a finding, as far as the session may see the records of it.
import { html } from "dom";
import { get } from "api/http";
import { useLoad } from "state/load";
import { Loaded, Partial } from "parts/states";
import { Table } from "parts/table";
import { clock, count, dated } from "parts/time";

const LIMIT = 50;
// A use is recorded a little after it happened, and repeats of it up to a minute after.
const BEFORE_MS = 60000;
const AFTER_MS = 120000;

const moved = (text, by) => new Date(new Date(text).getTime() + by).toISOString();

// The newest uses between the first and the last moment of a finding. The key's history, which is
// paged from its oldest record on, is asked first whether the session may see any: a selection of
// what it may not would count as unusual itself.
async function usesOf({ key, first_seen: first, last_seen: last }, options) {
  const { notice } = await get(`/v1/keys/${encodeURIComponent(key)}/history`, { limit: 1 }, options);
  if (notice) return { uses: [], notice, more: false };
  const { events, has_more: more } = await get("/v1/events", {
    resource: `key:${key}`, category: "gateway.access", order: "desc", limit: LIMIT,
    since: moved(first, -BEFORE_MS), until: moved(last, AFTER_MS),
  }, options);
  return { uses: events, notice: null, more };
}

const COLUMNS = [
  { label: "Recorded", whole: true, cell: ({ recorded_at: at }) => html`<time datetime=${at} title=${dated(at)}>${clock(at)}</time>` },
  { label: "What", cell: ({ action, outcome }) => html`${action}<div class="quiet">${outcome}</div>` },
  { label: "From", whole: true, cell: ({ source }) => source?.ip || "" },
  { label: "Details", cell: ({ reason, data }) => detailsOf(reason, data) },
];

function detailsOf(reason, data = {}) {
  const parts = [reason, data.path || data.route, data.code, data.count > 1 ? `${count(data.count)} times` : ""];
  return parts.filter(Boolean).join(" · ");
}

export function Uses({ finding }) {
  const loaded = useLoad((options) => usesOf(finding, options), [finding.id]);
  return html`<h3>Its uses then</h3>
    <${Loaded} from=${loaded}>${({ uses, notice, more }) => html`
      ${more ? html`<${Partial}>The newest ${LIMIT} are here.<//>` : null}
      ${uses.length
        ? html`<${Table} caption="Uses of the key" columns=${COLUMNS} rows=${uses} keyOf=${({ id }) => id} />`
        : html`<p class="quiet">${notice ? `You see none: ${notice.detail}.` : "None is recorded yet."}</p>`}`}<//>`;
}
