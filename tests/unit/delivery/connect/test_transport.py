"""What is read of answers, and what is never shown of them."""

from __future__ import annotations

import base64
import gzip
import zlib

import pytest

from gateway.delivery.connect.transport import (
    LONGEST_RETRY_AFTER,
    MAX_ANSWER_BYTES,
    NoAnswer,
    RemoteAnswer,
    basic_credentials,
    hide,
    unpack,
)
from tests.support.cases import every

NOW = 1_795_946_400.0  # 2026-11-29T10:00:00Z


@every([
    ("7", 7.0), (" 120 ", 120.0), ("0", 0.0), ("Sun, 29 Nov 2026 10:00:30 GMT", 30.0),
    ("Sun, 29 Nov 2026 09:00:00 GMT", 0.0), ("Sun, 29 Nov 2026 23:00:00 GMT", LONGEST_RETRY_AFTER),
    ("99999999999999999999999", LONGEST_RETRY_AFTER), ("", 0.0), ("soon", 0.0), ("-5", 0.0),
    ("1e9", 0.0), ("٣", 0.0),
])  # fmt: skip
def test_retry_after_is_read_in_both_of_its_forms_and_cut(case: tuple[str, float]) -> None:
    assert RemoteAnswer(429, {"retry-after": case[0]}, b"", NOW).retry_after() == case[1]


def test_messages_are_short_and_printable() -> None:
    body = b"\x1b[31mtoo\r\n\r\n\xff many \x00" + b"x" * 5000
    message = RemoteAnswer(500, body=body).message()
    assert message.startswith("�[31mtoo � many")
    assert len(message) == 200
    assert message.isprintable()
    assert len(NoAnswer("dns", "y" * 999).message) == 200


@every(["s3cr3t-token", 'quo"te\\d', "slash/plus+eq=", "pass word&x", "pässwörd"])
def test_secrets_are_hidden_in_the_forms_that_answers_repeat_them_in(secret: str) -> None:
    import json
    from urllib.parse import quote, quote_plus

    forms = [
        secret.encode(), json.dumps(secret, ensure_ascii=False).encode(), quote(secret).encode(),
        quote(secret, safe="").encode(), quote_plus(secret).encode(),
        base64.b64encode(secret.encode()),
        json.dumps(secret, ensure_ascii=False).replace("/", "\\/").encode(),
    ]  # fmt: skip
    for form in forms:
        shown = hide(b"refused: <" + form + b">", [secret])
        assert shown in (b"refused: <***>", b'refused: <"***">')


def test_a_secret_that_holds_another_is_hidden_whole() -> None:
    assert hide(b"tokentoken2 token", ["token", "tokentoken2"]) == b"*** ***"


def test_answers_are_unpacked_up_to_their_bound() -> None:
    assert unpack(gzip.compress(b"hello"), "gzip") == (b"hello", True)
    assert unpack(zlib.compress(b"hello"), "deflate") == (b"hello", True)
    bomb = gzip.compress(bytes(64 << 20))
    assert unpack(bomb, "gzip") == (bytes(MAX_ANSWER_BYTES), False)
    data, whole = unpack(gzip.compress(b"hello" * 999)[:-9], "gzip")
    assert not whole
    assert data


def test_a_body_that_is_not_what_it_says_stays_as_it_is() -> None:
    assert unpack(b"plain", "gzip") == (b"plain", True)
    assert unpack(b"plain", "br") == (b"plain", True)
    assert unpack(b"", "gzip") == (b"", False)


def test_basic_credentials_are_in_utf_8() -> None:
    assert basic_credentials("Aladdin", "öpen") == "Basic QWxhZGRpbjrDtnBlbg=="


def test_a_failure_says_whether_it_is_of_the_configuration() -> None:
    with pytest.raises(NoAnswer) as raised:
        raise NoAnswer("certificate", "expired", config=True)
    assert (raised.value.kind, raised.value.config) == ("certificate", True)
