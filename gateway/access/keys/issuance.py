"""Issuance of keys from requests of administrators. Pure, but for the random secret."""

from __future__ import annotations

import re
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.access.credentials.pepper import pepper_id
from gateway.access.credentials.token import HOLDS_KEY, digest, holds_token, new_token
from gateway.access.grants.grant import Grant, GrantsOfBody, parse_grants
from gateway.access.grants.role import RolesOfBody, parse_role_names
from gateway.access.keys.key import DOMAIN_PATTERN, PSEUDONYM_DOMAIN, Key
from gateway.access.keys.key_limits import LIMITS, NO_LIMITS, KeyLimits, parse_limits
from gateway.access.keys.operator import Actor, actor_name, operator_of
from gateway.access.keys.rotation_schedule import ROTATE, RotationSchedule, parse_rotate
from gateway.clock import Duration, MomentText, format_time, parse_duration, parse_rfc3339
from gateway.errors import InvalidRequest
from gateway.json_members import Body, about, parse_body, reference

_CODE = "invalid_key_request"
MAX_TEXT = 256
# Longest life of a break-glass key.
BREAK_GLASS_SECONDS = 4 * 3600
_DOMAIN = re.compile(DOMAIN_PATTERN, re.ASCII)
# Members that are taken from another key where the request has none.
_COPIED = ("grants", "roles", "limits", "rotate")
_COPY_OF = about(
    "The id of a key whose grants, roles, limits and rotate it gets where it names none."
)
_Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]


class IssuanceTerms(Protocol):
    """Terms of the settings for the lives of keys, in seconds."""

    @property
    def default_life(self) -> int:
        """Life of a key that is requested without an expiry; 0: none is given."""

    @property
    def max_life(self) -> int:
        """Longest life of a key."""

    @property
    def max_overlap(self) -> int:
        """Longest time that a rotated key works beside its successor."""


class NewKeyBody(Body, frozen=True):
    """Body of `POST /v1/keys`; members of type `Any` are checked by functions of their own."""

    name: Annotated[_Text, about("What to call the key.")]
    purpose: Annotated[_Text, about("The one thing it is for.")]
    owner: Annotated[_Text, about("Who answers for it.")]
    expires_in: Duration | UnsetType = UNSET
    expires_at: MomentText | UnsetType = UNSET
    grants: GrantsOfBody = UNSET
    roles: RolesOfBody = UNSET
    limits: Annotated[Any, LIMITS, reference("KeyLimits")] = UNSET
    pseudonym_domain: Annotated[str, PSEUDONYM_DOMAIN] | UnsetType = UNSET
    rotate: Annotated[Any, ROTATE, reference("RotationSchedule")] = UNSET
    copy_of: Annotated[str, _COPY_OF] | UnsetType = UNSET


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for a key, with a life in seconds or the time at which it expires. `expiry_given`:
    whether either was asked for. `copied` are the members to be taken from the key `copy_of`, and
    `managed_by` is set by declarations alone."""

    name: str
    purpose: str
    owner: str
    grants: tuple[Grant, ...]
    roles: tuple[str, ...]
    limits: KeyLimits
    life: float
    expires_at: float | None
    expiry_given: bool
    pseudonym_domain: str = ""
    break_glass: bool = False
    rotate: RotationSchedule | None = None
    managed_by: str = ""
    copy_of: str = ""
    copied: tuple[str, ...] = ()

    def taken_from(self, key: Key) -> KeyRequest:
        """The request with the members that it takes from another key. Raises for a grant that
        would be refused today."""
        found: dict[str, Any] = {name: getattr(key, name) for name in self.copied}
        if "grants" in found:
            found["grants"] = parse_grants([grant.shown() for grant in key.grants])
        return msgspec.structs.replace(self, **found, copied=())


def new_key(
    *,
    name: str,
    purpose: str,
    owner: str,
    grants: tuple[Grant, ...],
    now: float,
    life: float,
    pepper: bytes,
    roles: tuple[str, ...] = (),
    limits: KeyLimits = NO_LIMITS,
    by: Actor = "gateway",
    pseudonym_domain: str = "",
    rotate: RotationSchedule | None = None,
    managed_by: str = "",
) -> tuple[Key, str]:
    """Key to store, and its token, which is shown once. `life` is in seconds."""
    key_id, token = new_token()
    key = Key(
        id=key_id,
        digest=digest(pepper, token),
        pepper=pepper_id(pepper),
        name=name,
        purpose=purpose,
        owner=owner,
        grants=grants,
        roles=roles,
        limits=limits,
        created_at=now,
        created_by=actor_name(by),
        changed_by=actor_name(by),
        changed_from=operator_of(by),
        expires_at=now + life,
        pseudonym_domain=pseudonym_domain,
        rotate=rotate,
        managed_by=managed_by,
    )
    return key, token


def parse_key_request(body: Any, terms: IssuanceTerms) -> KeyRequest:
    """Parse the decoded body of `POST /v1/keys`, or the options of the command line in that
    form."""
    asked = parse_body(body, NewKeyBody, code=_CODE)
    if asked.limits is None:
        raise _invalid("limits: null would be no limits at all; give an object, or leave it out")
    expires_at = _expires_at(asked)
    life = 0.0 if expires_at is not None else _life(asked, terms)
    request = KeyRequest(
        name=asked.name,
        purpose=asked.purpose,
        owner=asked.owner,
        grants=() if asked.grants is UNSET else parse_grants(asked.grants),
        roles=() if asked.roles is UNSET else parse_role_names(asked.roles),
        limits=NO_LIMITS if asked.limits is UNSET else parse_limits(asked.limits),
        life=life,
        expires_at=expires_at,
        expiry_given=asked.expires_in is not UNSET or expires_at is not None,
        pseudonym_domain=_domain(asked.pseudonym_domain),
        rotate=None if asked.rotate is UNSET else parse_rotate(asked.rotate, terms.max_overlap),
        copy_of="" if asked.copy_of is UNSET else asked.copy_of,
        copied=() if asked.copy_of is UNSET else _omitted(asked),
    )
    for member in ("name", "purpose", "owner"):
        check_text(member, getattr(asked, member))
    return request


def key_from_request(
    request: KeyRequest, *, now: float, max_life: int, pepper: bytes, by: Actor = "gateway"
) -> tuple[Key, str]:
    """Requested key to store, and its token, which is shown once."""
    life = request.life if request.expires_at is None else request.expires_at - now
    check_life(life, max_life)
    key, token = new_key(
        name=request.name,
        purpose=request.purpose,
        owner=request.owner,
        grants=request.grants,
        now=now,
        life=life,
        pepper=pepper,
        roles=request.roles,
        limits=request.limits,
        by=by,
        pseudonym_domain=request.pseudonym_domain,
        rotate=request.rotate,
        managed_by=request.managed_by,
    )
    return msgspec.structs.replace(key, break_glass=request.break_glass), token


def break_glass_request(reason: str, owner: str, roles: tuple[str, ...], life: str) -> KeyRequest:
    """Request for a key for an emergency, with a life such as `2h`. Its purpose is the reason."""
    for member, text in (("reason", reason), ("owner", owner)):
        check_text(member, text)
    try:
        seconds = parse_duration(life)
    except InvalidRequest as error:
        raise _invalid(f"expires: {error.detail}") from None
    if not 0 < seconds <= BREAK_GLASS_SECONDS:
        raise _invalid(
            f"a break-glass key lives {BREAK_GLASS_SECONDS // 3600} hours at most; make another "
            "one when that is over, or a key of `keys create` for what lasts longer"
        )
    return KeyRequest(
        name="break-glass", purpose=reason, owner=owner, grants=(),
        roles=parse_role_names(list(roles)), limits=NO_LIMITS, life=seconds, expires_at=None,
        expiry_given=True, break_glass=True,
    )  # fmt: skip


def bound_to_issuer(key: Key, issuer: Key, *, asked: bool, can_issue: bool) -> tuple[Key, bool]:
    """The key with a life that its issuer allows, and whether its life was cut.

    A key that can issue keys does not outlive its issuer. An expiry that was `asked` for is
    refused rather than cut in silence.
    """
    if not can_issue or key.expires_at <= issuer.expires_at:
        return key, False
    if asked:
        raise InvalidRequest(
            "a key that may administer keys does not outlive the key that makes it, which "
            f"expires at {format_time(issuer.expires_at)}; choose an earlier expiry or leave it "
            "out, or make the key with one that lives longer, or by the command line",
            code="outlives_maker",
        )
    return msgspec.structs.replace(key, expires_at=issuer.expires_at), True


def check_life(life: float, max_life: int) -> None:
    """Raise if a life (seconds) is over or longer than the settings allow."""
    if life <= 0:
        raise _invalid("the key would have expired already; choose a later expiry")
    if life > max_life:
        raise _invalid(
            f"a key may live {max_life // 86400} days at most (setting keys.max_life); "
            "choose an earlier expiry"
        )


def check_text(member: str, text: str) -> None:
    """Raise for a name, purpose or owner that a key cannot have."""
    if not text.strip() or len(text) > MAX_TEXT or not text.isprintable():
        raise _invalid(f"{member}: 1 to {MAX_TEXT} printable characters")
    if holds_token(text):
        raise _invalid(f"{member}: it holds a whole key, {HOLDS_KEY}")


def _omitted(asked: NewKeyBody) -> tuple[str, ...]:
    return tuple(name for name in _COPIED if getattr(asked, name) is UNSET)


def _domain(asked: str | UnsetType) -> str:
    if asked is UNSET:
        return ""
    if not _DOMAIN.fullmatch(asked):
        raise _invalid(
            "pseudonym_domain: a name of at most 64 characters a-z, 0-9, dot, - and _, such as "
            "siem; leave it out for pseudonyms that no other key shares"
        )
    return asked


def parse_expires_at(text: str) -> float:
    """Seconds since 1970 of the member `expires_at`."""
    try:
        return parse_rfc3339(text) / 1_000_000
    except ValueError as error:
        raise _invalid(f"expires_at: {error}") from None


def parse_expires_in(text: str) -> int:
    """Seconds of the member `expires_in`."""
    try:
        return parse_duration(text)
    except InvalidRequest as error:
        raise _invalid(f"expires_in: {error.detail}") from None


def _expires_at(asked: NewKeyBody) -> float | None:
    if asked.expires_at is UNSET:
        return None
    if asked.expires_in is not UNSET:
        raise _invalid("send either expires_in or expires_at")
    return parse_expires_at(asked.expires_at)


def _life(asked: NewKeyBody, terms: IssuanceTerms) -> float:
    if asked.expires_in is UNSET:
        life = terms.default_life
        if not life:
            raise _invalid(
                "expires_in or expires_at is required: no life is given to keys that name none "
                "(setting keys.default_life)"
            )
    else:
        life = parse_expires_in(asked.expires_in)
    # Checked before anything is opened for the request.
    check_life(life, terms.max_life)
    return life


def _invalid(detail: str) -> InvalidRequest:
    return InvalidRequest(detail, code=_CODE)
