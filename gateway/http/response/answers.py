"""JSON bodies of answers: the encoding, and the source of their OpenAPI schemas.

Bodies that the command line prints, too, are declared elsewhere. Default members are omitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, defstruct, field

from gateway.access.grants.grant import Grant
from gateway.access.grants.pseudonym import PSEUDONYM_PATTERN
from gateway.access.grants.role import RoleAnswer
from gateway.access.keys.key import KeyAnswer
from gateway.access.policy.attributed_grant import NamedGrant
from gateway.access.usage.windows import UsageRow
from gateway.clock import Moment
from gateway.cursor import Cursor
from gateway.delivery.answer import (
    DeadLetterAnswer,
    DeletedDeadLetters,
    DestinationAnswer,
    TestAnswer,
)
from gateway.event import EventJson, Id, Members, Outcome, Port, Severity, Source, Tenant
from gateway.http.response.problem import ProblemAnswer
from gateway.json_members import about, reference
from gateway.oversight.detection.finding import FindingAnswer
from gateway.oversight.inventory.summary import KeySummary
from gateway.oversight.review.explain import DecisionAnswer
from gateway.oversight.review.pseudonym_search import FoundValue

_BEFORE = about("The events before it that the key sees, in the order of the log.")
_AFTER = about("Those behind it.")
_COMPLETE_AROUND = about("False: a bound of `[look]` has ended the search for more.")
_COMPLETE_COUNTS = about(
    "False: a bound has ended it. What is there is exact; what was recorded before `since` is not "
    "counted."
)
_BY_OUTCOME = about("Where `by` has `outcome`: how many have each.")
_NEXT = about("Send it as `after` for the next page; it stands on empty pages too.")
_MASKED = about("What the key's grants mask of this event.")
_PSEUDONYMIZED = about("What they replace by pseudonyms.")
_Hidden = Annotated[str, Meta(pattern=rf"^(\*\*\*|{PSEUDONYM_PATTERN})$")]
_TICKET = about(pattern=r"^alpt_[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+$")
_UNUSED_GRANTS = about(
    "Names of grants that were of no use; `null` for keys that were used: ask for their documents."
)
_DUPLICATES = about("Items that the tenant already had.")
_TRUNCATED = about("Items too deep or large, stored without a part of their `data`.")


class MaskedSource(Source):
    port: Port | _Hidden | UnsetType = UNSET  # type: ignore[assignment]


class EventAnswer(Members, kw_only=True, forbid_unknown_fields=False, omit_defaults=True):
    """Event of the log, sent as it is stored."""

    cursor: Cursor
    recorded_at: Moment
    time: Moment
    id: Id
    tenant: Tenant
    outcome: Outcome
    severity: Severity
    source: MaskedSource | UnsetType = UNSET
    masked: Annotated[tuple[str, ...], _MASKED] = ()
    pseudonymized: Annotated[tuple[str, ...], _PSEUDONYMIZED] = ()


class PageAnswer(Struct, omit_defaults=True):
    events: list[EventJson]
    cursor: Annotated[Cursor, _NEXT]
    has_more: bool
    gap: Annotated[Any, reference("Gap")] = None
    notice: dict[str, Any] | None = None
    lease: Annotated[str, about("Of a consumer: what acknowledges this page.")] = ""


class AroundAnswer(Struct):
    event: EventJson
    before: Annotated[list[EventJson], _BEFORE]
    after: Annotated[list[EventJson], _AFTER]
    complete: Annotated[bool, _COMPLETE_AROUND]


class CountedBucket(Struct, omit_defaults=True):
    start: Moment
    count: int
    outcome: Annotated[dict[str, int] | UnsetType, _BY_OUTCOME] = UNSET


class CountedValue(Struct):
    value: str | int
    count: int


class CountedFacet(Struct):
    values: Annotated[list[CountedValue], about("The most frequent first.")]
    distinct: int
    others: Annotated[int, about("Events with other values than these.")]
    hidden: Annotated[int, about("Events of which the key may not see the value.")]


class LookedAt(Struct):
    """Events of the range, whether they were counted or not."""

    first: Cursor
    last: Cursor
    events: int


class CountsAnswer(Struct):
    since: Annotated[Moment, about("Where it ends, looking back from the newest.")]
    until: Moment
    step: str
    total: int
    complete: Annotated[bool, _COMPLETE_COUNTS]
    buckets: Annotated[list[CountedBucket], about("Oldest first, also those without events.")]
    facets: dict[str, CountedFacet]
    looked: Annotated[LookedAt, about("The part of the log that this was counted in.")]
    next: Annotated[Cursor | None, about("Sent as `before` it counts the rest, if there is any.")]


class PreviewAnswer(CountsAnswer):
    samples: Annotated[list[EventJson], about("The newest, under the masks of both keys.")]
    can: Annotated[list[str], about("Sentences.")]
    cannot: Annotated[list[str], about("Sentences.")]
    exceeds: Annotated[list[Grant], about("What the asking key cannot give.")]


class RefusedItem(Struct):
    index: Annotated[int, Meta(ge=0)]
    path: Annotated[str, about("Empty: the item as a whole.")]
    reason: str


class Ingested(Struct):
    accepted: int
    duplicates: Annotated[int, _DUPLICATES]
    first_cursor: Cursor
    last_cursor: Cursor


class IngestedLeniently(Ingested, omit_defaults=True):
    rejected: list[RefusedItem]
    truncated: Annotated[Sequence[RefusedItem], _TRUNCATED] = ()


class IngestProgress(Struct, omit_defaults=True):
    """Line of the streaming way in. The last line has totals, and an error if it was cut short."""

    upto: Annotated[int, about("Items of the body, from its beginning, that are durable.")]
    last_cursor: Cursor
    rejected: Annotated[Sequence[RefusedItem], about("With `on_invalid=skip`.")] = ()
    truncated: Annotated[Sequence[RefusedItem], _TRUNCATED] = ()
    accepted: Annotated[int | UnsetType, about("In the last line, over all of the body.")] = UNSET
    duplicates: Annotated[int | UnsetType, _DUPLICATES] = UNSET
    error: Annotated[Any, reference("EventsProblem")] = UNSET


class HecResult(Struct, omit_defaults=True):
    """Answer of the HTTP Event Collector."""

    text: str
    code: Annotated[int, about("As Splunk documents them.")]
    number: Annotated[
        int | None, about("The first event that was refused; the others are stored.")
    ] = field(default=None, name="invalid-event-number")
    ack_id: Annotated[
        int | None, about("With a channel: what to ask `/services/collector/ack` for.")
    ] = field(default=None, name="ackId")
    detail: Annotated[str, about("What to do, for people.")] = ""
    request_id: str = ""


class HecAcks(Struct):
    acks: Annotated[dict[str, bool], about("By id, whether its events are durable.")]


class TicketAnswer(Struct):
    ticket: Annotated[str, _TICKET]
    expires_at: Moment


class KeyInUse(KeyAnswer, kw_only=True, omit_defaults=True):
    streams: Annotated[int, about("Streams that it has open.")]
    last_used: dict[str, str] | None


class ListedKey(KeyAnswer, kw_only=True, omit_defaults=True):
    scope: Annotated[list[str], about("What it can do, in sentences.")]
    last_used: Annotated[dict[str, str] | None, about("`null`: as far as known never.")]
    unused_grants: Annotated[list[str] | None, _UNUSED_GRANTS]
    age_days: int
    findings_open: Annotated[int | None, about("`null` without `usage.read`.")]


class MoreKeys(Struct):
    """Members behind a page of keys."""

    next: Annotated[str | None, about("Sent as `after` it asks for the next page, if any.")]
    found: Annotated[int, about("Keys that meet the conditions, on all pages.")]
    summary: KeySummary


class DeletedRole(Struct):
    name: str
    keys: list[str]


class UsageRows(Struct):
    id: str
    rows: list[UsageRow]


class ExplanationAnswer(DecisionAnswer, kw_only=True, omit_defaults=True):
    key: str
    action: str
    at: Moment


class ResolvedPseudonym(Struct):
    values: Annotated[list[FoundValue], about("Of all paths at which the value was found.")]
    scanned_to: Annotated[Cursor, about("Send it as `after` to look further.")]
    complete: Annotated[bool, about("Whether there is nothing left to look at.")]


class ConsumerLag(Struct):
    events: Annotated[int, about("Events of the log behind the position.")]
    seconds: Annotated[float, about("For how long the first of them is in the log.")]


class ConsumerReaderAnswer(Struct):
    since: Moment
    address: str
    client: str
    transport: str
    ack: str


class ConsumerAnswer(Struct, kw_only=True):
    name: str
    key: Annotated[str, about("The id of the key that it was used with last.")]
    mode: str
    state: Literal["connected", "idle", "overtaken"]
    cursor: Cursor
    sent: Cursor
    lag: ConsumerLag
    unacknowledged: int
    redelivered: int
    reader: ConsumerReaderAnswer | None
    selection: Annotated[
        dict[str, Any] | None, about("`null` until its first reader chooses, or a call does.")
    ]
    ack_delay: str
    ack_timeout: str
    max_unacked: int
    created_at: Moment
    acked_at: Moment | None


class Acknowledged(Struct):
    cursor: Annotated[Cursor, about("The position of the consumer.")]
    lag: ConsumerLag


class LimitStanding(Struct):
    limit: int
    left: int
    resets_in: Annotated[int, about("Seconds until all of it is left.")]


class TicketParameters(Struct):
    name: str
    value: str


class MeAnswer(Struct, omit_defaults=True):
    kind: Annotated[str, about(enum=["key", "person", "ticket", "viewer"])]
    id: Annotated[str, about("Id of the key.")]
    name: str
    purpose: str
    owner: str
    state: str
    expires_at: Moment
    can: Annotated[list[str], about("Sentences.")]
    cannot: Annotated[list[str], about("Sentences.")]
    actions: Annotated[list[str], about("That it may do now, from this address.")]
    grants: list[NamedGrant]
    masks: Annotated[list[str], about("Members that it does not see as they are.")]
    limits: Annotated[dict[str, LimitStanding], about("By name; without those that it has not.")]
    streams: Annotated[int, about("Open ones, of the process that answers.")]
    address_seen: str
    csrf: Annotated[str, about("Of a session: sent as `X-Audit-CSRF` with each change.")] = ""
    break_glass_until: Annotated[
        Moment,
        about("How long a key for an emergency works, for whoever may read keys or streams."),
    ] = ""
    parameters: Annotated[
        Sequence[TicketParameters], about("Of a ticket: those of its stream.")
    ] = ()


class GoneProblem(ProblemAnswer):
    earliest: Cursor
    latest: Cursor


class EventsProblem(ProblemAnswer):
    errors: list[RefusedItem]


# Lists that are sent while they are made.
KeyList = defstruct(
    "KeyList",
    [
        ("keys", list[ListedKey]),
        ("next", Annotated[str | None, about("With `limit`: the `after` of the next page.")], None),
        ("found", Annotated[int | UnsetType, about("With `limit`: on all pages.")], UNSET),
        ("summary", Annotated[KeySummary | UnsetType, about("With `limit`.")], UNSET),
    ],
)
RoleList = defstruct("RoleList", [("roles", list[RoleAnswer])])
DestinationList = defstruct("DestinationList", [("destinations", list[DestinationAnswer])])
DeadLetterList = defstruct("DeadLetterList", [("dead_letters", list[DeadLetterAnswer])])
ConsumerList = defstruct("ConsumerList", [("consumers", list[ConsumerAnswer])])
FindingList = defstruct("FindingList", [("findings", list[FindingAnswer])])
ANSWERS: tuple[type[Struct], ...] = (
    EventAnswer, PageAnswer, AroundAnswer, CountsAnswer, Ingested, IngestedLeniently,
    IngestProgress, HecResult, HecAcks,
    TicketAnswer, MeAnswer,
    KeyInUse, KeyList, RoleList, DeletedRole, FindingList,
    DestinationList, DeadLetterList,
    DeletedDeadLetters, TestAnswer, ConsumerAnswer, ConsumerList, Acknowledged, UsageRows,
    ExplanationAnswer, PreviewAnswer, ResolvedPseudonym, GoneProblem,
    EventsProblem, ProblemAnswer,
)  # fmt: skip
