"""`audit-gateway apply`: on the data folder or a store, or over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.key_folder import json_option, reason_option
from gateway.cli.base.terminal import say, say_json, say_strongly

if TYPE_CHECKING:
    from gateway.cli.secrets.declared_files import DeclaredFiles
    from gateway.errors import GatewayError

Members = dict[str, Any]
_CHANGES = 6
_MOST_ATTEMPTS = 3
_NOT_PLACED = "its secret could not be placed"
_EXAMPLES = """\b
Examples:
  audit-gateway apply access.toml --plan
  audit-gateway apply access.toml teams/*.toml --prune --profile prod
  audit-gateway apply access.toml --expect "$DIGEST" --reason "ticket 4711"

\b
Exit codes: 0 nothing to do, or applied; 6 changes (--plan); 2 a file is wrong;
3 not allowed; 7 cannot be decided; 1 refused, or a secret could not be placed.
"""


@click.command("apply", epilog=_EXAMPLES)
@click.argument("files", metavar="FILE..", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--plan", "plan_only", is_flag=True, help="Show what would change; change nothing.")
@click.option("--prune", is_flag=True, help="End what the set has made and names no more.")
@click.option("--expect", default="", help="Digest of a plan: refuse if anything of it has moved.")
@reason_option
@target_options
@json_option
def apply_command(
    files: tuple[Path, ...],
    plan_only: bool,
    prune: bool,
    expect: str,
    reason: str,
    target: CommandTarget,
    as_json: bool,
) -> None:
    """Make roles, keys and destinations what files declare.

    Several files are one set. Keys and roles change together, or not at all. Secrets of keys that
    are made are put where their declarations say, and shown nowhere.
    """
    from gateway.cli.secrets.declared_files import DeclaredFiles
    from gateway.errors import CannotDecide, GatewayError, PreconditionFailed

    declared = DeclaredFiles(files)
    body = declared.body()
    try:
        for attempt in range(_MOST_ATTEMPTS):
            plan = target.declarations.plan(body, prune=prune, make=not plan_only)
            if expect and plan["digest"] != expect:
                raise PreconditionFailed(
                    "something has changed since the plan was made: look at a new plan, and apply "
                    f"that (its digest is {plan['digest']})",
                    code="plan_changed",
                )
            new = [one["name"] for one in plan["changes"] if _makes_key(one)]
            for name in new:
                declared.place_of(name)
            if plan_only:
                _show(plan, as_json)
                _warn_of_places(declared, plan)
                click.get_current_context().exit(_CHANGES if _changes(plan) else 0)
            if not _changes(plan):
                _show({**plan, "applied": True}, as_json)
                _warn_of_places(declared, plan)
                return
            try:
                applied = target.declarations.apply(
                    body, prune=prune, expect=plan["digest"], reason=reason
                )
            except PreconditionFailed:
                if expect or attempt == _MOST_ATTEMPTS - 1:
                    raise
                continue
            break
    except GatewayError as error:
        raise _as_said(declared.named(error), CannotDecide) from None
    _finish(declared, target, applied, reason, as_json)


def _finish(
    declared: DeclaredFiles, target: CommandTarget, applied: Members, reason: str, as_json: bool
) -> None:
    """Put the secrets where they belong, and show what was done without them."""
    from gateway.errors import GatewayError

    made = {one["name"]: one for one in applied.pop("made", [])}
    failures = _placed(declared, target, made, reason)
    applied["placed"] = sorted(made.keys() - failures.keys())
    applied["not_placed"] = dict(sorted(failures.items()))
    _show(applied, as_json)
    for name, why in sorted(failures.items()):
        say(f"keys.{name}: {why}", err=True)
    failed = applied.get("failed", [])
    for one in failed:
        say(f"destinations.{one['name']}: {one['detail']}", err=True)
    if failures or failed:
        raise GatewayError("not all was done; apply it again once the cause is mended")


def _placed(
    declared: DeclaredFiles, target: CommandTarget, made: dict[str, Members], reason: str
) -> dict[str, str]:
    """Place all secrets. A key whose secret nobody has is revoked, and made anew by the next
    application; return why, by name."""
    from gateway.cli.secrets.secret_sink import declared_sink
    from gateway.errors import GatewayError

    waiting, failures = dict(made), dict[str, str]()
    try:
        for name, one in made.items():
            try:
                declared_sink(declared.place_of(name)).put(one["key"])
            except GatewayError as error:
                failures[name] = error.detail
                continue
            del waiting[name]
            try:
                target.keys.confirm(one["id"], reason)
            except GatewayError as error:
                failures[name] = (
                    f"its secret is in its place; confirm the key {one['id']}: {error.detail}"
                )
    finally:
        # Also where the command is interrupted.
        for name, one in waiting.items():
            try:
                target.keys.revoke(one["id"], _NOT_PLACED, with_descendants=False)
                ended = f"the key {one['id']} was revoked, and the next apply makes another"
            except GatewayError as error:
                ended = f"revoke the key {one['id']}, whose secret is lost: {error.detail}"
            failures[name] = f"{failures.get(name, 'it was interrupted')}; {ended}"
    return failures


def _show(plan: Members, as_json: bool) -> None:
    if as_json:
        say_json(plan)
        return
    from gateway.cli.applying.plan_text import plan_lines

    for line in plan_lines(plan):
        (say_strongly if line.strong else say)(line.text)
    if plan.get("applied"):
        say("applied" if _changes(plan) else "nothing to do")
    else:
        say(f"digest {plan['digest']}")


def _warn_of_places(declared: DeclaredFiles, plan: Members) -> None:
    """Warn of files that have not the secret of the key that is there, as after a crash."""
    from gateway.cli.secrets.secret_sink import declared_sink

    ids: dict[str, list[str]] = {}
    for one in plan["changes"]:
        if one["kind"] == "key" and one["mark"] in "=~" and one["name"] in declared.places:
            ids.setdefault(one["name"], []).append(one["id"])
    for name, found in ids.items():
        held = declared_sink(declared.places[name]).held_key()
        if held is not None and held not in found:
            file = declared.places[name].file
            say(
                f"warning: {file} does not hold the secret of keys.{name} ({found[-1]}): if nobody "
                "has it, revoke that key, and the next apply makes another",
                err=True,
            )


def _makes_key(change: Members) -> bool:
    return change["kind"] == "key" and change["mark"] in "+↻"


def _changes(plan: Members) -> bool:
    return any(mark not in "=!" for mark in plan["counts"])


def _as_said(error: GatewayError, undecided: type[GatewayError]) -> GatewayError:
    """The error with the exit code that it has on a folder, whoever has told of it."""
    if error.code == undecided.code and not isinstance(error, undecided):
        return undecided(error.detail)
    return error
