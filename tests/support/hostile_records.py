"""Records that nobody should send: those of a source, made wrong at random places.

    python -m tests.support.hostile_records 10000 [seed] [source ..]

maps so many of each source, and prints what became of them and the slowest ones.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from gateway.errors import PayloadTooLarge
from gateway.event import MAX_EVENT_BYTES
from gateway.ingest.decode import decode_event
from gateway.ingest.reading import Record, Unreadable, read_text
from gateway.ingest.sources.catalog import make_source, shipped, shipped_names
from gateway.ingest.sources.source import Mapped, NotMapped, Owner, RecordSource
from tests.support.realistic_envelopes import ENVELOPES, LINES

MOST = 1_000
_NOW = 1_767_225_600.0
# By source: the beginning of lines of text that it reads, beside JSON.
TEXTS = {
    "syslog": [
        "<38>Jan  1 00:00:00 web-1 sshd[7]: Accepted publickey for ann from 192.0.2.1 port 22 ssh2",
        '<165>1 2026-01-01T00:00:00.1Z h app 7 ID [a@1 k="v"][b@1 k="w\\"x"] {"user":"u"}',
        "CEF:0|V|P|1|100|login|5|src=192.0.2.1 suser=ann act=blocked msg=a\\=b",
    ],
    "pgaudit": [
        '2026-01-15 09:01:10.123 UTC,"ann","shop",47,"192.0.2.1:50000",69.1a,1,"UPDATE",'
        '2026-01-15 09:00:00 UTC,3/12,0,LOG,00000,"AUDIT: SESSION,1,1,WRITE,UPDATE,TABLE,'
        'public.account,""update account"",<none>",,,,,,,,,"psql","client backend",,0',
    ],
}  # fmt: skip
_NAMES = ("", "a.b", "__proto__", "id", "cursor", "truncated", "time_unknown", "\0", "x" * 300, "é")
_TEXTS = (
    "", " ", "\0", "\r\n", "\u2028", "\ufeff", "\u202e", "🙂", "x" * 70_000, "a" * 5_000 + "!",
    "{}", "[]", "null", '{"a":', "[" * 5_000, "arn:aws:", "*", "**", "../..", "%00", "{id}",
    "[-{a}]",
    "0000-00-00", "2026-13-45T99:99:99Z", "99999-01-01T00:00:00Z", "1969-12-31T23:59:59Z",
    "9" * 40, "-1", "1e400", "0x10", "NaN", "::", "999.1.1.1", "fe80::1%eth0", "1.2.3.4:99999",
    "/" * 3_000, "." * 3_000, "_" * 3_000, "https://" + "a/" * 2_000, "=" * 3_000, "<" * 3_000,
    base64.b64encode(gzip.compress(b"[" * 100_000)).decode(), base64.b64encode(b"x" * 64).decode(),
)  # fmt: skip
# JSON that takes the place of a value, also such as no parser should take.
_RAW = (
    "null", "true", "0", "-0", "-1", "1.5", "1e5", "1e400", "-1e400", "1e-400", "NaN", "Infinity",
    "18446744073709551615", "18446744073709551616", "-9223372036854775809", "9" * 5_000, "01", "+1",
    "[]", "{}", "[[]]", "[null]", '[{}]', '{"":null}', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"',
    '"\\x"', "'a'", "[1,]", '{"a":1,}', '{"a":1,"a":2}', "//", "undefined", "\x00", "\x1f",
    "[" * 70 + "]" * 70, '{"a":' * 70 + "1" + "}" * 70, "[" * 3_000 + "]" * 3_000, "[" * 3_000,
    '{"a":' * 3_000 + "1" + "}" * 3_000, "[" + "0," * 20_000 + "0]", "[" + "{}," * 9_000 + "{}]",
    "{" + ",".join(f'"m{n}":{n}' for n in range(3_000)) + "}", '"' + "y" * 300_000 + '"',
)  # fmt: skip


class Hostile:
    """A stream of bodies, by seed."""

    def __init__(self, source: str, records: list[dict[str, Any]], seed: int) -> None:
        self._random = random.Random(f"{source} {seed}")
        self._records = records
        self._texts = TEXTS.get(source, [])
        self._marks: dict[str, str] = {}

    def body(self) -> bytes:
        choose = self._random
        self._marks = {}
        if self._texts and choose.random() < 0.5:
            body = self._line(choose.choice(self._texts)).encode(errors="surrogatepass")
        else:
            record: Any = json.loads(json.dumps(choose.choice(self._records)))
            for _ in range(choose.choice((0, 1, 1, 1, 2, 4))):
                self._change(record)
            if choose.random() < 0.3:
                record = choose.choice([*ENVELOPES.values()])(record)
            body = self._text(record)
        return self._bytes(body)

    def _line(self, text: str) -> str:
        choose = self._random
        for _ in range(choose.randrange(1, 4)):
            at = choose.randrange(len(text))
            odd = choose.choice(
                (*_TEXTS, '"', '""', ",", "\\", "|", "=", "[", "]", "\n", "<", "\ud800")
            )
            text = text[:at] + odd + text[at + choose.choice((0, 0, 1, 9)) :]
        return choose.choice([*LINES.values()])(text) if choose.random() < 0.1 else text

    def _change(self, record: Any) -> None:
        """Change one value, at any depth."""
        choose = self._random
        value, depth = record, choose.randrange(1, 5)
        while True:
            places: list[Any] = [*value] if isinstance(value, dict) else [*range(len(value))]
            if not places:
                return
            place = choose.choice(places)
            inner = value[place]
            depth -= 1
            if depth == 0 or not isinstance(inner, dict | list) or not inner:
                break
            value = inner
        kinds: list[Callable[[], Any]] = [
            lambda: self._raw(choose.choice(_RAW)),
            lambda: self._raw(choose.choice(_RAW)),
            lambda: choose.choice(_TEXTS),
            lambda: [inner],
            lambda: {"a": inner},
            lambda: json.dumps(inner),
            lambda: str(inner),
            lambda: json.loads(json.dumps(choose.choice(self._records))),
        ]
        if isinstance(value, dict) and choose.random() < 0.15:
            # A name, rather than a value.
            new = choose.choice((place.upper(), place.lower(), f"{place} ", *_NAMES))
            value[new] = value.pop(place)
        elif choose.random() < 0.1:
            del value[place]
        else:
            value[place] = choose.choice(kinds)()

    def _raw(self, text: str) -> str:
        mark = f"@@{len(self._marks)}@@"
        self._marks[json.dumps(mark)] = text
        return mark

    def _text(self, record: Any) -> bytes:
        choose = self._random
        layout = choose.choice(({"separators": (",", ":")}, {}, {"indent": 1}))
        text = json.dumps(record, ensure_ascii=choose.random() < 0.5, **layout)
        for mark, raw in self._marks.items():
            # Within a text the mark has its quotes escaped, and stays as it is.
            text = text.replace(mark, raw)
        if choose.random() < 0.05:
            # A member again, in any object.
            at = choose.choice([at for at, one in enumerate(text) if one == "{"])
            text = text[: at + 1] + f'"{choose.choice([*self._records[0]])}":1,' + text[at + 1 :]
        return text.encode(errors="surrogatepass")

    def _bytes(self, body: bytes) -> bytes:
        choose = self._random
        at = choose.randrange(len(body))
        match choose.randrange(40):
            case 0:
                return body[:at]
            case 1:
                return body[:at] + bytes([choose.randrange(256)]) + body[at + 1 :]
            case 2:
                return (
                    body[:at] + choose.choice((b"\xff", b"\xc0\x80", b"\xed\xa0\x80")) + body[at:]
                )
            case 3:
                return body.decode(errors="replace").encode(choose.choice(("utf-16", "utf-16-le")))
            case 4:
                return choose.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\x1e", b"  \n", b"x ")) + body
            case 5:
                return body + choose.choice((body, b"\n" + body, b",", b"}", b"\n\n", b"\0"))
            case 6:
                return b"[" + b",".join([body] * choose.randrange(1, 4)) + b"]"
            case 7:
                return body.decode(errors="replace").encode("latin-1", errors="replace")
        return body


def become(source: RecordSource, body: bytes) -> list[Mapped | NotMapped]:
    """What becomes of a body, as of one that is posted. Raises only `PayloadTooLarge`."""
    found: list[Mapped | NotMapped] = []
    for unit in read_text(body, MOST, source.goes_on):
        if isinstance(unit, Record):
            found += source.map(unit.raw, Owner("acme"), MOST)
        elif isinstance(unit, Unreadable):
            found.append(NotMapped(unit.raw, "", unit.reason))
    return found


def check(source: RecordSource, body: bytes) -> Counter[str]:
    """Counts of what a body becomes. Raises `AssertionError` if that is no event, marked event,
    refusal or record that is passed over by rule."""
    counts: Counter[str] = Counter()
    try:
        found = become(source, body)
        assert found == become(source, body), "it is the same again"
    except PayloadTooLarge:
        counts["refused"] += 1
        return counts
    for one in found:
        if isinstance(one, NotMapped):
            assert one.reason
            one.reason.encode()
            one.path.encode()
            counts["skipped" if one.skipped else "refused"] += 1
            continue
        line = b"{" + one.draft.tail
        assert len(line) <= MAX_EVENT_BYTES
        assert b"\n" not in line
        assert decode_event(line, iter(()), mapped=True).id == one.draft.id
        counts["marked" if one.marks else "events"] += 1
    if not found:
        assert not body.strip() or _may_be_empty(body), "nothing of it is left"
        counts["empty"] += 1
    return counts


def _may_be_empty(body: bytes) -> bool:
    """Whether there is a list without records, in which there is nothing."""
    text = b"".join(body.split())
    return b":[]" in text or b":null" in text or text == b"[]"


def bodies(source: str, records: list[dict[str, Any]], count: int, seed: int) -> Iterator[bytes]:
    hostile = Hostile(source, records, seed)
    for _ in range(count):
        yield hostile.body()


def compiled(name: str) -> RecordSource:
    return make_source(shipped(name), {}, now=lambda: _NOW)


def main(count: int, seed: int, names: list[str]) -> None:
    from tests.unit.ingest.sources.test_every_envelope import record_of

    for name in names:
        source, total, slowest = compiled(name), Counter[str](), (0.0, b"")
        begin = time.perf_counter()
        for body in bodies(name, [record_of(name)], count, seed):
            before = time.perf_counter()
            try:
                total += check(source, body)
            except Exception as failure:
                total["FAILED"] += 1
                print(f"{name}: {failure!r}: {body[:600]!r}")
            slowest = max(slowest, ((time.perf_counter() - before) / 2, body))
        said = ", ".join(f"{number} {what}" for what, number in sorted(total.items()))
        print(
            f"{name}: {said}; {time.perf_counter() - begin:.0f} s, the slowest "
            f"{1000 * slowest[0]:.0f} ms of {len(slowest[1])} bytes: {slowest[1][:100]!r}",
            flush=True,
        )


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]), int(given[1]) if given[1:] else 1, given[2:] or [*shipped_names()])
