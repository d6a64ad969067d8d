"""`audit-gateway keys document` and `simulate`: what a key can see, and what a change would do."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.key_folder import grant_option, json_option, key_argument, role_option
from gateway.cli.base.terminal import say, say_document, say_json


@click.command()
@key_argument
@click.option(
    "--format", "kind",
    type=click.Choice(["markdown", "html", "json"]), default="markdown", show_default=True,
    help="How to write it.",
)  # fmt: skip
@target_options
def document(key_id: str, kind: str, target: CommandTarget) -> None:
    """Say what a key is for, what it can and cannot see, and what it was used for."""
    text = target.keys.document(key_id, kind)
    say_document(f"{text}\n" if kind == "json" else text)


@click.command()
@key_argument
@grant_option
@role_option
@click.option("--since", default="7d", show_default=True, help="How far to look back.")
@target_options
@json_option
def simulate(
    key_id: str,
    grants: tuple[str, ...],
    roles: tuple[str, ...],
    since: str,
    target: CommandTarget,
    as_json: bool,
) -> None:
    """Run other grants and roles for a key over its recorded uses and the events of the log.

    Says what would have been denied, what the key would no longer or newly see, and which of
    the grants are never used. Nothing is changed. Given are all grants and roles that the key
    would have; without any it would have none.
    """
    from gateway.access.grants.grant import decode_grant_text

    proposed = {"grants": list(map(decode_grant_text, grants)), "roles": list(roles)}
    found = target.keys.simulate(key_id, {**proposed, "since": since})
    if as_json:
        say_json(found)
    else:
        say(*_lines(found))


def _lines(found: dict[str, Any]) -> list[str]:
    from gateway.cli.base.event_text import printable

    uses, events = found["uses"], found["events"]
    lines = [f"{uses['looked_at']} uses and {events['looked_at']} events were looked at"]
    if not found["complete"]:
        lines[0] += ", not all there are"
    for kind, said in (("would_be_denied", "denied"), ("would_be_allowed", "allowed")):
        for one in uses[kind]:
            reason, address = one["reason_code"], one["address"] or "an unknown address"
            lines.append(
                f"would be {said}: {one['action']} from {printable(address)}, "
                f"{one['count']} times, last {one['last']} ({reason})"
            )
    for action in ("stream", "pull"):
        for kind in ("no_longer_seen", "newly_seen", "more_hidden", "less_hidden"):
            tally = events.get(action, {}).get(kind, {"count": 0})
            if tally["count"]:
                lines.append(f"{action}: {tally['count']} events {kind.replace('_', ' ')}")
                lines += [
                    f"  {one['count']} of {one['category']} of {one['tenant']}"
                    for one in tally["by"]
                ]
    lines += [f"never used: grant {printable(name)}" for name in found["unused"]]
    lines += [f"not known to be used: grant {printable(name)}" for name in found["not_known"]]
    return lines
