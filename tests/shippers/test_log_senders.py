"""rsyslog, syslog-ng and a library for Splunk send into the gateway, which is stopped for some
seconds, and killed: nothing is lost or doubled, and what is poisoned costs only itself. These are
part of every run of the tests where Debian's packages can be had (tests/setup_clients.py)."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from scene import EVENTS, RECIPES, Killable, Scene
from senders import POISONED, await_once, events_of, faults, paced, writer
from test_syslog_programs import rsyslog, syslog_ng

LINE = b"Accepted publickey for u%d from 192.0.2.1 port 22%s\n"
# What rsyslog puts into a document as it is, and syslog-ng escapes.
NO_UTF_8 = b' \xff\xfe "{'


def by_rsyslog(scene: Scene, lines: Path, key: str = "") -> Callable[[], Killable]:
    """What starts rsyslog with the recipe, behind a file of lines."""
    places = {
        'server="audit.example.org"': 'server="127.0.0.1"', '"443"': f'"{scene.gateway.port}"',
        'usehttps="on"': 'usehttps="off"', "THE_KEY": key or writer(scene),
        "/var/spool/rsyslog": str(scene.folder),
    }  # fmt: skip
    file = scene.configured("rsyslog", places, "ingest.conf")
    before = f'global(workDirectory="{scene.folder}")\nmodule(load="imfile")\n'
    before += f'input(type="imfile" File="{lines}" Tag="app:" Facility="auth")\n'
    file.write_text(before + file.read_text())
    return rsyslog(scene, file)


def by_syslog_ng(scene: Scene, lines: Path) -> Callable[[], Killable]:
    """What starts syslog-ng with the recipe, behind a file of lines."""
    source = f'    file("{lines}" flags(no-parse) program-override("app") follow-freq(0.1));\n'
    places = {
        "https://audit.example.org": scene.gateway.url, "THE_KEY": writer(scene),
        "/var/spool/syslog-ng": str(scene.folder), "    system();\n    internal();\n": source,
    }  # fmt: skip
    return syslog_ng(scene, scene.configured("syslog-ng", places, "ingest.conf"))


def users(scene: Scene) -> Iterator[str]:
    return (one["actor"]["id"] for one in events_of(scene, "syslog.app"))


@pytest.mark.parametrize("start", [by_rsyslog, by_syslog_ng])
def test_a_syslog_program_brings_every_line_once(
    scene: Scene, start: Callable[[Scene, Path], Callable[[], Killable]]
) -> None:
    lines = scene.folder / "app.log"
    lines.touch()
    start(scene, lines)()
    sent: list[int] = []
    came = lambda: len(events_of(scene, "syslog.app"))  # noqa: E731
    with faults(scene, came) as go_on, lines.open("ab") as output:
        for number in paced(EVENTS, go_on):
            sent.append(number)
            output.write(LINE % (number, b"" if number % POISONED else NO_UTF_8))
            output.flush()
    await_once(scene, [f"u{n}" for n in sent if n % POISONED], partial(users, scene))
    # It is an event if the program has made it UTF-8, and else kept apart.
    poisoned = len(sent) // POISONED
    apart, taken = len(events_of(scene, "gateway.rejected")), len(list(users(scene)))
    assert apart + taken == len(sent)
    assert apart == (poisoned if start is by_rsyslog else 0)


def test_rsyslog_loses_nothing_where_a_limit_is_reached(scene: Scene) -> None:
    """It gives up what is answered with 429 or 503."""
    grant = {"actions": ["ingest"], "categories": ["**"]}
    limits = {"requests_per_second": 1, "requests_burst": 1}
    made = scene.ask("POST", "/v1/keys", {
        "name": "slow", "purpose": "p", "owner": "o", "grants": [grant], "limits": limits,
    })  # fmt: skip
    lines = scene.folder / "app.log"
    lines.touch()
    by_rsyslog(scene, lines, made["key"])()
    sent = range(EVENTS // 2)
    with lines.open("ab") as output:
        for number in sent:
            output.write(LINE % (number, b""))
            output.flush()
            time.sleep(0.005)
    await_once(scene, [f"u{n}" for n in sent], partial(users, scene))
    [kid] = [one["id"] for one in scene.ask("GET", "/v1/keys")["keys"] if one["name"] == "slow"]
    rows = scene.ask("GET", f"/v1/keys/{kid}/usage")["rows"]
    assert sum(row["denials"] for row in rows), "the limit was reached"


def test_a_library_for_splunk_brings_every_event_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_URL", scene.gateway.url)
    monkeypatch.setenv("AUDIT_KEY", writer(scene))
    spec = importlib.util.spec_from_file_location(
        "audit_log_by_hec", RECIPES / "splunk-handler" / "audit_log.py"
    )
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    handler = recipe.audit_handler()
    handler.flush_interval = 0.2
    logger = recipe.audit_logger(handler)
    sent: list[int] = []
    try:
        with faults(scene, lambda: len(events_of(scene, "auth"))) as go_on:
            for number in paced(EVENTS, go_on):
                sent.append(number)
                wrong = {} if number % POISONED else {"severity": 9}
                recipe.audit(logger, "login", id=f"e{number}", **wrong)
        handler.force_flush()
        good = [f"e{n}" for n in sent if n % POISONED]
        await_once(scene, good, lambda: [one["id"] for one in events_of(scene, "auth")])
    finally:
        logger.removeHandler(handler)
        handler.close()
        handler.session.close()
    assert len(events_of(scene, "gateway.rejected")) == len(sent) // POISONED
