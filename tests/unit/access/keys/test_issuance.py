"""From what an administrator asks for to the key that is stored."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import to_builtins

from gateway.access.credentials.token import digest, key_id_of
from gateway.access.grants.grant import parse_grant
from gateway.access.keys.issuance import check_life, key_from_request, new_key, parse_key_request
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import NO_LIMITS
from gateway.access.keys.stored_grant import read_grant
from gateway.errors import InvalidRequest
from gateway.settings.declarations import KeySettings

NOW = 1_700_000_000.75
DAY = 86_400
PEPPER = b"p" * 32
TERMS = KeySettings(default_life=30 * DAY, max_life=90 * DAY)
GRANT = {"actions": ["stream"], "categories": ["auth.*"]}
LEAST: dict[str, Any] = {"name": "siem", "purpose": "SIEM forwarder", "owner": "ops"}


def asked(body: Any) -> tuple[Key, str]:
    request = parse_key_request(body, TERMS)
    return key_from_request(request, now=NOW, max_life=TERMS.max_life, pepper=PEPPER)


def refusal(body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        asked(body)
    caught.value.detail.encode()
    return caught.value


def test_the_least_request_makes_a_key_that_may_nothing_and_lives_the_default_time() -> None:
    key, token = asked(LEAST)
    assert (key.name, key.purpose, key.owner, key.grants) == ("siem", "SIEM forwarder", "ops", ())
    assert key.created_at == NOW
    assert key.expires_at == NOW + 30 * DAY
    assert key.revoked_at is None
    assert key_id_of(token) == key.id


def test_only_the_digest_of_the_token_is_kept() -> None:
    key, token = asked({**LEAST, "grants": [GRANT], "owner": "platform team"})
    assert key.digest == digest(PEPPER, token)
    assert token[18:] not in repr(key)
    assert key.grants == (parse_grant(GRANT),)
    assert key.owner == "platform team"


def test_every_key_is_new() -> None:
    one, other = asked(LEAST), asked(LEAST)
    assert one[0].id != other[0].id
    assert one[1] != other[1]


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1), ("1h30m", 5400), ("90d", 90 * DAY)])
def test_expires_in_is_a_duration_from_now(text: str, seconds: int) -> None:
    assert asked({**LEAST, "expires_in": text})[0].expires_at == NOW + seconds


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2023-11-15T00:00:00Z", "2023-11-15T00:00:00.000000Z"),
        ("2023-11-15T01:00:00.5+01:00", "2023-11-15T00:00:00.500000Z"),
        ("2024-01-01T12:34:56.123456Z", "2024-01-01T12:34:56.123456Z"),
        ("2023-11-14T22:13:21.25Z", "2023-11-14T22:13:21.250000Z"),
    ],
)
def test_expires_at_is_kept_to_the_microsecond(text: str, shown: str) -> None:
    key, _ = asked({**LEAST, "expires_at": text})
    assert key.public(NOW).expires_at == shown


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": 7}, "name"),
        ({"purpose": ""}, "purpose"),
        ({"purpose": ["x"]}, "purpose"),
        ({"purpose": " "}, "purpose"),
        ({"owner": None}, "owner"),
        ({"owner": ""}, "owner"),
        ({"owner": "a\x1b[31m"}, "owner"),
        ({"owner": "x" * 257}, "owner"),
        ({"expires_in": "0s"}, "expired already"),
        ({"expires_in": "90d1s"}, "90 days"),
        ({"expires_in": "999999999d"}, "90 days"),
        ({"expires_in": "soon"}, "expires_in"),
        ({"expires_in": "٣d"}, "expires_in"),
        ({"expires_in": 3600}, "expires_in"),
        ({"expires_in": None}, "expires_in"),
        ({"expires_at": "2023-11-14T22:13:20Z"}, "expired already"),
        ({"expires_at": "2023-11-14T22:13:20.75Z"}, "expired already"),
        ({"expires_at": "0001-01-01T00:00:00Z"}, "expired already"),
        ({"expires_at": "9999-12-31T23:59:59Z"}, "90 days"),
        ({"expires_at": "2023-11-31T00:00:00Z"}, "expires_at"),
        ({"expires_at": 1_700_000_000}, "expires_at"),
        ({"expires_in": "1d", "expires_at": "2023-12-01T00:00:00Z"}, "either"),
        ({"nmae": "x"}, "'nmae'"),
        ({"Grants": []}, "'Grants'"),
        ({"x" * 1000: 1}, "unknown member"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_by_name(
    change: dict[str, Any], named: str
) -> None:
    error = refusal({**LEAST, **change})
    assert error.code == "invalid_key_request"
    assert named in error.detail
    assert len(error.detail) < 300


@pytest.mark.parametrize("member", ["name", "purpose", "owner"])
def test_a_name_a_purpose_and_an_owner_are_required(member: str) -> None:
    body = {name: value for name, value in LEAST.items() if name != member}
    assert refusal(body).detail.startswith(member)


@pytest.mark.parametrize("body", [None, [], "x", 3, [LEAST]])
def test_the_body_is_an_object(body: Any) -> None:
    assert "JSON object" in refusal(body).detail


@pytest.mark.parametrize(
    "grants", [None, {}, "x", [None], [{"actions": ["stream"]}], [{**GRANT, "x": 1}]]
)
def test_grants_are_checked_like_everywhere(grants: Any) -> None:
    assert refusal({**LEAST, "grants": grants}).code == "invalid_grant"


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"events_per_secnd": 1}, "did you mean events_per_second?"),
        ({"rate": 1}, "there are requests_per_second, "),
        ({"events_per_second": -1}, "limits.events_per_second: a whole number"),
        ({"events_per_second": 1.5}, "limits.events_per_second: a whole number"),
        ({"events_per_second": True}, "limits.events_per_second: a whole number"),
        ({"events_per_second": "10"}, "limits.events_per_second: a whole number"),
        (["events_per_second"], "limits: an object"),
    ],
)
def test_limits_that_make_no_sense_are_refused_by_name(limits: Any, said: str) -> None:
    refused = refusal({**LEAST, "limits": limits})
    assert refused.code == "invalid_limits"
    assert said in refused.detail


def test_limits_of_its_own_stay_with_the_key() -> None:
    limits = {"events_per_second": 10, "concurrent_streams": 0}
    assert to_builtins(asked({**LEAST, "limits": limits})[0].public(NOW))["limits"] == limits
    assert "limits" not in to_builtins(asked({**LEAST, "limits": {}})[0].public(NOW))


def test_a_copy_takes_what_the_request_does_not_name_and_nothing_else() -> None:
    schedule = {"every": "30d", "overlap": "1d"}
    body = {**LEAST, "name": "first", "grants": [GRANT], "roles": ["auditor"], "rotate": schedule,
            "limits": {"events_per_second": 10}, "pseudonym_domain": "siem"}  # fmt: skip
    original, _ = asked(body)
    copied = {**LEAST, "copy_of": original.id}

    def members(body: Any) -> tuple[Any, ...]:
        request = parse_key_request(body, TERMS).taken_from(original)
        key, _ = key_from_request(request, now=NOW, max_life=TERMS.max_life, pepper=PEPPER)
        return key.name, key.grants, key.roles, key.limits, key.rotate, key.pseudonym_domain

    taken = original.grants, original.roles, original.limits, original.rotate
    assert members(copied) == ("siem", *taken, "")
    none = {"grants": [], "roles": [], "limits": {}, "rotate": None}
    assert members({**copied, **none}) == ("siem", (), (), NO_LIMITS, None, "")


def test_a_copy_is_refused_for_a_grant_that_would_be_refused_today() -> None:
    original, _ = asked(LEAST)
    stored = read_grant(b'{"actions":["stream"],"categories":["auth"],"tenants":[]}')
    original = msgspec.structs.replace(original, grants=(stored,))
    request = parse_key_request({**LEAST, "copy_of": original.id}, TERMS)
    with pytest.raises(InvalidRequest, match="tenants"):
        request.taken_from(original)


def test_text_of_people_may_be_in_any_script() -> None:
    key, _ = new_key(
        name="Größe 東京", purpose="x" * 256, owner="o", grants=(), now=NOW, life=60, pepper=PEPPER
    )
    assert key.name == "Größe 東京"


def test_an_expiry_is_required_where_the_settings_give_no_life() -> None:
    terms = KeySettings(default_life=0, max_life=90 * DAY)
    with pytest.raises(InvalidRequest, match=r"expires_in or expires_at.*keys\.default_life"):
        parse_key_request(LEAST, terms)
    assert parse_key_request({**LEAST, "expires_in": "1d"}, terms).life == DAY


def test_a_life_that_is_too_long_is_refused_before_anything_is_made() -> None:
    with pytest.raises(InvalidRequest, match="90 days"):
        parse_key_request({**LEAST, "expires_in": "91d"}, TERMS)


def test_a_life_ends_in_the_future_and_within_the_limit() -> None:
    check_life(1, 1)
    for life in (0, -1, 2):
        with pytest.raises(InvalidRequest):
            check_life(life, 1)
