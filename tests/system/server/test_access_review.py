"""`GET /v1/review`: the same rows in four formats, and what they say and leave out."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import re
from functools import partial
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from click.testing import CliRunner
from gateway_client import event, key_id
from gateways import Gateway

from gateway.access.keys.operator import Person
from gateway.access.people import take_person
from gateway.cli.main import cli
from gateway.oversight.detection.signals import Signal
from tests.support.loop_stops import longest_stop
from tests.support.machine_time import becomes, slowness

HOSTILE = '=HYPERLINK(1)|<script>alert(1)</script> ![x](http://evil) `*_\\ "a,b"'
READ = {"actions": ["keys.read"], "categories": ["**"]}
PULLS = {"actions": ["pull"], "categories": ["auth.**"], "tenants": ["acme"]}
SENDS = {"actions": ["ingest"], "categories": ["**"]}
FORMATS = ("markdown", "html", "csv", "json")
UPRIGHT = ("review", "keys")
Rows = dict[str, list[list[str]]]


@pytest.fixture
async def asked(gateway: Gateway) -> str:
    """Who reviews, after some use of keys by others."""
    used = await gateway.mint(PULLS, SENDS, name=HOSTILE[:60], purpose=HOSTILE, owner="=soc")
    await gateway.send(event(id="a", tenant="acme"), key=gateway.user)
    await gateway.pull(used, tenant="acme")
    masked = {**PULLS, "fields": {"mask": ["actor.name"], "drop": ["data"]}}
    office = {**masked, "when": {"cidr": ["192.0.2.0/24"]}}
    await gateway.mint(office, name="never used", owner="apps", roles=["producer"])
    gone = await gateway.mint(PULLS, name="gone")
    path = f"/v1/keys/{key_id(gone)}/revoke"
    await gateway.post(path, key=gateway.admin, json={"reason": HOSTILE})
    await gateway.context.access_log.flush()
    signal = Signal("probing", gateway.context.clock.now())
    await gateway.context.detector.findings.add(signal, key_id(used))
    await gateway.tail_reaches(gateway.context.log.head)
    auditor = await gateway.mint(roles=["auditor"], name="auditor", owner="auditors")

    async def recorded() -> int:
        page = await gateway.pull(auditor, category="gateway.keys", limit="1000")
        return len(page["events"])

    await becomes(recorded, lambda count: count >= 7)
    return auditor


async def review(gateway: Gateway, key: str, kind: str, **params: str | list[str]) -> bytes:
    query = urlencode({"format": kind, **params}, doseq=True)
    answer = await gateway.get(f"/v1/review?{query}", key=key)
    assert answer.status == 200, answer.body
    return answer.body


NULL = {
    "last_used": "never", "reviewed_at": "never", "rotate_by": "none",
    "changed_since_review": "not reviewed",
}  # fmt: skip


def cell(name: str, value: Any) -> str:
    """Text of a member of the JSON form."""
    if value is None:
        return NULL.get(name, "not known")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        value = (" " if all(one.endswith(".") for one in value) else "; ").join(value)
    text = str(value)
    text = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    return text or "none"


def of_json(body: bytes) -> Rows:
    found = json.loads(body)
    found["review"] = [found["review"]]
    return {
        name: [[cell(*member) for member in one.items()] for one in rows]
        for name, rows in found.items()
    }


def of_csv(body: bytes, members: dict[str, list[str]]) -> Rows:
    """`members` are those of the rows of each section, in their order."""
    text = body.decode()
    assert text.count("\r\n") == text.count("\n")
    rows: Rows = {}
    for row in csv.DictReader(StringIO(text, newline="")):
        for one in row.values():
            assert not one.startswith(("=", "+", "-", "@", "\t", "\r")), one
        names = members[row["section"]]
        assert {name for name, one in row.items() if one} == {"section", *names}
        cells = [row[name].removeprefix("'") for name in names]
        rows.setdefault(row["section"], []).append(cells)
    return rows


def members_of(body: bytes) -> dict[str, list[str]]:
    found = json.loads(body)
    found["review"] = [found["review"]]
    return {name: list(rows[0]) for name, rows in found.items() if rows}


class Page(HTMLParser):
    """Cells of the HTML form; anything but its own elements fails."""

    ELEMENTS = (
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "section", "p", "dl", "div",
        "dt", "dd", "table", "thead", "tbody", "tr", "th", "td",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.rows: Rows = {}
        self._section = ""
        self._into: str | None = None

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in self.ELEMENTS, tag
        assert {name for name, _ in attrs} <= {
            "lang", "charset", "name", "content", "id", "scope", "class",
        }  # fmt: skip
        if tag == "section":
            self._section = dict(attrs)["id"]
        elif tag == "dl" or (tag == "tr" and self._section):
            self.rows.setdefault(self._section, []).append([])
        self._into = "" if tag in ("dd", "td") else None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("dd", "td"):
            assert self._into is not None
            self.rows[self._section][-1].append(self._into)
        self._into = None


def of_html(body: bytes) -> Rows:
    page = Page()
    page.feed(body.decode())
    # Heads of tables have no cells.
    return {name: list(filter(None, rows)) for name, rows in page.rows.items()}


TITLES = {
    "About this review": "review", "Keys and people": "keys", "Roles": "roles",
    "Changes of keys and roles": "changes", "Who looked at what": "looks", "Controls": "controls",
}  # fmt: skip


def of_markdown(body: bytes) -> Rows:
    rows: Rows = {}
    section = ""
    for line in body.decode().split("\n"):
        if line.startswith("## "):
            section = TITLES[line[3:]]
            rows[section] = []
        elif line.startswith("- "):
            label, text = line[2:].split(": ", 1)
            if label == "Kind" or not rows[section]:
                rows[section].append([])
            rows[section][-1].append(unescaped(text))
        elif line.startswith("| "):
            cells = re.split(r"(?<!\\)(?:\\\\)* ?\| ?", line)[1:-1]
            rows[section].append([unescaped(one) for one in cells])
    # Behind the heads of tables.
    return {name: one if name in UPRIGHT else one[2:] for name, one in rows.items()}


def unescaped(text: str) -> str:
    assert not re.search(r"(?<!\\)(?:\\\\)*[<>\[\]`]", text), text
    return re.sub(r"\\([^0-9A-Za-z\s])", r"\1", text)


async def test_all_four_formats_have_the_same_rows_in_the_same_order(
    gateway: Gateway, asked: str
) -> None:
    # Whoever asks is used meanwhile.
    others = ["=soc", "apps", "tests"]
    bodies = {kind: await review(gateway, asked, kind, owner=others) for kind in FORMATS}
    parsed = {
        "markdown": of_markdown(bodies["markdown"]), "html": of_html(bodies["html"]),
        "csv": of_csv(bodies["csv"], members_of(bodies["json"])), "json": of_json(bodies["json"]),
    }  # fmt: skip
    wanted = parsed["json"]
    assert len(wanted["keys"]) == 4
    assert len(wanted["changes"]) >= 7
    for kind, rows in parsed.items():
        for name in ("keys", "roles", "changes", "controls"):
            assert rows[name] == wanted[name], (kind, name)
        # Each look at the review is a look, too.
        assert len(rows["looks"]) >= 2
        assert len(rows["review"][0]) == len(wanted["review"][0])
    texts = [text for row in wanted["keys"] for text in row]
    assert any("<script>" in text for text in texts)


async def test_the_digest_is_of_the_cells_of_all_rows(gateway: Gateway, asked: str) -> None:
    whole = await review(gateway, asked, "json")
    table = await review(gateway, asked, "csv")
    for rows in (of_json(whole), of_csv(table, members_of(whole))):
        digest = hashlib.sha256()
        for name in ("keys", "roles", "changes", "looks", "controls"):
            for row in rows.get(name, []):
                digest.update(f"{json.dumps([name, *row], ensure_ascii=False)}\n".encode())
        assert digest.hexdigest() in rows["review"][0]


async def test_a_row_says_what_a_key_may_do_what_it_did_and_what_it_did_not(
    gateway: Gateway, asked: str
) -> None:
    found = json.loads(await review(gateway, asked, "json"))
    rows = {one["name"]: one for one in found["keys"]}
    assert (rows["auditor"]["unused_grants"], rows["auditor"]["grants_not_known"]) == (
        None, ["auditor/everything"],
    )  # fmt: skip
    used = rows[HOSTILE[:60]]
    assert used["scope"][0] == "May pull events of category auth.** of the tenant acme."
    assert used["unused_grants"] == ["2"]
    assert (used["events"], used["findings_open"]) == (1, 1)
    assert used["bytes"] > 100
    assert used["last_used_from"] == "127.0.0.1"
    assert (used["reviewed_at"], used["changed_since_review"]) == (None, None)
    never = rows["never used"]
    assert never["masks"] == ["actor.name (masked)", "data (left out)"]
    assert never["networks"] == ["192.0.2.0/24"]
    assert never["unused_grants"] == ["1", "producer/events"]
    assert (never["last_used"], never["last_used_from"]) == (None, "")
    assert never["made_by"] == f"{key_id(gateway.admin)} (first admin key)"
    assert rows["gone"]["state"] == "revoked"
    roles = {one["name"]: one["keys"] for one in found["roles"]}
    assert (roles["auditor"], roles["producer"]) == (1, 1)
    assert found["review"]["not_shown"] == []
    assert found["review"]["asked_by"] == key_id(asked)
    assert "complies" not in json.dumps(found)
    assert all(one["supports"].startswith("supports: ") for one in found["controls"])


async def test_people_who_have_signed_in_have_rows_like_keys(gateway: Gateway, asked: str) -> None:
    now = gateway.context.clock.now()
    ann = Person(issuer="https://idp", subject="7", name="ann@example.org", signed_in_at=now)
    person = await take_person(gateway.context.key_store, ann, ("auditor",))
    rows = json.loads(await review(gateway, asked, "json", owner="ann@example.org"))["keys"]
    assert [(one["kind"], one["id"], one["roles"]) for one in rows] == [
        ("person", person.id, ["auditor"])
    ]


async def test_changes_and_looks_are_those_of_the_records(gateway: Gateway, asked: str) -> None:
    found = json.loads(await review(gateway, asked, "json"))
    ends = [one for one in found["changes"] if one["action"] == "key.revoked"]
    assert [(one["by"], one["about"]) for one in ends] == [
        (key_id(gateway.admin), [f"key:{rows['id']}"])
        for rows in found["keys"] if rows["name"] == "gone"
    ]  # fmt: skip
    assert [one["at"] for one in found["changes"]] == sorted(one["at"] for one in found["changes"])
    pulls = [
        one for one in found["looks"] if one["action"] == "events.pulled" and one["events"] == 1
    ]
    assert [(one["asked"], one["uses"]) for one in pulls] == [("tenant=acme", 1)]


async def test_marks_and_rotations_are_told(gateway: Gateway, asked: str) -> None:
    key = await gateway.mint(PULLS, name="kept", owner="x")
    path = f"/v1/keys/{key_id(key)}"
    await gateway.post(f"{path}/reviewed", key=asked, json={"note": "needed"})
    rows = json.loads(await review(gateway, asked, "json", owner="x"))["keys"]
    assert rows[0]["reviewed_by"] == f"{key_id(asked)} (auditor)"
    assert (rows[0]["changed_since_review"], rows[0]["rotations"]) == (False, 0)
    await gateway.post(f"{path}/rotate", key=gateway.admin, json={})
    old, new = json.loads(await review(gateway, asked, "json", owner="x"))["keys"]
    if old["rotations"]:
        old, new = new, old
    assert (old["changed_since_review"], new["changed_since_review"]) == (True, None)
    assert (old["rotations"], new["rotations"]) == (0, 1)


async def test_the_look_is_recorded_with_the_digest_of_its_bytes(
    gateway: Gateway, asked: str
) -> None:
    body = await review(gateway, asked, "html")
    await gateway.context.access_log.flush()
    await gateway.tail_reaches(gateway.context.log.head)
    page = await gateway.pull(asked, action="access.reviewed")
    [record] = page["events"]
    assert record["actor"]["id"] == key_id(asked)
    assert record["data"]["sha256"] == hashlib.sha256(body).hexdigest()
    assert (record["data"]["bytes"], record["data"]["complete"]) == (len(body), True)


async def test_who_may_see_less_is_shown_less_and_the_report_says_so(
    gateway: Gateway, asked: str
) -> None:
    reader = await gateway.mint(READ)
    found = json.loads(await review(gateway, reader, "json"))
    assert {(one["events"], one["findings_open"]) for one in found["keys"]} == {(None, None)}
    assert (found["changes"], found["looks"]) == ([], [])
    assert len(found["review"]["not_shown"]) == 3
    records = {"actions": ["pull"], "categories": ["gateway.**"]}
    masks = {"mask": ["source.ip", "actor.id", "reason"]}
    masked = await gateway.mint(READ, {**records, "fields": masks})
    body = await review(gateway, masked, "json")
    found = json.loads(body)
    rows = {one["name"]: one for one in found["keys"]}
    assert rows[HOSTILE[:60]]["last_used_from"] == "***"
    assert {one["by"] for one in found["changes"]} == {"***"}
    assert {one["who"] for one in found["looks"]} <= {"***", "several keys"}
    assert b"127.0.0.1" not in body
    told = " ".join(found["review"]["not_shown"])
    assert "its grants hide actor.id, reason, source.ip, or some records" in told


async def test_conditions_choose_the_rows_and_stand_in_the_report(
    gateway: Gateway, asked: str
) -> None:
    found = json.loads(await review(gateway, asked, "json", owner="apps", state="active"))
    assert [one["name"] for one in found["keys"]] == ["never used"]
    assert found["review"]["conditions"] == ["owner=apps", "state=active"]
    assert found["review"]["keys"] == 1


async def test_the_type_is_that_of_accept_and_the_file_is_named(
    gateway: Gateway, asked: str
) -> None:
    for accept, kind, suffix in (
        ("text/html,*/*;q=0.1", "text/html", "html"), ("text/csv", "text/csv", "csv"),
        ("application/json", "application/json", "json"), ("*/*", "text/markdown", "md"),
    ):  # fmt: skip
        answer = await gateway.get("/v1/review", key=asked, headers={"Accept": accept})
        assert answer.headers["Content-Type"].partition(";")[0] == kind
        disposition = answer.headers["Content-Disposition"]
        assert re.fullmatch(
            rf'attachment; filename="access-review-[\dT-]+Z\.{suffix}"', disposition
        )
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
    refused = await gateway.get("/v1/review", key=asked, headers={"Accept": "image/png"})
    refused.problem(406, "not_acceptable")
    for query in (
        "format=pdf",
        "since=500d",
        "since=2100-01-01T00:00:00Z",
        "limit=1",
        "order=name",
    ):
        assert (await gateway.get(f"/v1/review?{query}", key=asked)).status == 400, query


async def by_cli(gateway: Gateway, *arguments: str, key: str = "") -> str:
    """Output of the command on the folder, or with a key on the running gateway."""
    folder = ("--data", str(gateway.context.settings.data))
    command = ["review", *(("--url", gateway.url) if key else folder), *arguments]
    run = partial(CliRunner().invoke, standalone_mode=False, env={"AUDIT_GATEWAY_KEY": key})
    result = await asyncio.to_thread(run, cli, command)
    assert result.exception is None, result.exception
    return result.stdout


async def test_the_command_line_reports_the_same_of_folder_and_gateway(
    gateway: Gateway, asked: str, tmp_path: Path
) -> None:
    await gateway.context.usage.flush()
    await gateway.context.detector.profiles.flush(everything=True)
    conditions = ("--owner", "=soc", "--owner", "apps", "--owner", "tests")
    told = json.loads(await by_cli(gateway, "--format", "json", *conditions))
    found = json.loads(
        await review(gateway, asked, "json", owner=["=soc", "apps", "tests"], since="90d")
    )
    over_http = json.loads(await by_cli(gateway, "--format", "json", *conditions, key=asked))
    assert told["keys"] == found["keys"] == over_http["keys"]
    assert over_http["review"]["conditions"] == found["review"]["conditions"]
    assert told["roles"] == found["roles"]
    assert told["review"]["asked_by"].startswith("cli:")
    assert told["review"]["conditions"] == found["review"]["conditions"]
    file = tmp_path / "review.html"
    said = await by_cli(gateway, "--format", "html", "--output", str(file), *conditions)
    assert said == f"{file}: {file.stat().st_size} bytes\n"
    assert of_html(file.read_bytes())["roles"] == of_json(json.dumps(found).encode())["roles"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()

    async def recorded() -> list[str]:
        page = await gateway.pull(asked, action="access.reviewed", category="gateway.keys")
        return [one["data"]["sha256"] for one in page["events"]]

    await becomes(recorded, lambda digests: digest in digests)


async def test_a_review_of_many_keys_holds_the_loop_for_moments_only(
    gateway: Gateway, asked: str
) -> None:
    store = gateway.context.key_store
    [first, *_] = await store.all()
    for number in range(400):
        await store.create(msgspec.structs.replace(first, id=f"{number:012}", roles=("auditor",)))
    await gateway.context.enforcement.poll()
    for path in ("/v1/review?format=html", "/v1/keys?limit=50&order=owner&q=nothing"):
        answer, milliseconds = await longest_stop(gateway.get(path, key=asked))
        assert answer.status == 200
        # Of the processor. One slice takes 2 ms; the test itself works in the same loop.
        assert milliseconds < 50 * slowness(), path
