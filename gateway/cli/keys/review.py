"""`audit-gateway keys document` and `simulate`: what a key can see, and what a change would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.cli.base.key_folder import (
    grant_option,
    json_option,
    key_argument,
    key_store,
    role_option,
    run,
)
from gateway.cli.base.options import settings_options
from gateway.cli.base.stores import log_to_read
from gateway.cli.base.terminal import say, say_document, say_json

if TYPE_CHECKING:
    from gateway.oversight.review.document import Facts
    from gateway.settings.declarations import Settings

_SECONDS = 600.0
_EVENTS = 1_000_000


@click.command()
@key_argument
@click.option(
    "--format", "kind",
    type=click.Choice(["markdown", "html", "json"]), default="markdown", show_default=True,
    help="How to write it.",
)  # fmt: skip
@settings_options
def document(key_id: str, kind: str, settings: Settings) -> None:
    """Say what a key is for, what it can and cannot see, and what it was used for."""
    import msgspec

    from gateway.oversight.review.document import as_json, blocks
    from gateway.oversight.review.document_text import to_html, to_markdown

    facts = run(_facts(key_id, settings))
    if kind == "json":
        say_document(msgspec.json.encode(as_json(facts)).decode() + "\n")
    else:
        write = to_html if kind == "html" else to_markdown
        say_document(write(blocks(facts)))


async def _facts(key_id: str, settings: Settings) -> Facts:
    from gateway.access.administration.role_lookup import grants_by_role
    from gateway.access.keys.key_lookup import known_key
    from gateway.access.keys.rotation_chain import ended_issuer, rotation_chain_of
    from gateway.access.policy.attributed_grant import grants_of_key
    from gateway.access.policy.reader import SEES_EVERYTHING
    from gateway.oversight.access_log.past_access import Presence
    from gateway.oversight.detection.profile_store import ProfileStore
    from gateway.oversight.review.key_review import ReviewBudget, key_facts
    from gateway.scheduling.loop_work import LoopWork

    async with key_store(settings) as (store, clock):
        key = await known_key(store, key_id)
        grants = grants_of_key(key, await grants_by_role(store))
        profile = await ProfileStore(store).of(key_id)
        line = await rotation_chain_of(store, key)
        ended = await ended_issuer(store, key, clock.now())
    async with log_to_read(settings) as log:
        return await key_facts(
            log, clock, key, grants, rotation_chain=line, ended_issuer=ended,
            last_use=profile.last_use(), presence=Presence((), profile.used_at, profile.address),
            reader=SEES_EVERYTHING, patience=ReviewBudget(_SECONDS, _EVENTS),
            slices=LoopWork(clock).slices(key_id),
        )  # fmt: skip


@click.command()
@key_argument
@grant_option
@role_option
@click.option("--since", default="7d", show_default=True, help="How far to look back.")
@settings_options
@json_option
def simulate(
    key_id: str,
    grants: tuple[str, ...],
    roles: tuple[str, ...],
    since: str,
    settings: Settings,
    as_json: bool,
) -> None:
    """Run other grants and roles for a key over its recorded uses and the events of the log.

    Says what would have been denied, what the key would no longer or newly see, and which of
    the grants are never used. Nothing is changed. Given are all grants and roles that the key
    would have; without any it would have none.
    """
    found = run(_simulated(key_id, grants, roles, since, settings))
    if as_json:
        say_json(found)
    else:
        say(*_lines(found))


async def _simulated(
    key_id: str, grants: tuple[str, ...], roles: tuple[str, ...], since: str, settings: Settings
) -> dict[str, Any]:
    from gateway.access.administration.role_lookup import combined_grants, grants_by_role
    from gateway.access.grants.grant import decode_grant_text, parse_grants
    from gateway.access.grants.role import parse_role_names
    from gateway.access.keys.key_lookup import known_key
    from gateway.access.policy.attributed_grant import grants_of_key
    from gateway.access.policy.reader import SEES_EVERYTHING
    from gateway.clock import parse_duration
    from gateway.oversight.access_log.past_access import Presence
    from gateway.oversight.detection.profile_store import ProfileStore
    from gateway.oversight.review import key_review
    from gateway.oversight.review.simulation import Simulation
    from gateway.scheduling.loop_work import LoopWork

    own, wanted = parse_grants(list(map(decode_grant_text, grants))), parse_role_names(list(roles))
    async with key_store(settings) as (store, clock):
        key, known = await known_key(store, key_id), await grants_by_role(store)
        profile = await ProfileStore(store).of(key_id)
        after = combined_grants(own, wanted, known)
    simulation = Simulation(grants_of_key(key, known), after)
    async with log_to_read(settings) as log:
        patience = key_review.ReviewBudget(_SECONDS, _EVENTS)
        review = key_review.Review(log, clock, patience, LoopWork(clock).slices(key_id))
        found = await key_review.simulate(
            simulation, review, key_id, clock.now() - parse_duration(since),
            presence=Presence((), profile.used_at, profile.address), reader=SEES_EVERYTHING,
            with_uses=True,
        )  # fmt: skip
    return {"key": key_id, "complete": review.complete, **found}


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
