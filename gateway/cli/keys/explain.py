"""`audit-gateway keys explain`: why a key may or may not do something, or see an event."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.base.key_folder import json_option, key_argument, key_store, run
from gateway.cli.base.options import settings_options
from gateway.cli.base.terminal import say, say_json

if TYPE_CHECKING:
    from gateway.oversight.review.explain import Explanation
    from gateway.settings.declarations import Settings

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
@click.option("--severity", type=int, help="Of this severity.")
@click.option("--resource", multiple=True, help="With this urn as a target; may be repeated.")
@click.option("--address", help="Where it would come from.")
@click.option("--at", help="When, as RFC 3339.  [default: now]")
@settings_options
@json_option
def explain_access(key_id: str, settings: Settings, as_json: bool, **asked: Any) -> None:
    """Say whether a key may do something, by which grants, and what stands against it."""
    import msgspec

    from gateway.access.administration.role_lookup import grants_by_role
    from gateway.access.keys.key_lookup import known_key
    from gateway.access.keys.rotation_chain import ended_issuer
    from gateway.access.policy.attributed_grant import grants_of_key
    from gateway.oversight.review.access_query import parse_access_query
    from gateway.oversight.review.explain import explain

    given = {name: value for name, value in asked.items() if value is not None and value != ()}
    if "resource" in given:
        given["resource"] = list(given["resource"])
    if "event" in given:
        given["event"] = _event(given["event"])

    async def work() -> Explanation:
        async with key_store(settings) as (store, clock):
            key = await known_key(store, key_id)
            grants = grants_of_key(key, await grants_by_role(store))
            query = parse_access_query(given, clock.now())
            return explain(key, grants, query, await ended_issuer(store, key, query.now))

    found = run(work())
    if as_json:
        shown = msgspec.to_builtins(found.public())
        say_json({"key": key_id, "action": asked["action"], **shown})
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


def _lines(found: Explanation) -> list[str]:
    from gateway.cli.base.event_text import printable

    members = " and ".join(dict.fromkeys(one.member for one in found.depends))
    decision = {"allow": "allowed", "deny": "denied", "depends": f"depends on {members}"}
    lines = [f"{decision[found.decision]}: {found.reason_code}"]
    if found.throttled_until is not None:
        until = found.public().throttled_until
        lines.append(f"throttled until {until}: a few requests a minute")
    if found.ended_issuer is not None:
        issuer, how = found.ended_issuer
        lines.append(
            f"makes, resumes and widens nothing: its maker {issuer} is {how} (maker_ended)"
        )
    lines += [f"grant {one.name} ({one.grant.effect}) matches" for one in found.grants]
    named = [*found.grants, *([found.nearest] if found.nearest is not None else [])]
    for grant in dict.fromkeys(named):
        lines += [f"  ! {grant.name} {wrong}" for wrong in grant.deviations()]
    for dependence in found.depends:
        values = ", ".join(map(str, dependence.values))
        wants = f"{dependence.member} {'at least ' * (dependence.member == 'severity')}{values}"
        lines.append(f"  grant {dependence.grant.name} is about {wants}")
    if found.masks.mask:
        lines.append(f"masked: {', '.join(found.masks.mask)}")
    if found.masks.drop:
        lines.append(f"left out: {', '.join(found.masks.drop)}")
    if found.masks.pseudonymize:
        lines.append(f"pseudonymized: {', '.join(found.masks.pseudonymize)}")
    if found.nearest is not None:
        lines.append(f"nearest: grant {found.nearest.name}")
    for one in found.failed:
        lines.append(
            f"  {one.predicate} wanted {json.dumps(one.expected)}, got {json.dumps(one.actual)}"
        )
    return [printable(line) for line in lines]
