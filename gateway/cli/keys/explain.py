"""`audit-gateway keys explain`: why a key may or may not do something, or see an event."""

from __future__ import annotations

import json
from typing import Any

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.key_folder import json_option, key_argument
from gateway.cli.base.terminal import say, say_json

_HIDDEN = {"masks": "masked", "drops": "left out", "pseudonymizes": "pseudonymized"}
_EXAMPLES = """\b
Examples:
  audit-gateway keys explain 4fK2mQ9sLx0a --action stream --tenant acme --category auth.login
  audit-gateway keys explain 4fK2mQ9sLx0a --action pull --event "$(cat event.json)" \\
      --address 10.1.2.3 --at 2026-01-31T23:00:00Z
  audit-gateway keys explain 4fK2mQ9sLx0a --action keys.admin
"""


@click.command("explain", epilog=_EXAMPLES)
@key_argument
@click.option("--action", required=True, help="What it would do, such as stream, pull or ingest.")
@click.option("--event", help="The event as JSON, as it stands in the log.")
@click.option("--tenant", help="Instead: an event of this tenant.")
@click.option("--category", help="Of this category.")
@click.option("--severity", type=click.IntRange(1, 6), help="Of this severity.")
@click.option("--resource", multiple=True, help="With this urn as a target; may be repeated.")
@click.option("--address", help="Where it would come from.")
@click.option("--at", help="When, as RFC 3339.  [default: now]")
@target_options
@json_option
def explain_access(key_id: str, target: CommandTarget, as_json: bool, **asked: Any) -> None:
    """Say whether a key may do something, by which grants, and what stands against it."""
    given = {name: value for name, value in asked.items() if value is not None and value != ()}
    if "resource" in given:
        given["resource"] = list(given["resource"])
    if "event" in given:
        given["event"] = _event(given["event"])
    found = target.keys.explain(key_id, given)
    if as_json:
        say_json({"key": key_id, "action": asked["action"], **found})
    else:
        say(*_lines(found))


def _event(text: str) -> Any:
    from gateway.errors import InvalidRequest
    from gateway.json_members import refuse_repeated

    try:
        json.loads(text, object_pairs_hook=refuse_repeated)
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"event: it must be JSON: {error}") from None


def _lines(found: dict[str, Any]) -> list[str]:
    from gateway.cli.base.event_text import printable

    depends, nearest = found.get("depends_on", []), found["nearest"] or {}
    members = " and ".join(dict.fromkeys(one["member"] for one in depends))
    decision = {"allow": "allowed", "deny": "denied", "depends": f"depends on {members}"}
    lines = [f"{decision[found['decision']]}: {found['reason_code']}"]
    if until := found.get("throttled_until"):
        lines.append(f"throttled until {until}: a few requests a minute")
    if ended := found.get("maker_ended"):
        lines.append(
            f"makes, resumes and widens nothing: its maker {ended['maker']} is {ended['how']} "
            "(maker_ended)"
        )
    lines += [f"grant {one['name']} ({one['effect']}) matches" for one in found["grants"]]
    named = [*found["grants"], *([nearest] if "name" in nearest else [])]
    for grant in {one["name"]: one for one in named}.values():
        lines += [f"  ! {grant['name']} {_deviation(one)}" for one in grant.get("problems", ())]
    for one in depends:
        values = ", ".join(one.get("patterns", ())) or f"at least {one.get('least')}"
        lines.append(f"  grant {one['grant']} is about {one['member']} {values}")
    for member, said in _HIDDEN.items():
        if found[member]:
            lines.append(f"{said}: {', '.join(found[member])}")
    if "name" in nearest:
        lines.append(f"nearest: grant {nearest['name']}")
    for one in nearest.get("failed", ()):
        wanted, got = json.dumps(one["expected"]), json.dumps(one["actual"])
        lines.append(f"  {one['predicate']} wanted {wanted}, got {got}")
    return [printable(line) for line in lines]


def _deviation(problem: dict[str, str]) -> str:
    """Where a grant counts otherwise than it is written."""
    place = ": ".join(filter(None, (problem["path"], problem["reason"])))
    return f"{place}; {problem['means']}"
