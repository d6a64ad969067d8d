"""The alert rules of deploy/alerts.yaml: each fires at its fault and is silent in a healthy hour.

By Prometheus' own parser and engine, in a program that needs Go to be built
(tests/setup_shippers.py). Expressions of deploy/dashboard.json are parsed and evaluated by it, too.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from scene import program_of

from tests.support import alert_files
from tests.support.alert_files import DEPLOY
from tests.support.machine_time import patience

AT = '{job="audit-gateway",instance="gw-1"}'
MINUTE = 90


def series(name: str, values: str, labels: str = "") -> str:
    more = f",{labels}" if labels else ""
    prefix = "" if name == "up" else "audit_gateway_"
    return f'  {prefix}{name}{{job="audit-gateway",instance="gw-1"{more}}} {values}'


def delivered(quick: str, slow: str) -> list[str]:
    """Deliveries so far: in at most 25 ms, and in all."""
    labels = 'transport="canary",le="{}"'.format
    return [
        series("delivery_seconds_bucket", quick, labels("0.025")),
        series("delivery_seconds_bucket", quick, labels("1.0")),
        series("delivery_seconds_bucket", slow, labels("2.5")),
        series("delivery_seconds_bucket", slow, labels("+Inf")),
    ]


STEPS = 2 * MINUTE
GROWS = f"0+10x{STEPS}"
HEALTHY = {
    "overdue_streams": [series("overdue_streams", f"0x{STEPS}")],
    "canary_behind_seconds": [series("canary_behind_seconds", f"0 0.2x{STEPS}")],
    "delivery_seconds": delivered(GROWS, GROWS),
    "store_away": [series("store_away", f"0x{STEPS}")],
    "tail_lag_events": [series("tail_lag_events", f"0 900x{STEPS}")],
    "loop_delay": [series("loop_delay_max_seconds", f"0.02x{STEPS}", 'worker="0"')],
    "record_waiting": [series("record_waiting", f"30x{STEPS}")],
    "findings": [
        series("findings_open", f"0x{STEPS}", f'signal="{name}"')
        for name in ("position_at_risk", "probing")
    ],
    "rotation": [series("keys_rotation_due", f"0x{STEPS}")],
    "expiring": [
        series("keys_expiring", f"0x{STEPS}", 'within="7d"'),
        series("keys_expiring", f"3x{STEPS}", 'within="30d"'),
    ],
    "refusals": [series("refusals_total", f"0+1x{STEPS}", 'reason="invalid_key"')],
    "destination": [
        series("destination_state", f"{int(name == 'active')}x{STEPS}",
               f'destination="siem",state="{name}"')
        for name in ("active", "failing", "paused", "disabled")
    ],
    "behind": [series("destination_lag_seconds", f"2x{STEPS}", 'destination="siem"')],
    "streams": [series("streams", f"40x{STEPS}")],
    "redis": [series("redis_up", f"1x{STEPS}")],
    "peppers": [
        series("peppers", f"2x{STEPS}"),
        series("peppers", f"2x{STEPS}").replace("gw-1", "gw-2"),
    ],
    "tls": [series("tls_expires_timestamp_seconds", f"9000000x{STEPS}")],
    "no_tls": [
        series("tls_expires_timestamp_seconds", f"0x{STEPS}").replace("gw-1", "gw-2"),
    ],
    "sign_ins": [series("sign_ins_total", f"0+1x{STEPS}", 'kind="key",result="success"')],
    "up": [series("up", f"1x{STEPS}")],
}  # fmt: skip
# Which series another way make which alert fire.
FAULTS: dict[str, dict[str, list[str]]] = {
    "DeliveryStalled": {
        "canary_behind_seconds": [series("canary_behind_seconds", f"0+1x{STEPS}")]
    },
    "DeliverySlow": {"delivery_seconds": delivered(f"0+5x{STEPS}", GROWS)},
    "StoreAway": {"store_away": [series("store_away", f"1x{STEPS}")]},
    "TailLag": {"tail_lag_events": [series("tail_lag_events", f"0+1000x{STEPS}")]},
    "LoopDelay": {"loop_delay": [series("loop_delay_max_seconds", f"0.9x{STEPS}", 'worker="0"')]},
    "RecordWaiting": {"record_waiting": [series("record_waiting", f"1000x{STEPS}")]},
    "RetentionNear": {
        "findings": [series("findings_open", f"1x{STEPS}", 'signal="position_at_risk"')]
    },
    "KeysExpiring": {"expiring": [series("keys_expiring", f"2x{STEPS}", 'within="7d"')]},
    "RotationDue": {"rotation": [series("keys_rotation_due", f"1x{STEPS}")]},
    "FindingsOpen": {"findings": [series("findings_open", f"1x{STEPS}", 'signal="probing"')]},
    "DenialsHigh": {
        "refusals": [series("refusals_total", f"0+90x{STEPS}", 'reason="invalid_key"')]
    },
    "DestinationDown": {
        "destination": [
            series("destination_state", f"1x{STEPS}", 'destination="siem",state="failing"')
        ]
    },
    "DestinationBehind": {
        "behind": [series("destination_lag_seconds", f"900x{STEPS}", 'destination="siem"')]
    },
    "StreamsLost": {"streams": [series("streams", f"40x{STEPS - 10} 4x20")]},
    "RedisAway": {"redis": [series("redis_up", f"0x{STEPS}")]},
    "PepperUneven": {
        "peppers": [
            series("peppers", f"2x{STEPS}"),
            series("peppers", f"1x{STEPS}").replace("gw-1", "gw-2"),
        ]
    },
    "TlsExpires": {"tls": [series("tls_expires_timestamp_seconds", f"300000x{STEPS}")]},
    "SignInsFail": {
        "sign_ins": [series("sign_ins_total", f"0+30x{STEPS}", 'kind="key",result="refused"')]
    },
    "TargetDown": {"up": [series("up", f"0x{STEPS}")]},
}  # fmt: skip
# What fires beside it, as the finding is open, too.
WITH_IT = {"RetentionNear": {"FindingsOpen"}}


def case(name: str, changed: dict[str, list[str]], *expressions: str) -> dict[str, Any]:
    lines = [line for lines in {**HEALTHY, **changed}.values() for line in lines]
    load = "\n".join(["load 30s", *lines, ""])
    return {"name": name, "load": load, "minute": MINUTE, "expressions": expressions}


@pytest.fixture(scope="module")
def firing() -> dict[str, list[str]]:
    """Which alerts fire in the healthy hour and with each fault."""
    path, _ = program_of("alert_rules")
    cases = [case("healthy", {}, *alert_files.charts())]
    cases += [case(name, changed) for name, changed in FAULTS.items()]
    done = subprocess.run(
        [str(path), str(DEPLOY / "alerts.yaml")], input=json.dumps(cases), text=True,
        capture_output=True, timeout=patience(120), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_every_alert_has_a_fault_here() -> None:
    assert {rule.name for rule in alert_files.rules()} == set(FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_an_alert_fires_at_its_fault_and_no_other_does(
    name: str, firing: dict[str, list[str]]
) -> None:
    assert set(firing[name]) == {name} | WITH_IT.get(name, set())


def test_no_alert_fires_in_a_healthy_hour(firing: dict[str, list[str]]) -> None:
    assert not set(firing["healthy"]) & set(FAULTS)


def test_expressions_of_the_dashboard_are_evaluated(firing: dict[str, list[str]]) -> None:
    """All are parsed; those whose series are given here have values."""
    assert len(firing["healthy"]) >= 8
