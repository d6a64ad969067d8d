"""What JSON must be here: every leniency that would make two readers disagree is refused."""

from __future__ import annotations

import time
from itertools import repeat
from typing import Any

import msgspec
import orjson
import pytest

from gateway.errors import GatewayError, InvalidRequest, PayloadTooLarge
from gateway.event import MAX_EVENT_BYTES
from gateway.ingest.content import canonical, content_digest
from gateway.ingest.decode import decode_event
from gateway.ingest.split import split_body
from gateway.ingest.strict_json import Refused

HEAD = b'{"category":"auth","action":"user.login"'


def kept(data: bytes) -> bytes:
    """The bytes of `data` as they are stored."""
    tail = decode_event(HEAD + b',"data":' + data + b"}", repeat("id")).tail
    return tail[tail.index(b'"data":') + len(b'"data":') : -1]


def refused(item: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        decode_event(item, repeat("id"))
    # A refusal is answered as JSON.
    orjson.dumps([caught.value.path, caught.value.reason])
    return caught.value


def refused_data(data: bytes) -> Refused:
    return refused(HEAD + b',"data":' + data + b"}")


@pytest.mark.parametrize(
    "number",
    ["0", "-0", "1", "-1", "1.10", "1.0", "-0.0", "1e5", "1E+5", "1e-7", "0.1e1", "1.50e00",
     "123456789012345678", "1234567890123456789", "9007199254740993", "9223372036854775807",
     "9223372036854775808", "18446744073709551615", "-9223372036854775808",
     "3.141592653589793238462643383279", "0.30000000000000004", "1e308", "1e-400", "5e-324"],
)  # fmt: skip
def test_numbers_are_kept_exactly_as_sent(number: str) -> None:
    data = b'{"x":%b,"y":[%b]}' % (number.encode(), number.encode())
    assert kept(data) == data


@pytest.mark.parametrize(
    "number",
    ["18446744073709551616", "-9223372036854775809", "99999999999999999999", "1" + "0" * 100_000,
     "-1" + "0" * 30, "100000000000000000000"],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_integers_beyond_64_bits_are_refused(number: str) -> None:
    refusal = refused_data(b'{"x":%b}' % number.encode())
    assert "64 bits" in refusal.reason
    assert len(refusal.reason) < 200


@pytest.mark.parametrize("number", ["1e309", "-1e309", "1e99999", "1" + "0" * 400 + ".0"])
def test_numbers_beyond_a_double_are_refused(number: str) -> None:
    assert "too large" in refused_data(b'{"x":%b}' % number.encode()).reason


@pytest.mark.parametrize(
    "number",
    ["NaN", "Infinity", "-Infinity", "nan", "01", "-01", "1.", ".5", "+1", "1e", "1e+", "0x1F",
     "1_000", "--1", "-", "1,000", "٣"],
)  # fmt: skip
def test_what_json_does_not_call_a_number_is_refused(number: str) -> None:
    refused_data(b'{"x":%b}' % number.encode())
    refused(HEAD + b',"severity":' + number.encode() + b"}")


@pytest.mark.parametrize(
    "text",
    [r'"\u00e9"', r'"\/"', r'"\ud83d\ude00"', r'"\u0000"', r'"\u2028"', r'"\\ud800"',
     r'"\uD83D\uDE00"', r'"\\\\u"',
     '"\u2028\u2029\x7f\ufeff"', '"\N{GRINNING FACE}"', r'"\b\f\n\r\t\"\\"', '" a  b "'],
)  # fmt: skip
def test_strings_are_kept_exactly_as_sent(text: str) -> None:
    data = '{"x":%s,%s:1}' % (text, text.replace("x", "y"))  # noqa: UP031
    assert kept(data.encode()) == data.encode()


@pytest.mark.parametrize(
    "text",
    [r'"\ud800"', r'"\udc00"', r'"\ud800x"', r'"\ud800\u0041"', r'"\ude00\ud83d"',
     r'"\uD800\uD800"', r'"a\ud83d\ude00\ud83d"'],
)  # fmt: skip
def test_halves_of_surrogate_pairs_are_refused(text: str) -> None:
    for data in (f'{{"x":{text}}}', f"{{{text}:1}}", f'{{"x":[[{text}]]}}'):
        assert "surrogate" in refused_data(data.encode()).reason
    assert "surrogate" in refused(HEAD + f',"reason":{text}}}'.encode()).reason


@pytest.mark.parametrize(
    "data",
    [b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b'"\xf4\x90\x80\x80"', b"\xe9"],
)
def test_bytes_that_are_not_utf_8_are_refused(data: bytes) -> None:
    assert "not valid UTF-8 at byte" in refused_data(b'{"x":%b}' % data).reason


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_other_encodings_are_refused(encoding: str) -> None:
    text = '{"category":"auth","action":"user.login","reason":"é"}'
    refused(text.encode(encoding))


@pytest.mark.parametrize(
    ("item", "path"),
    [
        (HEAD + b',"action":"b"}', "action"),
        (HEAD + b',"actor":{"id":"a","id":"a"}}', "actor.id"),
        (HEAD + b',"targets":[{},{"urn":"a","urn":"b"}]}', "targets[1].urn"),
        (HEAD + b',"data":{"id":1,"id":1}}', "data.id"),
        (HEAD + b',"data":{"a":[1,[{"b":{"c":1,"d":{"c":2},"c":3}}]]}}', "data.a[1][0].b.c"),
        (HEAD + b',"data":{"a":1,"\\u0061":2}}', "data.a"),
        (HEAD + b',"data":{"":1,"":2}}', "data."),
        (HEAD + b',"data":{"\\ud800":1,"\\ud800":2}}', "data.?"),
        (HEAD + b',"data":{"n":1' + b"0" * 9999 + b',"a":1,"a":2}}', None),
    ],
    ids=["top", "actor", "target", "data", "deep", "escaped", "empty", "surrogate", "long number"],
)
def test_a_member_that_stands_twice_is_refused_with_its_path(item: bytes, path: str | None) -> None:
    refusal = refused(item)
    assert path is None or (refusal.path, "twice" in refusal.reason) == (path, True)


def test_a_repeated_member_before_broken_json_is_refused() -> None:
    refused(HEAD + b',"data":{"a":{"b":1,"b":2},}')
    refused(HEAD + b',"data":{"a":1,"a":2}')


@pytest.mark.parametrize(
    "item",
    [b"", b" ", b"{", b"{}x", b"{} {}", b"{,}", b"{'a':1}", b'{"a":1,}', b'{"a" 1}', b"{a:1}",
     b'{"a":"\n"}', b'{"a":"\x00"}', b'{"a":"\t"}', b'{"a":"\\x"}', b'{"a":"\\u12"}', b'{"a":tru}',
     b'{"a":"}', b'{"a":"\\"}', b"\xef\xbb\xbf{}", b"/**/{}", b"{}//", b"\x0b{}",
     b"\xc2\xa0{}", b"}{"],
)  # fmt: skip
def test_what_is_not_json_is_refused_as_a_whole(item: bytes) -> None:
    refusal = refused(item)
    assert refusal.path == ""
    assert "JSON" in refusal.reason


@pytest.mark.parametrize("item", [b"[]", b"null", b"true", b"1", b'"x"', b'["x"]', b"1.5"])
def test_a_value_that_is_not_an_object_is_no_event(item: bytes) -> None:
    assert refused(item).reason == "an event is a JSON object"


def nested(depth: int, inside: bytes = b"1") -> bytes:
    """An event nested so deep, in turns of arrays and objects below `data`."""
    opening = closing = b""
    for level in range(depth - 2):
        opening += (b'{"x":', b"[")[level % 2]
        closing = (b"}", b"]")[level % 2] + closing
    return HEAD + b',"data":{"y":' + opening + inside + closing + b"}}"


def test_nesting_is_at_most_64_deep() -> None:
    decode_event(nested(64), repeat("id"))
    refusal = refused(nested(65))
    assert refusal.reason == "nested deeper than 64 levels"
    refused(nested(100_000))
    refused(b"[" * 200_000)
    refused(b'{"a":' * 50_000)


def test_brackets_in_strings_and_beside_each_other_are_no_nesting() -> None:
    decode_event(nested(64, b'"' + b'[{\\"' * 100 + b'"'), repeat("id"))
    decode_event(nested(3, b"[" + b"[],{}," * 200 + b"1]"), repeat("id"))
    refused(nested(65, b'"' + b"]}" * 100 + b'"'))


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b'{\n  "a": 1.10,\r\n  "b": [ 1e5, "x  y\\n" ]\n}', b'{"a":1.10,"b":[1e5,"x  y\\n"]}'),
        (b'{"big":\n18446744073709551615}', b'{"big":18446744073709551615}'),
        (b"{\n}", b"{}"),
        (b'{"a":[\n\t\n]}', b'{"a":[]}'),
        (b'\n{"a":1}\n', b'{"a":1}'),
        (b'{"e":"\\u00e9\\/",\r"f":-0.0}', b'{"e":"\\u00e9\\/","f":-0.0}'),
    ],
)
def test_pretty_printed_data_becomes_one_line_with_the_same_tokens(
    data: bytes, line: bytes
) -> None:
    assert kept(data) == line


@pytest.mark.parametrize(
    "hostile",
    [
        b'{"x":[' + b"{}," * 20 + b'"' + b'\\"' * 120_000,
        b'{"x":[' + b"{}," * 20 + b'"' + b"\\" * 240_000,
        b'{"x":[' + b"{}," * 20 + b'"' * 240_000,
        b'{"x":[' + b"{}," * 60_000,
        b'{"x":"' + b"\\u" * 120_000,
        b'{"x":"' + b"\\ud800" * 40_000 + b'"}',
        b"{" + b'"x":0,' * 40_000 + b'"x":0}',
        b'{"x":' + b"9" * 250_000 + b"}",
        b'{"x":' + b"9" * 250_000 + b".5}",
        b" " * 260_000,
        b'{"' + b"`" * 250_000 + b'":0}',
        HEAD + b',"' + b"` - at `" * 30_000 + b'":0}',
    ],
    ids=["quotes", "backslashes", "bare quotes", "objects", "escapes", "surrogates", "members",
         "digits", "fraction", "blanks", "backticks", "paths"],
)  # fmt: skip
def test_a_hostile_item_is_refused_in_no_time(hostile: bytes) -> None:
    assert len(hostile) <= MAX_EVENT_BYTES
    began = time.process_time()
    refused(hostile)
    assert time.process_time() - began < 1


# Bodies


def split(body: bytes, **options: Any) -> list[bytes]:
    return split_body(body, **{"lines": False, "most": 10, **options})


def test_a_body_is_one_event_an_array_or_lines() -> None:
    assert split(b'{"a":1}') == [b'{"a":1}']
    assert split(b' \n[{"a":1} , 2,"x"]') == [b'{"a":1}', b"2", b'"x"']
    assert split(b'{"a":1}\n{"b":2}\n', lines=True) == [b'{"a":1}', b'{"b":2}']
    assert split(b'\n\r\n {"a":1}\r\n \t\n\n{"b":2}', lines=True) == [b'{"a":1}\r', b'{"b":2}']


@pytest.mark.parametrize("body", [b"", b" \n", b"[]", b" [ ] "])
def test_an_empty_body_is_refused(body: bytes) -> None:
    for lines in (False, True):
        if lines and b"[" in body:
            continue
        with pytest.raises(InvalidRequest, match="the body is empty"):
            split(body, lines=lines)


def test_a_byte_order_mark_is_refused_by_name() -> None:
    for lines in (False, True):
        with pytest.raises(InvalidRequest, match="byte order mark"):
            split(b"\xef\xbb\xbf{}", lines=lines)


@pytest.mark.parametrize(
    "body",
    [b"[", b"[1", b"[1,]", b"[1]x", b"[,]", b"[1 2]", b"[" * 100_000, b"[\xff]", b'["\xed"x]'],
)
def test_a_broken_array_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        split(body)
    assert caught.value.code == "malformed_json"


def test_an_item_that_is_not_utf_8_is_not_the_fault_of_the_others() -> None:
    good, bad = split(b'[{"a":1},"\xed"]')
    assert good == b'{"a":1}'
    assert "UTF-8" in refused(bad).reason


def test_a_body_holds_at_most_so_many_events() -> None:
    array, lines = b"[" + b"{}," * 9 + b"{}]", b"{}\n\n" * 10
    assert len(split(array)) == len(split(lines, lines=True)) == 10
    for body, is_lines in ((b"[" + b"{}," * 10 + b"{}]", False), (b"{}\n" * 11, True)):
        with pytest.raises(PayloadTooLarge) as caught:
            split(body, lines=is_lines)
        error: GatewayError = caught.value
        assert (error.code, error.status) == ("too_many_events", 413)
        assert "more than 10 events" in error.detail


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("body", [b"\n" * (1 << 22), b" " * (1 << 22), b" \n" * (1 << 21)])
def test_a_body_of_blanks_is_refused_in_no_time(body: bytes, lines: bool) -> None:
    began = time.process_time()
    with pytest.raises(InvalidRequest, match="empty"):
        split(body, lines=lines)
    assert time.process_time() - began < 1


def test_items_of_an_array_are_sliced_byte_by_byte() -> None:
    items = [b'{"a": [1, "],["]}', b'{"b":"\\"}"}', b"1.10"]
    assert split(b"[" + b" ,\n".join(items) + b"]") == items
    assert msgspec.json.decode(items[0]) == {"a": [1, "],["]}


@pytest.mark.parametrize(
    "data", [b'{"a":[1.50,-0,1e5,"1e999"],"b":{"c":1}}', b'{"b":{"c":1},"n":1.0e-400,"a":[1]}']
)
def test_content_is_the_same_whichever_way_its_numbers_are_checked(data: bytes) -> None:
    item = HEAD + b',"data":' + data + b"}"
    assert decode_event(item, repeat("id")).content == content_digest(canonical(item))


@pytest.mark.parametrize("number", ["1e400", "-1E+0999", "18446744073709551616", "1" * 400 + ".5"])
def test_a_number_that_is_too_large_is_refused_in_every_spelling(number: str) -> None:
    assert number[:9] in refused(HEAD + b',"data":{"a":[1.50,%b]}}' % number.encode()).reason
