// What findings mean, in words. `deploy/unusual-activity.md` has the exact rules.

const SIGNALS = {
  denials: ["Refused again and again", "It was refused at least 5 times within 10 minutes."],
  forbidden_categories: ["Asked for categories out of its reach",
    "It named 3 or more categories within an hour of which it may see or write nothing."],
  probing: ["Tried out what is there",
    "It named 3 or more tenants, resources or actions within an hour that are out of its reach."],
  out_of_scope: ["Asked for what it cannot see",
    "It made 3 or more selections within an hour of which it can see nothing: often a mistyped name."],
  rate_limited: ["Far above its limits", "At least 120 requests within a minute were above the limits."],
  wrong_secret: ["Shown with wrong secrets",
    "The id of the key was shown 5 times or more within 10 minutes with a secret that is not its own."],
  deep_replay: ["Read from far back", "A read began at least 4 times as far back as ever before."],
  new_network: ["Used from a new network", "It came from a network that it never came from before."],
  dormant_woke: ["Used after a long rest", "It was used after 30 days or more without any use."],
  revoked_presented: ["Used though revoked", "It was shown after it had been revoked: it is still somewhere."],
  drained_presented: ["Used though replaced", "It was shown after its successor had replaced it."],
  silent_consumer: ["Does not read its stream",
    "A stream is open, and what waits for it was not taken for 5 minutes."],
  new_operator: ["New person at the command line",
    "Somebody used the command line over keys and roles who never did before."],
  odd_hour: ["Command line at an odd hour",
    "The command line was used 3 hours or more from any hour of the last 30 days."],
  id_conflict: ["Two events under one id",
    "An event was sent under an id that another event of its tenant has. Both are stored."],
  event_failed: ["An event could not be delivered",
    "A stream ended before an event that could not be matched, masked or encoded: a fault of the gateway."],
  destination_failing: ["A destination fails", "Nothing could be delivered to a destination for 5 minutes."],
  destination_rejecting: ["A receiver refuses events",
    "The receiver of a destination refuses events, which became dead letters."],
  consumer_stuck: ["A consumer does not get on",
    "Five connections within 10 minutes began at one position, with something behind it."],
  position_at_risk: ["Events may be deleted unread",
    "A consumer or destination has gone 80 % of the way to being overtaken by retention."],
  break_glass: ["Emergency key made",
    "A key for an emergency was made at the command line. Its purpose says why; it ends by itself."],
  maker_absent: ["Its maker stays away",
    "The person who made the key has not signed in for 90 days. Is somebody else to answer for it?"],
  rotation_failed: ["New secret not in use",
    "A rotation was not confirmed in time, or the new secret could not be placed. The successor is revoked, and the key works on."],
  clock_jump: ["The clock was set", "The clock of the gateway or its database was set by more than 2 seconds."],
  certificate_refused: ["New certificate unusable",
    "The files of the certificate have changed to ones that cannot be used. The earlier one serves on."],
  unreadable: ["Cannot be read", "This version cannot read the key or a role of it: it may do nothing."],
  invalid_grant: ["Has a grant that would be refused", "A grant of the key would be refused today."],
  volume: ["Far more events than usual",
    "It moves far more events than it usually does at this hour of the week. That is a likelihood."],
  request_volume: ["Far more requests than usual",
    "It sends far more requests than it usually does at this hour of the week. That is a likelihood."],
};
const LIKELY = new Set(["volume", "request_volume", "odd_hour"]);

export const SIGNAL_NAMES = Object.keys(SIGNALS);

export function titleOf(signal) {
  return SIGNALS[signal]?.[0] || signal;
}

export function whyOf(signal) {
  return SIGNALS[signal]?.[1] || "";
}

// Whether a rule was met, or it is a likelihood.
export function sureness(signal) {
  return LIKELY.has(signal) ? "likely" : "certain";
}
