"""The alert rules and the dashboard of deploy/: what they ask for is in a real scrape."""

from __future__ import annotations

import json
import re
from collections import defaultdict

import pytest
from gateway_client import event
from gateways import Gateway
from prometheus_client.parser import text_string_to_metric_families
from test_destinations import make

from tests.support import alert_files
from tests.support.alert_files import DEPLOY
from tests.support.scripted_outlet import Receiver

# Of the scrape itself.
FROM_PROMETHEUS = {"job", "instance"}
NAMED = {
    "DeliveryStalled", "DeliverySlow", "StoreAway", "TailLag", "LoopDelay", "RecordWaiting",
    "RetentionNear", "KeysExpiring", "RotationDue", "FindingsOpen", "DenialsHigh",
    "DestinationDown", "DestinationBehind", "StreamsLost",
    "RedisAway", "PepperUneven", "TlsExpires", "SignInsFail",
    "TargetDown",
}  # fmt: skip


@pytest.fixture
async def scraped(gateway: Gateway) -> dict[str, set[str]]:
    """Names of all samples of a scrape, with their labels."""
    gateway.context.deliveries.parts.outlets.types = {"scripted": Receiver().outlet_type()}
    await make(gateway, await gateway.reader_key())
    await gateway.send(event())
    answer = await gateway.get("/metrics", key=None)
    assert answer.status == 200
    found: defaultdict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            found[sample.name] |= set(sample.labels)
    return found


def test_the_alerts_are_those_of_the_page_and_each_says_what_it_is() -> None:
    rules = alert_files.rules()
    assert {rule.name for rule in rules} == NAMED
    text = (DEPLOY / "alerts.yaml").read_text(encoding="utf-8")
    assert len(rules) == text.count("- alert:") == len(NAMED), "of another form than the others"
    for rule in rules:
        assert re.fullmatch(r"\d+[smh]", rule.lasts)
        assert rule.severity in ("critical", "warning", "info")
        assert len(rule.summary) > 10
        page, _, heading = rule.runbook.partition("#")
        headings = re.findall(r"^#+ (.+)$", (DEPLOY / page).read_text(encoding="utf-8"), re.M)
        assert heading in [one.lower().replace(" ", "-") for one in headings], rule.name


async def test_metrics_and_labels_of_all_alerts_are_in_a_scrape(
    scraped: dict[str, set[str]],
) -> None:
    for rule in alert_files.rules():
        check(rule.expression, scraped)


async def test_metrics_and_labels_of_the_dashboard_are_in_a_scrape(
    scraped: dict[str, set[str]],
) -> None:
    expressions = alert_files.charts()
    assert len(expressions) > 40
    for expression in expressions:
        check(expression, scraped)


def check(expression: str, scraped: dict[str, set[str]]) -> None:
    selected = list(alert_files.selected(expression))
    assert selected, expression
    known = set(FROM_PROMETHEUS)
    for name, labels in selected:
        if name != "up":
            assert name in scraped, name
            known |= scraped[name]
        assert set(labels) <= FROM_PROMETHEUS | scraped.get(name, set()), expression
    assert alert_files.grouped(expression) <= known, expression


def test_the_dashboard_has_its_rows_and_no_chart_lies_on_another() -> None:
    document = json.loads((DEPLOY / "dashboard.json").read_text(encoding="utf-8"))
    panels = document["panels"]
    rows = [one["title"] for one in panels if one["type"] == "row"]
    assert rows == [
        "Delivery", "Streams", "Ingest", "Store", "Keys", "Destinations", "Process",
    ]  # fmt: skip
    taken: set[tuple[int, int]] = set()
    for one in panels:
        at = one["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])
        }  # fmt: skip
        assert not cells & taken, one["title"]
        taken |= cells
    assert len({one["id"] for one in panels}) == len(panels)
