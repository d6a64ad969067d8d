"""Document of a key: what it is for, what it can and cannot see, and who answers for it. Pure.

Facts become blocks (headings, tables, lists, code), and blocks become Markdown or HTML in
`gateway.oversight.review.document_text`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from gateway.access.keys.descent import can_issue_keys
from gateway.access.keys.key import Key, KeyAnswer
from gateway.access.policy.attributed_grant import AttributedGrant, NamedGrant
from gateway.clock import Moment, format_time
from gateway.event import EventJson
from gateway.json_members import about
from gateway.oversight.review.explain import EndedMaker
from gateway.oversight.review.sentences import (
    can_sentences,
    denial_sentences,
    grant_sentences,
    limits_of,
)

UNUSED_DAYS = 30
SAMPLES = 10
_NOT_KNOWN = about("Names of grants of which the asking key may not see whether they were.")
Unused = Annotated[list[str] | None, about("Names of grants that were of no use.")]
NotKnown = Annotated[list[str] | None, _NOT_KNOWN]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a key at `now` (seconds since 1970). `last_use` is `{"at", "address", "client"}`,
    as far as the reader sees it; `rotation_chain` is oldest first; `ended_issuer` is its
    nearest issuer that has ended, and how.

    `unused` are grants without use since `looked_since`, `not_known` those whose use the reader
    cannot see; None: accesses were not examined. `samples` are events as JSON, as the key would see
    them.
    """

    key: Key
    grants: tuple[AttributedGrant, ...]
    now: float
    rotation_chain: tuple[Key, ...] = ()
    ended_issuer: tuple[str, str] | None = None
    last_use: dict[str, Any] | None = None
    unused: tuple[AttributedGrant, ...] | None = None
    not_known: tuple[AttributedGrant, ...] = ()
    looked_since: float = 0.0
    samples: tuple[bytes, ...] = ()
    samples_note: str = ""


class Block(msgspec.Struct, frozen=True):
    """Part of a document. `rows` of a table are pairs; those of other kinds are texts."""

    kind: Literal["title", "heading", "text", "list", "table", "code"]
    rows: tuple[Any, ...]


class KeyDocument(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The document for programs."""

    key: KeyAnswer
    generated_at: Moment
    can: list[str]
    cannot: list[str]
    masks: list[str]
    drops: list[str]
    pseudonymizes: list[str]
    grants: list[NamedGrant]
    maker_ended: EndedMaker | None = None
    rotations: list[dict[str, str]]
    last_use: dict[str, str] | None
    unused_since: Moment | None
    unused: Unused
    not_known: NotKnown
    samples: list[EventJson]
    samples_note: str


def as_json(facts: Facts) -> KeyDocument:
    """Document of a key for programs."""
    known = facts.unused is not None
    return KeyDocument(
        key=facts.key.public(facts.now), generated_at=format_time(facts.now),
        can=_can(facts), cannot=_cannot(facts),
        masks=_hidden(facts, "mask"), drops=_hidden(facts, "drop"),
        pseudonymizes=_hidden(facts, "pseudonymize"),
        grants=[one.public() for one in facts.grants],
        maker_ended=facts.ended_issuer and EndedMaker(*facts.ended_issuer),
        rotations=_rotations(facts), last_use=facts.last_use,
        unused_since=format_time(facts.looked_since) if known else None,
        unused=[one.name for one in facts.unused or ()] if known else None,
        not_known=[one.name for one in facts.not_known] if known else None,
        samples=list(map(msgspec.Raw, facts.samples)), samples_note=facts.samples_note,
    )  # fmt: skip


def blocks(facts: Facts) -> list[Block]:
    """Document of a key for people."""
    key = facts.key
    made = [
        Block("title", (f"Key {key.name}",)),
        Block("text", (key.purpose,)),
        Block("table", tuple(_summary(facts))),
        Block("heading", ("What it can do",)),
        _sentences(_can(facts), "Nothing: it has no grants."),
        Block("heading", ("What it cannot do",)),
        _sentences(_cannot(facts), ""),
    ]
    if deviations := _deviations(facts):
        heading = Block("heading", ("Grants that count otherwise than they are written",))
        made += [heading, _sentences(deviations, "")]
    if rotations := _rotations(facts):
        lines = [
            f"{one['id']}, made at {one['created_at']}, {one['state']}"
            + (": this key" if one["id"] == key.id else "")
            for one in rotations
        ]
        made += [Block("heading", ("Rotations",)), _sentences(lines, "")]
    if facts.unused is not None:
        made += [
            Block("heading", (f"Grants without use since {format_time(facts.looked_since)[:10]}",)),
            _sentences(
                [_named(one) for one in facts.unused],
                "None is known." if facts.not_known else "None: all of them are used.",
            ),
        ]
        if facts.not_known:
            made += [
                Block("heading", ("Grants that may have been without use",)),
                Block("text", ("Whoever asked may not see all events that would tell.",)),
                _sentences([_named(one) for one in facts.not_known], ""),
            ]
    made.append(Block("heading", ("Events as this key sees them",)))
    if facts.samples_note:
        made.append(Block("text", (facts.samples_note,)))
    if facts.samples:
        made.append(Block("code", tuple(sample.decode() for sample in facts.samples)))
    made.append(
        Block("text", (f"Made at {format_time(facts.now)} from the key's state at that time.",))
    )
    return made


def _summary(facts: Facts) -> list[tuple[str, str]]:
    key, public = facts.key, facts.key.public(facts.now)
    rows = [
        ("Id", key.id),
        ("State", public.state),
        ("Owner", key.owner or "nobody is named"),
        ("Made", public.created_at),
        ("Expires", public.expires_at),
    ]
    if key.roles:
        rows.append(("Roles", ", ".join(key.roles)))
    for title, member in (
        ("Made by", "created_by"),
        ("Stops at the latest", "drains_until"),
        ("Replaced by", "successor"),
        ("Replaces", "predecessor"),
        ("Suspended", "suspended_at"),
        ("Suspended until", "suspended_until"),
        ("Reason of that", "suspended_reason"),
        ("Revoked", "revoked_at"),
        ("Reason of that", "revoked_reason"),
        ("Reviewed", "reviewed_at"),
        ("Reviewed by", "reviewed_by"),
    ):
        if value := getattr(public, member):
            rows.append((title, value))
    if masked := _hidden(facts, "mask"):
        rows.append(("Masked", ", ".join(masked)))
    if dropped := _hidden(facts, "drop"):
        rows.append(("Left out", ", ".join(dropped)))
    if named := _hidden(facts, "pseudonymize"):
        rows.append(("Pseudonymized", ", ".join(named)))
        if public.pseudonym_domain:
            rows.append(("Pseudonyms shared in", public.pseudonym_domain))
    for limit, value in key.limits.public().items():
        rows.append((f"Limit of {limit.replace('_', ' ')}", str(value) if value else "none"))
    rows.append(("Last use", _last_use(facts)))
    return rows


def _last_use(facts: Facts) -> str:
    use = facts.last_use
    if use is None:
        return "none is known"
    client = f" ({use['client']})" if use.get("client") else ""
    return f"{use['at']} from {use.get('address') or 'an unknown address'}{client}"


def _can(facts: Facts) -> list[str]:
    return can_sentences([one.grant for one in facts.grants])


def _cannot(facts: Facts) -> list[str]:
    denials = denial_sentences(one.grant for one in facts.grants)
    if facts.ended_issuer and can_issue_keys(one.grant for one in facts.grants):
        issuer, how = facts.ended_issuer
        denials.append(
            f"Make, resume or widen keys and roles: the key {issuer}, which this key was made "
            f"with, is {how}."
        )
    return denials + limits_of([one.grant for one in facts.grants])


def _deviations(facts: Facts) -> list[str]:
    """Grants that count otherwise than written, in words."""
    return [f"{one.name}: {wrong}" for one in facts.grants for wrong in one.deviations()]


def _rotations(facts: Facts) -> list[dict[str, str]]:
    """Keys of the rotation chain; none if there was no rotation."""
    if len(facts.rotation_chain) < 2:
        return []
    return [
        {"id": one.id, "created_at": format_time(one.created_at), "state": one.state(facts.now)}
        for one in facts.rotation_chain
    ]


def _hidden(facts: Facts, way: Literal["mask", "drop", "pseudonymize"]) -> list[str]:
    paths = {
        path
        for one in facts.grants
        if one.grant.fields is not None
        for path in getattr(one.grant.fields, way)
    }
    return sorted(paths)


def _named(one: AttributedGrant) -> str:
    return f"{one.name}: {' '.join(grant_sentences(one.grant))}"


def _sentences(sentences: list[str], none: str) -> Block:
    return Block("list", tuple(sentences)) if sentences else Block("text", (none,))
