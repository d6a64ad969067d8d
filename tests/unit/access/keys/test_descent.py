"""Which keys came of which, however many, and in whatever circles."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.access.keys.descent import descendants, ended_as_issuer, revoke_with_descendants
from gateway.access.keys.key import Key
from gateway.access.keys.rotation_chain import ended_issuer, has_conflict_of_interest
from gateway.access.keys.unreadable import read_key
from gateway.errors import NotFound

NOW = 1_700_000_000.0


def key(name: str, **members: Any) -> Key:
    for member in ("created_by", "predecessor", "successor"):
        if members.get(member):
            members[member] = members[member] * 12
    made = Key(id=name * 12, digest=b"", name="n", purpose="p", created_at=0, expires_at=NOW + 9)
    return msgspec.structs.replace(made, **members)


class Known:
    def __init__(self, *keys: Key) -> None:
        self.keys = {one.id: one for one in keys}

    async def get(self, key_id: str) -> Key | None:
        return self.keys.get(key_id)


def names(keys: list[Key]) -> str:
    return "".join(one.id[0] for one in keys)


def test_descendants_are_what_was_made_and_what_took_over_from_that() -> None:
    keys = [
        key("a"), key("b", created_by="a"), key("c", created_by="b"), key("x"),
        key("d", predecessor="c", created_by="x"), key("e", created_by="d"),
    ]  # fmt: skip
    assert names(descendants(keys, "a" * 12)) == "bcde"
    assert names(descendants(keys, "x" * 12)) == "de"


def test_what_another_rotated_a_key_to_is_no_descendant_of_it_but_what_it_rotated_itself_is() -> (
    None
):
    by_another = [key("a"), key("x"), key("b", predecessor="a", created_by="x")]
    assert descendants(by_another, "a" * 12) == []
    by_itself = [key("a"), key("b", predecessor="a", created_by="a")]
    assert names(descendants(by_itself, "a" * 12)) == "b"


def test_rings_and_long_lines_come_to_an_end() -> None:
    ring = [key("a", created_by="b"), key("b", created_by="a", predecessor="a")]
    assert names(descendants(ring, "a" * 12)) == "b"
    line = [
        msgspec.structs.replace(
            key("a"), id=f"{n:012}", created_by=f"{n - 1:012}", predecessor=f"{n - 1:012}"
        )
        for n in range(20_000)
    ]
    assert len(descendants(line, f"{0:012}")) == 19_999


def test_only_what_lives_is_revoked_with_a_key_and_the_key_comes_first() -> None:
    keys = [key("a"), key("b", created_by="a", expires_at=1.0), key("c", created_by="a")]
    assert names(revoke_with_descendants(keys, "a" * 12, NOW, "r", "me")) == "ac"
    with pytest.raises(NotFound):
        revoke_with_descendants(keys, "z" * 12, NOW, "r", "me")


@pytest.mark.parametrize(
    ("members", "how"),
    [
        ({}, None), ({"revoked_at": 1.0}, "revoked"), ({"expires_at": NOW}, "expired"),
        ({"suspended_at": 1.0}, "suspended"),
        ({"suspended_at": 1.0, "suspended_until": NOW}, None),
        ({"drains_until": 1.0, "successor": "b"}, None),
    ],
)  # fmt: skip
def test_how_an_issuer_ends(members: dict[str, Any], how: str | None) -> None:
    assert ended_as_issuer(key("a", **members), NOW) == how
    assert ended_as_issuer(None, NOW) == "gone"


async def test_every_issuer_in_the_line_counts_and_rings_lend_nothing() -> None:
    first, second = key("a"), key("b", created_by="a")
    third = key("c", created_by="b")
    assert await ended_issuer(Known(first, second, third), third, NOW) is None
    revoked = msgspec.structs.replace(first, revoked_at=1.0)
    found = await ended_issuer(Known(revoked, second, third), third, NOW)
    assert found == ("a" * 12, "revoked")
    ring = key("a", created_by="c")
    assert await ended_issuer(Known(ring, second, third), third, NOW) is not None
    for issuer in ("", "gateway", "cli:ada"):
        alone = msgspec.structs.replace(first, created_by=issuer)
        assert await ended_issuer(Known(alone), alone, NOW) is None


async def test_who_has_a_conflict_of_interest_in_a_finding() -> None:
    root, other = key("r"), key("o")
    admin = key("a", created_by="r")
    rotated = key("b", predecessor="a", created_by="r")
    made = key("m", created_by="a")
    known = Known(root, other, admin, rotated, made)
    for reviewer, about, partial in (
        (admin, admin, True), (rotated, admin, True), (admin, rotated, True), (made, admin, True),
        (made, root, True), (admin, made, True), (rotated, made, True), (root, admin, False),
        (root, made, False), (other, root, False), (root, root, True),
    ):  # fmt: skip
        assert await has_conflict_of_interest(known, reviewer, about) is partial, (
            reviewer.id,
            about.id,
        )


def test_an_issuer_that_cannot_be_read_lends_no_right_and_is_not_changed() -> None:
    document = b'{"id":"bbbbbbbbbbbb","created_by":"aaaaaaaaaaaa","expires_at":1e10,"name":5}'
    unreadable = read_key("b" * 12, document, b"", 1)
    assert (unreadable.unreadable != "", unreadable.created_by) == (True, "a" * 12)
    assert ended_as_issuer(unreadable, NOW) == "unreadable"
    keys = [key("a"), unreadable, key("c", created_by="b")]
    assert names(descendants(keys, "a" * 12)) == "bc"
    revoked = revoke_with_descendants(keys, "a" * 12, NOW, "r", "")
    assert names(revoked) == "ac", "what came of it is found through it"
