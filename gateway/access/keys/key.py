"""Provisioning keys as they are stored: everything but the secret."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from gateway.access.grants.grant import Grant, Problems, defects_in
from gateway.access.keys.key_limits import LIMITS, NO_LIMITS, KeyLimits
from gateway.access.keys.operator import Operator, Person
from gateway.access.keys.rotation_schedule import ROTATE, RotationSchedule
from gateway.clock import Moment, format_time
from gateway.json_members import about

DOMAIN_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"
PSEUDONYM_DOMAIN = about(
    "Keys that share it have the same pseudonyms; else they are those of the key's own lineage.",
    pattern=f"^{DOMAIN_PATTERN}$",
)
State = Literal["active", "draining", "suspended", "expired", "revoked", "unreadable"]


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key. Times are seconds since 1970; for `digest` see
    `gateway.access.credentials.token`."""

    id: str
    digest: bytes
    # Id of the pepper of the digest; "" for keys from before peppers had ids.
    pepper: str = ""
    name: str
    purpose: str
    owner: str = ""
    grants: tuple[Grant, ...] = ()
    created_at: float
    expires_at: float
    roles: tuple[str, ...] = ()
    limits: KeyLimits = NO_LIMITS
    revoked_at: float | None = None
    revoked_reason: str = ""
    suspended_at: float | None = None
    suspended_until: float | None = None
    suspended_reason: str = ""
    throttled_until: float | None = None
    # After a rotation: the successor, and when this key stops at the latest.
    successor: str = ""
    drains_until: float | None = None
    predecessor: str = ""
    # While a rotation is held: the successor that waits to be confirmed; and of the successor,
    # until when it waits, and the overlap (seconds) that begins then. One that was revoked keeps
    # both.
    pending_successor: str = ""
    confirm_by: float | None = None
    held_overlap: int = 0
    # Domain of its pseudonyms; "" is that of its own lineage.
    pseudonym_domain: str = ""
    # How often it is to be rotated; its successors inherit that.
    rotate: RotationSchedule | None = None
    # Its declaration, as `<set>/<name>`; "" for keys that none declares. Only declarations change
    # it, and successors inherit it.
    managed_by: str = ""
    # Digest of the declared members as they were applied last.
    declared: str = ""
    # Its newest access review: when, by whom (a kid, or `cli:` and a user), and what was said.
    reviewed_at: float | None = None
    reviewed_by: str = ""
    reviewed_note: str = ""
    # For an emergency: it lives for hours, is never replaced, and is a finding while it lives.
    break_glass: bool = False
    # Of whom it holds the roles, and who alone may use it: there is no token of it.
    person: Person | None = None
    # The person who made it, if its issuer is one.
    created_by_name: str = ""
    # Its issuer: a kid, or `cli:` and a user; "" for keys from before that was stored.
    created_by: str = ""
    # The newest change and who made it: a kid, `cli:` and a user, or a program.
    change: str = "created"
    changed_by: str = "gateway"
    # Operator of a change by the command line.
    changed_from: Operator | None = None
    changed_at: float = 0.0
    revision: int = 0

    @property
    def unreadable(self) -> str:
        """Why its stored form cannot be read, if so; such a key may do nothing."""
        return ""

    @property
    def ends_at(self) -> float:
        """When the key expires or has drained."""
        return min(self.expires_at, self.drains_until or self.expires_at)

    def state(self, now: float) -> State:
        """`active`, `draining`, `suspended`, `expired` or `revoked`, which is for good; or
        `unreadable` where another version wrote it."""
        if self.unreadable:
            return "unreadable"
        if self.revoked_at is not None:
            return "revoked"
        # Like `ends_at`, without its calls, as each request asks.
        drains = self.drains_until
        if now >= self.expires_at or (drains and now >= drains):
            return "expired"
        until = self.suspended_until
        if self.suspended_at is not None and (until is None or now < until):
            return "suspended"
        return "active" if drains is None else "draining"

    @property
    def domain(self) -> str:
        """Name of the domain of its pseudonyms, which its successors inherit."""
        # No domain that is asked for has a colon.
        return self.pseudonym_domain or f"key:{self.id}"

    @property
    def shared_domain(self) -> str:
        """Domain of pseudonyms that it was made with; "" for that of its lineage."""
        return "" if ":" in self.pseudonym_domain else self.pseudonym_domain

    @property
    def rotate_by(self) -> float | None:
        """When it is to be rotated; None without a schedule, and once it was."""
        if self.rotate is None or self.drains_until is not None or self.revoked_at is not None:
            return None
        return self.created_at + self.rotate.every_seconds

    def throttled(self, now: float) -> bool:
        """Whether its limits are lowered for the time being."""
        return self.throttled_until is not None and now < self.throttled_until

    def public(self, now: float) -> KeyAnswer:
        """Members that administration shows, without the digest."""
        return KeyAnswer(
            id=self.id, name=self.name, purpose=self.purpose, owner=self.owner,
            state=self.state(now), roles=self.roles, problems=defects_in(self.grants),
            created_at=format_time(self.created_at), expires_at=format_time(self.expires_at),
            grants=tuple([grant.shown() for grant in self.grants]),
            limits=None if self.limits == NO_LIMITS else self.limits,
            revoked_at=_moment(self.revoked_at), revoked_reason=self.revoked_reason,
            suspended_at=_moment(self.suspended_at), suspended_reason=self.suspended_reason,
            suspended_until=_moment(self.suspended_until),
            throttled_until=_moment(self.throttled_until), unreadable=self.unreadable,
            drains_until=_moment(self.drains_until), created_by=self.created_by,
            successor=self.successor, predecessor=self.predecessor,
            pending_successor=self.pending_successor, confirm_by=_moment(self.confirm_by),
            pseudonym_domain=self.shared_domain,
            reviewed_at=_moment(self.reviewed_at), reviewed_by=self.reviewed_by,
            break_glass=self.break_glass,
            rotate=self.rotate, rotate_by=_moment(self.rotate_by),
            managed_by=self.managed_by, revision=self.revision,
            created_by_name=self.created_by_name,
            person=None if self.person is None else shown_person(self.person),
        )  # fmt: skip


class PersonAnswer(msgspec.Struct):
    """A person as administration shows them."""

    issuer: Annotated[str, about("The identity provider.")]
    subject: Annotated[str, about("Who it is there, for good.")]
    name: str
    signed_in_at: Moment


def shown_person(person: Person) -> PersonAnswer:
    """The person in an answer."""
    moment = format_time(person.signed_in_at)
    return PersonAnswer(person.issuer, person.subject, person.name, moment)


class KeyAnswer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A key as administration shows it."""

    id: Annotated[str, about(pattern="^[0-9A-Za-z]{12}$")]
    name: str
    purpose: str
    owner: str
    state: State
    created_at: Moment
    expires_at: Moment
    grants: tuple[Grant, ...]
    problems: Problems = []
    roles: tuple[str, ...] = ()
    limits: Annotated[KeyLimits | None, LIMITS] = None
    revoked_at: Moment = ""
    revoked_reason: str = ""
    suspended_at: Moment = ""
    suspended_until: Moment = ""
    suspended_reason: str = ""
    throttled_until: Moment = ""
    drains_until: Annotated[Moment, about("After a rotation: when it stops working.")] = ""
    successor: str = ""
    predecessor: str = ""
    pending_successor: Annotated[str, about("A successor that waits to be confirmed.")] = ""
    confirm_by: Annotated[Moment, about("Of a successor: until when it waits for that.")] = ""
    pseudonym_domain: Annotated[str, PSEUDONYM_DOMAIN] = ""
    created_by: Annotated[str, about("The id of the key that made it, or `cli:` and a user.")] = ""
    created_by_name: Annotated[str, about("The person who made it, if its maker is one.")] = ""
    person: Annotated[
        PersonAnswer | None,
        about("Who signs in by an identity provider: such a key has no token, and only roles."),
    ] = None
    reviewed_at: Annotated[Moment, about("When it was marked as reviewed last.")] = ""
    reviewed_by: Annotated[str, about("The id of the key that did that, or `cli:` and a user.")] = (
        ""
    )
    break_glass: Annotated[bool, about("Whether it was made for an emergency.")] = False
    rotate: Annotated[RotationSchedule | None, ROTATE] = None
    rotate_by: Annotated[Moment, about("When it is to be rotated, by its schedule.")] = ""
    managed_by: Annotated[str, about("Its declaration, as `<set>/<name>`.")] = ""
    revision: Annotated[int, about("Of its newest change; `ETag` has it, too.")] = 0
    unreadable: Annotated[str, about("Why this version cannot read it: it may do nothing.")] = ""


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else format_time(seconds)
