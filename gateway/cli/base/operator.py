"""The operator who runs a command, and records of looks at keys."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.base.stores import has_keys, opened_keys

if TYPE_CHECKING:
    from gateway.access.keys.key_store import UnrecordedChanges
    from gateway.access.keys.operator import Operator
    from gateway.settings.declarations import Settings

_MOST = 256
_MOST_ASKED = 2_048
# Parameters that select the output or the store, and so are not part of the question.
_NOT_ASKED = ("config_file", "data", "as_json", "kind")


def this_operator(reason: str = "") -> Operator:
    """User of the system who runs the command, its terminal, and why.

    `SUDO_USER` names the user before sudo; they control the environment, so it is recorded beside
    the user, never instead of it.
    """
    from gateway.access.keys.lifecycle import check_reason
    from gateway.access.keys.operator import Operator

    return Operator(
        user=_plain(_user()),
        sudo_user=_plain(os.environ.get("SUDO_USER", "")),
        host=_plain(os.uname().nodename),
        terminal=_plain(_terminal()),
        reason=check_reason(reason),
    )


async def record_look(store: UnrecordedChanges, now: float) -> None:
    """Record the running command as a use. Raises if that fails: no look goes unseen."""
    from gateway.access.credentials.token import is_key_id
    from gateway.access.keys.change import inspection, key_urn
    from gateway.errors import Unavailable
    from gateway.sanitize import clean

    context = click.get_current_context()
    asked: dict[str, Any] = {
        name: clean(str(list(value) if isinstance(value, tuple) else value), _MOST_ASKED)
        for name, value in context.params.items()
        if name not in _NOT_ASKED and value not in (None, (), "")
    }
    key_id = str(context.params.get("key_id", ""))
    about = [key_urn(key_id)] if is_key_id(key_id) else []
    try:
        await store.record_later(inspection(_path(context), about, this_operator(), now, asked))
    except Unavailable as error:
        raise Unavailable(
            f"nothing is shown, because that it was looked at cannot be recorded: {error.detail}; "
            "run this as a user who may write to the keys of the gateway",
            code="look_not_recorded",
        ) from error


async def record_act(
    settings: Settings, action: str, about: str, data: dict[str, Any], *, make: bool = False
) -> None:
    """Queue a record of what this command did to the log; the gateway writes it at its next start,
    or at once if it runs. Without keys there is no queue, unless `make` creates one."""
    from gateway.access.keys.change import other_change

    if not (make or has_keys(settings)):
        return
    async with opened_keys(settings) as (store, clock):
        operator = this_operator()
        change = other_change(
            action, [about], by=operator.actor, at=clock.now(), data=data, operator=operator
        )
        await store.record_later(change)


def _path(context: click.Context) -> str:
    """Path of the command, such as `keys explain`."""
    names: list[str] = []
    found: click.Context | None = context
    while found is not None and found.parent is not None:
        names.insert(0, found.info_name or "")
        found = found.parent
    return " ".join(names)


def _user() -> str:
    """Name of the user or, if the system has none, its number; never from the environment."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def _terminal() -> str:
    for descriptor in range(3):
        try:
            return os.ttyname(descriptor)
        except OSError:
            continue
    return ""


def _plain(text: str) -> str:
    """Text without control characters, shortened."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)[
        :_MOST
    ]
