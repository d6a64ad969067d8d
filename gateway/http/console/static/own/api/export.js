// Files of events and reports: each is fetched whole, and kept only when it has come whole.
import { request } from "api/http";

const TYPES = { csv: "text/csv", ndjson: "application/x-ndjson" };

// Saves the events of a query as a file. Raises a Problem, or an Error if it was cut.
export async function saveEvents(kind, query) {
  const response = await request("GET", "/v1/stream", {
    accept: TYPES[kind],
    query: { ...query, follow: false },
  });
  return save(response, `events.${kind}`);
}

// Saves the report of a review of access.
export async function saveReview(format, query) {
  return save(await request("GET", "/v1/review", { query: { ...query, format } }), `access-review.${format}`);
}

async function save(response, otherwise) {
  const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") || "");
  let content;
  try {
    content = await response.blob();
  } catch {
    throw new Error("The file was cut before its end; narrow the range, or try again.");
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name ? name[1] : otherwise;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  return { name: link.download, size: content.size };
}
