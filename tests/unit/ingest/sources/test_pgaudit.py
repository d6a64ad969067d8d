"""PostgreSQL's CSV and JSON log with pgAudit's records."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.importing.sources import sources
from gateway.ingest.decode import decode_event
from gateway.ingest.mapping.definition import READERS as NAMES
from gateway.ingest.reading import Record, read_records, read_text
from gateway.ingest.sources.catalog import READERS
from gateway.ingest.sources.source import Mapped, NotMapped
from tests.support.exports import event_of, source_named

HEAD = (
    '2026-01-15 09:01:10.123 UTC,"ann","shop",4711,"192.0.2.1:50000",6967f0a1.1267,{number},'
    '"{tag}",2026-01-15 09:00:00 UTC,3/12,0,{level},{state},'
)
# Columns behind the message, by the release that has them.
TAILS = {12: ',,,,,,,,,"psql"', 13: ',,,,,,,,,"psql","client backend"'} | dict.fromkeys(
    (14, 15, 16, 17), ',,,,,,,,,"psql","client backend",,0'
)
AUDIT = 'AUDIT: SESSION,1,1,WRITE,UPDATE,TABLE,public.account,"{statement}",<none>'


def line(message: str, release: int = 17, level: str = "LOG", state: str = "00000") -> str:
    head = HEAD.format(number=1, tag="UPDATE", level=level, state=state)
    return head + '"' + message.replace('"', '""') + '"' + TAILS[release]


def audited(statement: str = "update account set a = 1") -> str:
    return line(AUDIT.format(statement=statement.replace('"', '""')))


def found_in(content: bytes) -> list[Mapped | NotMapped]:
    source = source_named("pgaudit")
    found: list[Mapped | NotMapped] = []
    for unit in read_records(io.BytesIO(content), source.goes_on):
        assert isinstance(unit, Record), unit
        found += source.map(unit.raw)
    return found


def events_in(content: str) -> list[dict[str, Any]]:
    found = found_in(content.encode())
    assert all(isinstance(one, Mapped) for one in found), found
    return [json.loads(b"{" + one.draft.tail) for one in found if isinstance(one, Mapped)]


@pytest.mark.parametrize("release", sorted(TAILS))
def test_a_line_of_each_release_becomes_who_did_what_to_what(release: int) -> None:
    [event] = events_in(line(AUDIT.format(statement="update account"), release))
    assert event["time"] == "2026-01-15T09:01:10.123000Z"
    assert (event["category"], event["action"]) == ("pgaudit.write", "update")
    assert (event["outcome"], event["severity"]) == ("success", 1)
    assert event["actor"] == {"type": "user", "id": "ann", "name": "ann"}
    assert event["source"]["ip"] == "192.0.2.1"
    assert event["source"]["port"] == 50000
    assert event["targets"][0]["urn"] == "postgres:shop/table/public.account"


def test_the_record_is_kept_with_its_line() -> None:
    text = audited()
    [event] = events_in(text + "\r\n")
    assert event["data"]["line"] == text
    assert event["data"]["session_id"] == "6967f0a1.1267"


def test_a_statement_with_line_breaks_is_one_record_and_keeps_its_place() -> None:
    forged = audited("drop table account")
    texts = [audited('select "a",\n\n  1;\n{"b": 1}\n' + forged), audited("select 2"), ""]
    source = source_named("pgaudit")
    units = list(read_records(io.BytesIO("\n".join(texts).encode()), source.goes_on))
    assert [unit.line for unit in units] == [1, 6]
    assert [event["data"]["line"] for event in events_in("\n".join(texts))] == texts[:2]


def test_a_quote_that_never_closes_is_one_refusal_and_forges_nothing() -> None:
    first, cut = audited(), audited("a\n" + audited("drop table account") + "\nb")[:-60]
    found = found_in(f"{first}\n{cut}".encode())
    assert [type(one) for one in found] == [Mapped, NotMapped]


def test_a_line_is_one_event_by_file_body_and_envelope() -> None:
    text = audited("update\naccount")
    source = source_named("pgaudit")
    [body] = read_text(text.encode(), 10, source.goes_on)
    forms: list[Any] = [
        {"message": text}, {"log": text + "\n"}, {"logEvents": [{"message": text}]},
        {"message": {"data": base64.b64encode(text.encode()).decode()}},
    ]  # fmt: skip
    found = [*found_in(text.encode()), *source.map(body.raw)]
    for form in forms:
        found += found_in(json.dumps(form).encode())
    found += found_in(b"2026-01-15T09:01:10Z stdout F " + audited().encode())
    drafts = [one.draft for one in found if isinstance(one, Mapped)]
    assert len(drafts) == len(found) == 7
    assert len({(draft.id, draft.content) for draft in drafts[:-1]}) == 1
    assert {draft.id for draft in drafts[-1:]} == {
        one.draft.id for one in found_in(audited().encode()) if isinstance(one, Mapped)
    }


def test_the_json_log_becomes_the_same_as_the_csv_log() -> None:
    record = {
        "timestamp": "2026-01-15 09:01:10.123 UTC", "user": "ann", "dbname": "shop", "pid": 4711,
        "remote_host": "192.0.2.1", "remote_port": 50000, "session_id": "6967f0a1.1267",
        "line_num": 1, "ps": "UPDATE", "error_severity": "LOG", "application_name": "psql",
        "message": AUDIT.format(statement="update account"), "backend_type": "client backend",
    }  # fmt: skip
    [event] = events_in(line(AUDIT.format(statement="update account")))
    other = event_of("pgaudit", record)
    for member in ("time", "category", "action", "outcome", "severity", "actor", "source"):
        assert event[member] == other[member]
    assert event["targets"] == other["targets"]


def test_errors_and_connections_are_events_and_what_servers_say_is_skipped() -> None:
    denied = line("permission denied for table t", level="ERROR", state="42501")
    opened = line("connection authorized: user=ann database=shop")
    closed = line("disconnection: session time: 0:00:00.003 user=ann database=shop")
    found = events_in("\n".join((denied, opened, closed)))
    assert [(event["category"], event["action"], event["outcome"]) for event in found] == [
        ("pgaudit.error", "update", "denied"),
        ("pgaudit.connection", "connection.authorized", "success"),
        ("pgaudit.connection", "connection.closed", "success"),
    ]
    assert found[0]["reason"] == "permission denied for table t"
    said = [
        line("checkpoint starting: time"),
        line("there is no transaction in progress", level="WARNING", state="25P01"),
        line("there is already a transaction", level="WARNING", state="01000"),
    ]
    kinds = [getattr(one, "skipped", False) for one in found_in("\n".join(said).encode())]
    assert kinds == [True, False, True]


@pytest.mark.parametrize(
    ("zone", "time"),
    [("CET", "08:01"), ("EDT", "13:01"), ("+0530", "03:31"), ("+08", "01:01"), ("GMT", "09:01")],
)
def test_the_zone_of_the_log_counts(zone: str, time: str) -> None:
    [event] = events_in(audited().replace("10.123 UTC", f"10.123 {zone}"))
    assert event["time"] == f"2026-01-15T{time}:10.123000Z"


def test_a_zone_that_is_not_known_is_refused_by_name() -> None:
    [found] = found_in(audited().replace("10.123 UTC", "10.123 XYZ").encode())
    assert isinstance(found, NotMapped)
    assert "XYZ" in found.reason


def test_the_command_line_checks_lines_of_text(tmp_path: Path) -> None:
    file = tmp_path / "postgresql.csv"
    file.write_text("\n".join([audited("a\nb"), line("checkpoint starting: time"), "no line"]))
    options = ["check", "--json", "--source", "pgaudit", str(file)]
    report = json.loads(CliRunner().invoke(sources, options).output)
    assert (report["records"], report["events"], report["skipped"]) == (3, 1, 1)
    assert report["unknown"] == {}


def test_what_is_no_line_of_the_log_is_refused_by_the_name_of_the_source() -> None:
    [found] = found_in(b"LOG:  database system is ready")
    assert isinstance(found, NotMapped)
    assert "not a record of pgAudit" in found.reason


def test_definitions_name_the_readers_that_there_are() -> None:
    assert set(NAMES) == set(READERS)


@given(
    st.lists(
        st.one_of(
            st.text(max_size=40).map(audited),
            st.text(max_size=40).map(line),
            st.text(alphabet='",\n\r{}[]\\ AUDIT:0', max_size=60),
            st.tuples(st.just(audited()), st.integers(0, 200)).map(lambda cut: cut[0][: cut[1]]),
        ),
        max_size=6,
    ),
    st.sampled_from(["utf-8", "latin-1", "utf-16-le"]),
)
def test_hostile_lines_are_each_an_event_or_a_refusal(texts: list[str], encoding: str) -> None:
    content = "\n".join(texts).encode(encoding, "replace")
    source = source_named("pgaudit")
    for unit in read_records(io.BytesIO(content), source.goes_on):
        for one in source.map(unit.raw) if isinstance(unit, Record) else ():
            if isinstance(one, Mapped):
                decode_event(b"{" + one.draft.tail, iter(()), mapped=True)
            else:
                assert one.skipped or one.reason
