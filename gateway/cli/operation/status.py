"""`audit-gateway status`: whether delivery works, on one screen."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.key_folder import json_option
from gateway.cli.base.terminal import say, say_json, say_row, say_table
from gateway.errors import GatewayError

Members = dict[str, Any]
_EXAMPLES = """\b
Examples:
  audit-gateway status --url https://audit.example.org
  audit-gateway status --profile prod --watch
  audit-gateway status --data /var/lib/audit-gateway

\b
Exit codes: 0 delivery is ok, 1 it is not, 5 the gateway cannot be reached. On a folder, whose
processes are not asked, 0 means that nothing there keeps it from delivering.
"""
_WRONG = 1
_EVERY_SECONDS = 2.0
_LEVELS = {"ok": "healthy", "slow": "slow", "stalled": "stalled", "down": "down"}
_GATEWAYS = (
    "GATEWAY", "DELIVERY", "VERSION", "STREAMS", "CONNECTIONS", "P99", "LOOP", "REDIS", "SINCE",
)  # fmt: skip
_DESTINATIONS = ("DESTINATION", "STATE", "BEHIND", "LAST ERROR")


@click.command(epilog=_EXAMPLES)
@click.option("--watch", is_flag=True, help="Look again every two seconds, until interrupted.")
@target_options
@json_option
def status(watch: bool, target: CommandTarget, as_json: bool) -> None:
    """Say whether delivery works, since when, why not, and what to do."""
    code = _look(target, as_json) if not watch else _watch(target, as_json)
    if code:
        raise SystemExit(code)


def _watch(target: CommandTarget, as_json: bool) -> int:
    """Look until interrupted; the exit code is that of the last look."""
    code = 0
    try:
        while True:
            if not as_json and sys.stdout.isatty():
                click.clear()
            try:
                code = _look(target, as_json)
            except GatewayError as error:
                say(f"error: {error.detail}", err=True)
                code = error.exit_code
            time.sleep(_EVERY_SECONDS)
    except KeyboardInterrupt:
        return code


def _look(target: CommandTarget, as_json: bool) -> int:
    found = target.health.status()
    if as_json:
        say_json(found)
    else:
        _show(found)
    return 0 if found["delivery"] in ("ok", None) else _WRONG


def _show(found: Members) -> None:
    say(_headline(found))
    for one in found["reasons"]:
        say(f"  ! {one['code']}: {one['detail']} (since {_moment(one['since'])})")
        say(f"    {one['advice']}")
    say("")
    if found["gateways"]:
        say_table(_GATEWAYS, [_gateway(one) for one in found["gateways"]])
        say("")
    say_row(f"log           {_log(found['log'])}")
    if found["streams"] is not None:
        say_row(f"streams       {_streams(found['streams'])}")
    opened = found["findings"]["open"]
    say_row(f"findings      {'not known' if opened is None else f'{opened} open'}")
    if found["destinations"]:
        say("")
        say_table(_DESTINATIONS, [_destination(one) for one in found["destinations"]])


def _headline(found: Members) -> str:
    delivery = found["delivery"]
    if delivery is None:
        return "No gateway was asked (--url, --profile): this is what its stores say."
    said = f"Delivery is {_LEVELS.get(delivery, delivery)}"
    slowest = (found["streams"] or {}).get("p99_seconds")
    p99 = "" if slowest is None else f", p99 {_seconds(slowest)}"
    return f"{said}{p99}, since {_moment(found['since'])}"


def _gateway(one: Members) -> tuple[object, ...]:
    if not one["answers"]:
        return (one["name"], "no answer", *("-" for _ in _GATEWAYS[2:]))
    return (
        one["name"], one["delivery"], one["version"], one["streams"], one["connections"],
        _seconds(one["p99_seconds"]), _seconds(one["loop_delay_max_seconds"]), one["redis"],
        _moment(one["started_at"]),
    )  # fmt: skip


def _log(log: Members | None) -> str:
    if log is None:
        return "cannot be read"
    takes = "takes events" if log["takes_events"] else "takes no events"
    newest = "" if log["newest_at"] is None else f", newest {_moment(log['newest_at'])}"
    return f"{log['store']}, {takes}, {log['events']:,} events{newest}"


def _streams(streams: Members) -> str:
    kinds = ", ".join(f"{count} {name}" for name, count in streams["transports"].items() if count)
    told = f"{streams['open']} open" + (f" ({kinds})" if kinds else "")
    return f"{told}, {streams['stalled']} stalled, {streams['overdue']} overdue"


def _destination(one: Members) -> tuple[object, ...]:
    error = one["last_error"]
    told = "-" if error is None else f"{error['kind']} {error['message']}, {_moment(error['at'])}"
    behind = f"{one['lag_events']} events, {_seconds(one['lag_seconds'])}"
    return one["name"], one["state"], behind, told


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _moment(text: str) -> str:
    return f"{text[:10]} {text[11:19]}Z"
