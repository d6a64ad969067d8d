"""`audit-gateway findings`: unusual activity, and what people have said of it."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.key_folder import json_option, reason_option, refuse_whole_key
from gateway.cli.base.terminal import say, say_json, say_table
from gateway.errors import NotFound

_EXAMPLES = """\b
Examples:
  audit-gateway findings list --state open
  audit-gateway findings show probing-4fK2mQ9sLx0a-490012
  audit-gateway findings expect probing-4fK2mQ9sLx0a-490012 --reason "scan of the auditors"
"""
_MOST = 10_000
_COLUMNS = ("LAST SEEN", "SEVERITY", "STATE", "COUNT", "ABOUT", "ID")
_id_argument = click.argument("finding_id", metavar="ID", callback=refuse_whole_key)


@click.group(epilog=_EXAMPLES)
def findings() -> None:
    """Signs of unusual activity: look at them, and say which are expected."""


@findings.command("list", epilog=_EXAMPLES)
@click.option("--key", "key_id", callback=refuse_whole_key, help="Only about this key, by its id.")
@click.option("--signal", help="Only this signal, such as probing.")
@click.option("--state", type=click.Choice(["open", "expected"]), help="Only in this state.")
@click.option("--limit", type=click.IntRange(1, _MOST), default=100, show_default=True)
@target_options
@json_option
def list_all(
    limit: int, target: CommandTarget, as_json: bool, key_id: str | None, **wanted: str | None
) -> None:
    """List findings, newest first."""
    wanted["key"] = key_id
    found = target.findings.all({k: v for k, v in wanted.items() if v is not None}, limit)
    if as_json:
        say_json({"findings": found})
    elif found:
        say_table(_COLUMNS, [_row(one) for one in found])
    else:
        say("no findings")


@findings.command()
@_id_argument
@target_options
@json_option
def show(finding_id: str, target: CommandTarget, as_json: bool) -> None:
    """Show one finding and what it is made of."""
    found = [one for one in target.findings.all({}, _MOST) if one["id"] == finding_id]
    if not found:
        raise NotFound("there is no finding with this id", code="unknown_finding")
    say_json(found[0], None if as_json else 2)


@findings.command()
@_id_argument
@reason_option
@target_options
@json_option
def expect(finding_id: str, reason: str, target: CommandTarget, as_json: bool) -> None:
    """Silence the signal of a finding from now on, for the key or whatever it is about."""
    _say_marked(target.findings.mark(finding_id, reason, expected=True), as_json)


@findings.command()
@_id_argument
@reason_option
@target_options
@json_option
def reopen(finding_id: str, reason: str, target: CommandTarget, as_json: bool) -> None:
    """Let the signal of a finding be heard again."""
    _say_marked(target.findings.mark(finding_id, reason, expected=False), as_json)


def _say_marked(finding: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say_json(finding)
    else:
        say(f"finding {finding['id']} is {finding['state']}")


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    about = one["key"] or one.get("address") or one.get("operator") or ""
    seen = f"{one['last_seen'][:19]}Z"
    return seen, one["severity"], one["state"], one["count"], about, one["id"]
