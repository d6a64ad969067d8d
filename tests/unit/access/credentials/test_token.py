"""The text of keys: its form, its checksum, and that no slip of the pen passes."""

from __future__ import annotations

import hashlib
import hmac
import re
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.credentials.token import (
    ALPHABET,
    digest,
    is_key_id,
    key_id_of,
    looks_like_token,
    new_token,
    same,
)

FORM = re.compile(r"alpk_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}[0-9A-Za-z]{6}")
characters = st.sampled_from(ALPHABET)
texts = st.text(alphabet=ALPHABET, min_size=43, max_size=43)
tokens = st.builds(
    lambda kid, secret: with_checksum(f"alpk_{kid}_{secret}"),
    st.text(alphabet=ALPHABET, min_size=12, max_size=12),
    texts,
)


def with_checksum(body: str) -> str:
    """CRC-32 in six digits of base 62, most significant first, worked out apart."""
    number = crc32(body.encode("ascii"))
    digits = [ALPHABET[number // 62**place % 62] for place in range(5, -1, -1)]
    return body + "".join(digits)


def test_a_new_key_has_the_documented_form_and_knows_its_kid() -> None:
    kid, token = new_token()
    assert FORM.fullmatch(token)
    assert token[5:17] == kid
    assert token == with_checksum(token[:-6])
    assert key_id_of(token) == kid
    assert is_key_id(kid)


def test_new_keys_differ_in_kid_and_secret() -> None:
    made = [new_token()[1] for _ in range(200)]
    assert len({token[5:17] for token in made}) == 200
    assert len({token[18:61] for token in made}) == 200
    assert set("".join(token[18:61] for token in made)) == set(ALPHABET)


@given(tokens)
def test_every_token_with_a_right_checksum_is_read(token: str) -> None:
    assert key_id_of(token) == token[5:17]


@given(tokens, st.integers(0, 66), characters | st.sampled_from("_-. \n\x00é٣"))
def test_any_single_changed_character_is_refused(token: str, place: int, other: str) -> None:
    changed = token[:place] + other + token[place + 1 :]
    assert (key_id_of(changed) is None) == (changed != token)


@given(tokens, st.integers(0, 65))
def test_two_neighbours_swapped_are_refused(token: str, place: int) -> None:
    swapped = token[:place] + token[place + 1] + token[place] + token[place + 2 :]
    assert (key_id_of(swapped) is None) == (swapped != token)


@given(tokens, st.integers(0, 66))
def test_a_character_lost_or_doubled_is_refused(token: str, place: int) -> None:
    assert key_id_of(token[:place] + token[place + 1 :]) is None
    assert key_id_of(token[:place] + token[place] + token[place:]) is None


@given(st.text(max_size=80))
def test_junk_is_dropped_without_a_look_up(text: str) -> None:
    assert key_id_of(text) is None


@pytest.mark.parametrize(
    "mend",
    [
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: token.upper(),
        lambda token: token.replace("alpk_", "alpt_"),
        lambda token: token[:-6],
        lambda token: "",
        lambda token: token[5:17],
        lambda token: with_checksum(token[:17] + "-" + token[18:61]),
        lambda token: with_checksum(token[:61] + "A"),
    ],
)
def test_what_is_nearly_a_token_is_none(mend: object) -> None:
    _, token = new_token()
    assert callable(mend)
    assert key_id_of(mend(token)) is None


def test_a_kid_is_twelve_ascii_letters_and_digits() -> None:
    assert is_key_id("0aZ0aZ0aZ0aZ")
    for text in (
        "",
        "0aZ0aZ0aZ0a",
        "0aZ0aZ0aZ0aZ0",
        "0aZ0aZ0aZ0a_",
        "0aZ0aZ0aZ0a٣",
        "0aZ0aZ0aZ0aZ\n",
    ):
        assert not is_key_id(text), text


def test_a_key_in_the_wrong_place_is_noticed_anywhere_in_a_text() -> None:
    _, token = new_token()
    assert looks_like_token(token)
    assert looks_like_token(f"Bearer {token[:20]}")
    assert not looks_like_token("01HV-cursor-00000000000000000001")


def test_what_is_stored_is_hmac_sha256_under_the_pepper() -> None:
    _, token = new_token()
    stored = digest(b"p" * 32, token)
    assert stored == hmac.new(b"p" * 32, token.encode(), hashlib.sha256).digest()
    assert stored != digest(b"q" * 32, token)
    assert same(stored, bytes(stored))
    assert not same(stored, stored[:-1] + bytes([stored[-1] ^ 1]))
    assert not same(stored, b"")
