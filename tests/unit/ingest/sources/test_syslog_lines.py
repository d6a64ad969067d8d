"""Lines of syslog: RFC 5424, RFC 3164, and CEF or JSON inside."""

from __future__ import annotations

import io
import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.importing.sources import sources
from gateway.formats.cef import cef_encoder
from gateway.formats.format import FormatOptions
from gateway.formats.rfc5424 import rfc5424_encoder
from gateway.ingest.decode import decode_event
from gateway.ingest.reading import Record, read_records
from gateway.ingest.sources.catalog import make_source, shipped
from gateway.ingest.sources.source import Mapped, NotMapped, RecordSource
from tests.support.format_examples import EXAMPLES

NOW = "2026-03-04T10:00:00+00:00"
SSHD = (
    "<38>Mar  3 10:00:00 web-1 sshd[4711]: Failed password for ann from 192.0.2.1 port 50000 ssh2"
)
CEF = (
    r"CEF:0|security|threat\|manager|1.0|100|worm stopped|10|src=10.0.0.1 dst=2.1.2.2 spt=1232 "
    r"suser=ann suid=7 act=blocked msg=a \= b\\c\nd cs1Label=rule cs1=x y"
)


PLAIN_CEF = {
    "version": "0", "vendor": "a", "product": "b", "device_version": "c", "class_id": "d",
    "name": "e", "severity": "5", "extension": {}, "labels": {},
}  # fmt: skip


@cache
def source(now: str = NOW) -> RecordSource:
    at = datetime.fromisoformat(now).timestamp()
    return make_source(shipped("syslog"), now=lambda: at)


def found_in(content: bytes, now: str = NOW) -> list[Mapped | NotMapped]:
    found: list[Mapped | NotMapped] = []
    for unit in read_records(io.BytesIO(content), source(now).goes_on):
        assert isinstance(unit, Record), unit
        found += source(now).map(unit.raw)
    return found


def event_in(text: str, now: str = NOW) -> dict[str, Any]:
    [found] = found_in(text.encode(), now)
    assert isinstance(found, Mapped), found
    event: dict[str, Any] = json.loads(b"{" + found.draft.tail)
    return event


def test_a_message_of_rfc_5424_is_read_with_its_structured_data() -> None:
    event = event_in(
        "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 "
        r'[exampleSDID@32473 iut="3" eventSource="App \"a\" \] \\ c"][user@1 user="ann"] '
        "\ufeffAn application event log entry..."
    )
    assert event["time"] == "2003-10-11T22:14:15.003000Z"
    assert (event["category"], event["action"]) == ("syslog.evntslog", "ID47")
    assert (event["outcome"], event["severity"]) == ("unknown", 2)
    assert event["actor"] == {"id": "ann"}
    assert event["reason"] == "An application event log entry..."
    assert event["targets"][0]["urn"] == "host:mymachine.example.com"
    assert event["data"]["facility"] == 20
    data = event["data"]["structured_data"]["exampleSDID@32473"]
    assert data == {"iut": "3", "eventSource": 'App "a" ] \\ c'}
    assert event["data"]["line"].startswith("<165>1 2003")


def test_a_message_of_rfc_3164_is_read() -> None:
    event = event_in(SSHD)
    assert event["time"] == "2026-03-03T10:00:00.000000Z"
    assert (event["category"], event["action"]) == ("syslog.sshd", "login")
    assert (event["outcome"], event["severity"]) == ("failure", 1)
    assert event["actor"] == {"id": "ann", "name": "ann"}
    assert event["source"] == {"service": "sshd", "ip": "192.0.2.1", "port": 50000}
    assert event["targets"][0]["urn"] == "host:web-1"
    assert event["data"]["line"] == SSHD
    assert event["data"]["proc_id"] == "4711"


@pytest.mark.parametrize(
    ("time", "now", "expected"),
    [
        ("Mar  5 09:59:59", NOW, "2026-03-05T09:59:59"),
        ("Mar  5 10:00:01", NOW, "2025-03-05T10:00:01"),
        ("Dec 31 23:59:59", "2026-01-01T00:00:01+00:00", "2025-12-31T23:59:59"),
        ("Jan  1 00:00:00", "2025-12-31T12:00:00+00:00", "2026-01-01T00:00:00"),
        ("Feb 29 12:00:00", "2026-06-01T00:00:00+00:00", "2024-02-29T12:00:00"),
        ("Mar  3 2019 10:00:00", NOW, "2019-03-03T10:00:00"),
        ("2026-03-03T10:00:00.25+02:00", NOW, "2026-03-03T08:00:00"),
    ],
)
def test_a_time_without_a_year_is_never_more_than_a_day_ahead(
    time: str, now: str, expected: str
) -> None:
    event = event_in(SSHD.replace("Mar  3 10:00:00", time), now)
    assert event["time"][:19] == expected


def test_id_and_content_of_a_line_are_those_of_its_text_in_any_year() -> None:
    years = (NOW, "2028-03-04T10:00:00+00:00")
    drafts = [
        one.draft
        for now in years
        for one in found_in(SSHD.encode(), now)
        if isinstance(one, Mapped)
    ]
    assert drafts[0].tail != drafts[1].tail
    assert len({(draft.id, draft.content) for draft in drafts}) == 1


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("<13>hello", {"message": "hello", "severity": 5}),
        ("<13>", {"message": ""}),
        ("54 <13>app: hello", {"app_name": "app", "message": "hello"}),
        ("<13>Mar  3 10:00:00 app[1]: x", {"app_name": "app", "proc_id": "1", "message": "x"}),
        ("<13>Mar  3 10:00:00 ::1 app: x", {"hostname": "::1", "app_name": "app"}),
        ("<13>Mar  3 10:00:00 h words only", {"hostname": "h", "message": "words only"}),
        ("Mar  3 10:00:00 h su[1]: x", {"hostname": "h", "app_name": "su", "message": "x"}),
        ("2026-03-03T10:00:00.1+01:00 h su: x", {"hostname": "h", "app_name": "su"}),
        ("<13>1 2026-03-03T10:00:00Z h a p m -", {"message": "", "msg_id": "m"}),
        ("<13>1 - - - - - - x", {"message": "x", "version": "1"}),
        ('<13>1 - h a - - [broken="x] y', {"message": '1 - h a - - [broken="x] y'}),
        ('<13>Mar  3 10:00:00 h a: @cee: {"b": 1}', {"json": {"b": 1}}),
        ('<13>Mar  3 10:00:00 h a: {"b": 1', {"message": '{"b": 1'}),
        ("<13>Mar  3 10:00:00 h CEF:0|broken", {"hostname": "h", "message": "CEF:0|broken"}),
        ("CEF:0|a|b|c|d|e|5|", {"cef": PLAIN_CEF}),
        ("CEF:0|a|b|c|d|e|5|words only", {"cef": PLAIN_CEF}),
        ("<192>x", None),
        ("hello", None),
        ("CEF:0|broken", None),
        ("Mar  3 10:00:00 words only", None),
    ],
)
def test_forms_of_lines(line: str, parts: dict[str, Any] | None) -> None:
    [found] = found_in(line.encode())
    if parts is None:
        assert isinstance(found, NotMapped)
        assert "not a record of syslog" in found.reason
    else:
        data = event_in(line)["data"]
        assert {name: data.get(name) for name in parts} == parts
        assert data["line"] == line


@pytest.mark.parametrize("head", ["", "<14>Mar  3 10:00:00 fw ", "<14>1 - fw app - - - "])
def test_cef_is_read_behind_any_header(head: str) -> None:
    event = event_in(head + CEF)
    assert (event["category"], event["action"]) == ("syslog.threat-manager", "worm_stopped")
    assert (event["outcome"], event["severity"]) == ("denied", 6)
    assert event["actor"] == {"id": "7", "name": "ann"}
    assert event["source"]["ip"] == "10.0.0.1"
    assert event["source"]["port"] == 1232
    assert event["reason"] == "a = b\\c\nd"
    assert event["data"]["cef"]["labels"] == {"rule": "x y"}


@pytest.mark.parametrize(
    ("start", "expected"),
    [("1772532000123", "2026-03-03T10:00:00.123"), ("Mar 03 2026 10:00:00", "2026-03-03T10:00:00")],
)
def test_the_time_of_cef_is_its_own(start: str, expected: str) -> None:
    event = event_in(f"<14>Jan  1 00:00:00 fw {CEF} start={start}")
    assert event["time"].startswith(expected)


@pytest.mark.parametrize(
    ("severity", "expected"),
    [("0", 1), ("3", 2), ("4", 3), ("6", 3), ("7", 4), ("8", 4), ("9", 5), ("10", 6),
     ("Low", 1), ("Medium", 3), ("High", 4), ("Very-High", 5), ("Unknown", 1)],
)  # fmt: skip
def test_severities_of_cef(severity: str, expected: int) -> None:
    assert event_in(CEF.replace("|10|", f"|{severity}|"))["severity"] == expected


@pytest.mark.parametrize(
    ("severity", "expected"), [(0, 6), (1, 6), (2, 5), (3, 4), (4, 3), (5, 2), (6, 1), (7, 1)]
)
def test_severities_of_syslog(severity: int, expected: int) -> None:
    assert event_in(f"<{8 + severity}>hello")["severity"] == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("sshd[1]: Accepted publickey for ann from 192.0.2.1 port 5 ssh2", "success login ann"),
        ("sshd[1]: Invalid user bob from 192.0.2.1 port 5", "denied login bob"),
        ("sudo: pam_unix(sudo:session): session opened for user root(uid=0) by ann(uid=1000)",
         "success session.opened root"),
        ("su: pam_unix(su:session): session closed for user root", "success session.closed root"),
        ("sshd[1]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh "
         "ruser= rhost=192.0.2.1  user=ann", "failure authentication ann"),
        ("sudo:      ann : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls", "success command ann"),
        ("sudo:  bob : user NOT in sudoers ; TTY=pts/0 ; PWD=/ ; COMMAND=/bin/ls",
         "denied command bob"),
        ('app: {"action": "user.login", "user": "ann", "status": "Failed"}',
         "failure user.login ann"),
    ],
)  # fmt: skip
def test_usual_messages_say_who_did_what(message: str, expected: str) -> None:
    event = event_in(f"<38>Mar  3 10:00:00 h {message}")
    assert f"{event['outcome']} {event['action']} {event['actor']['name']}" == expected


# Members that come back from the gateway's own formats.
KEPT = ("action", "outcome", "severity", "actor", "source", "request", "reason")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_gateways_own_rfc_5424_comes_back(name: str) -> None:
    native = json.loads(EXAMPLES[name])
    line = rfc5424_encoder(FormatOptions())(EXAMPLES[name])
    event = event_in(line.decode())
    for member in (*KEPT, "time", "targets"):
        expected = native.get(member)
        found = event.get(member)
        if member == "actor" and expected:
            expected.pop("key_id", None)
        if member == "source":
            expected = {"service": "audit-gateway"} | (expected or {})
        if member != "targets" or expected:
            assert found == expected, member


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_gateways_own_cef_comes_back(name: str) -> None:
    native = json.loads(EXAMPLES[name])
    event = event_in(cef_encoder(FormatOptions())(EXAMPLES[name]).decode())
    assert event["time"][:23] == native["time"][:23]
    for member in KEPT:
        expected = native.get(member)
        if member == "actor" and expected:
            # Masked members are not in CEF.
            expected = {key: value for key, value in expected.items() if value != "***"} or None
        if member == "source":
            expected = {"service": "audit-gateway"} | (expected or {})
        assert event.get(member) == expected, member
    urns = [target["urn"] for target in native.get("targets", [])[:1]]
    assert [target["urn"] for target in event.get("targets", [])] == urns


def test_a_line_is_one_event_by_file_body_and_envelope() -> None:
    for text in (SSHD, CEF, '<13>1 - h a - - - {"action": "a", "items": [1]}'):
        forms: list[Any] = [
            {"message": text}, {"log": text + "\n"}, {"event": {"message": text}},
            {"logEvents": [{"message": text}]}, [{"MESSAGE": text}],
            {"log": f"2026-03-03T10:00:00Z stdout F {text}"},
        ]  # fmt: skip
        found = found_in(f"{text}\r\n".encode())
        for form in forms:
            found += found_in(json.dumps(form).encode())
        found += found_in(b"2026-03-03T10:00:00Z stdout F " + text.encode())
        drafts = [one.draft for one in found if isinstance(one, Mapped)]
        assert len(drafts) == len(found) == 8, found
        assert len({(draft.id, draft.content) for draft in drafts}) == 1


def test_the_command_line_gives_times_a_year(tmp_path: Path) -> None:
    (tmp_path / "auth.log").write_text(f"{SSHD}\nno line of syslog\n")
    options = ["check", "--json", "--source", "syslog", str(tmp_path / "auth.log")]
    report = json.loads(CliRunner().invoke(sources, options).output)
    assert (report["records"], report["events"], report["marks"]) == (2, 1, {})
    [[record, event]] = report["examples"]
    assert record["line"] == SSHD
    assert event["time"].endswith("-03-03T10:00:00.000000Z")


def test_a_line_without_a_time_is_marked() -> None:
    [found] = found_in(b"<13>hello")
    assert isinstance(found, Mapped)
    assert found.marks == ("time_unknown",)


def test_bytes_that_are_not_utf_8_stay_readable() -> None:
    [found] = found_in("<13>app: Müller".encode("latin-1"))
    assert isinstance(found, Mapped)
    assert json.loads(found.raw)["message"] == r"M\xfcller"


PIECES = st.sampled_from(
    ["<13>", "<999>", "1 ", "- ", "Mar  3 10:00:00 ", "Feb 31 25:00:00 ", "2026-03-03T10:00:00Z ",
     "2026-99-99T99:99:99Z ", "h ", "app[1]: ", '[a@1 b="c"]', '[a b="\\"]', "CEF:0|", "a|b|c|",
     "CEF:0|a|b|c|d|e|5|",
     "d|e|5|", "src=1 ", "rt=x ", "start=99999999999999999999 ", "cs1Label=", "\\", "\\|", "=",
     '{"a":', "[" * 200, '{"a":' * 80 + "1" + "}" * 80, "}", "null", "\0", "\n", "\ufeff",
     "12 ", "x" * 3000, '{"targets": [{"urn": 1}, null], "severity": "9", "outcome": []}'],
)  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=14), st.sampled_from("ul"))
def test_hostile_lines_are_each_an_event_a_marked_event_or_a_refusal(
    pieces: list[str], encoding: str
) -> None:
    raw = "".join(pieces).encode({"u": "utf-8", "l": "latin-1"}[encoding], "replace")
    for one in source().map(raw):
        if isinstance(one, Mapped):
            decode_event(b"{" + one.draft.tail, iter(()), mapped=True)
        else:
            assert one.reason
