"""Shared options of the commands over keys and roles, and access to their stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from gateway.cli.base.operator import record_look, this_operator
from gateway.cli.base.stores import has_keys, opened_keys
from gateway.cli.base.terminal import say

if TYPE_CHECKING:
    from gateway.access.administration.administration import Administration
    from gateway.access.keys.key_store import KeyStore, NotesOfKeys
    from gateway.settings.declarations import Settings
    from gateway.trusted_clock import TrustedClock
T = TypeVar("T")
# Of an argument, and of an option that may be left out.
Text = TypeVar("Text", str, str | None)


def refuse_whole_key(_: click.Context, __: click.Parameter, text: Text) -> Text:
    from gateway.access.credentials.token import looks_like_token
    from gateway.errors import InvalidRequest

    if text is not None and looks_like_token(text):
        # The value is not repeated: error messages end up in logs.
        raise InvalidRequest(
            "this is a whole key: name it by its id, the 12 characters behind `alpk_`, and rotate "
            "it, because arguments are seen in process lists and shell histories"
        )
    return text


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
key_argument = click.argument("key_id", metavar="KID", callback=refuse_whole_key)
grant_option = click.option(
    "--grant", "grants", multiple=True, help="A grant as JSON; may be repeated."
)
role_option = click.option(
    "--role", "roles", multiple=True, help="A role by name; may be repeated."
)
reason_option = click.option("--reason", default="", help="Why; recorded with who did it.")
limit_option = click.option(
    "--limit", "limits", multiple=True,
    help="A limit of its own, such as events_per_second=100 (0: none); may be repeated.",
)  # fmt: skip


def refuse_no_folder(settings: Settings) -> NoReturn:
    """Refuse a missing data folder, whose name was mistyped, instead of creating it."""
    from gateway.errors import NotFound

    raise NotFound(
        f"there is no data folder of a gateway {settings.data}; name it with --data",
        code="no_folder",
    )


def administer(
    settings: Settings,
    work: Callable[[Administration], Awaitable[T]],
    *,
    make: bool = False,
    change: bool = False,
    reason: str = "",
) -> T:
    """Result of work on keys and roles for the operator; `make`, `change` as for `key_store`.
    `reason` is recorded with who made a change."""
    from gateway.access.administration.administration import Administration
    from gateway.access.administration.caller import CommandLine
    from gateway.scheduling.loop_work import LoopWork

    async def administered() -> T:
        async with key_store(settings, make=make, change=change) as (store, clock):
            pepper = partial(current_pepper, settings, store, clock)
            caller, slices = CommandLine(this_operator(reason)), LoopWork(clock).slices("")
            admin = Administration(caller, store, clock, settings.keys, pepper, slices)
            return await work(admin)

    return run(administered())


async def current_pepper(settings: Settings, store: NotesOfKeys, clock: TrustedClock) -> bytes:
    """Pepper for new digests. Read on demand: keys can be listed and revoked without it."""
    from gateway.adapters.files.agreement import agree_on_pepper
    from gateway.adapters.files.folder import DataFolder

    peppers = await agree_on_pepper(DataFolder.of(settings).peppers, store, clock.now())
    return peppers.current.secret


@asynccontextmanager
async def key_store(
    settings: Settings, *, make: bool = False, change: bool = False
) -> AsyncIterator[tuple[KeyStore, TrustedClock]]:
    """Keys of the data folder, and the trusted clock.

    `make` creates a missing key store; else it is an error, since the name may be mistyped. Without
    `change` the command looks at keys, which is recorded as a use first; changes record themselves.
    """
    from gateway.errors import NotFound

    if not (make or has_keys(settings)):
        raise NotFound(
            f"there are no keys in {settings.data}; name the folder of the gateway with --data",
            code="no_keys",
        )
    async with opened_keys(settings) as (store, clock):
        if not change:
            await record_look(store, clock.now())
        yield store, clock


def echo_problems(shown: Mapping[str, Any]) -> None:
    """Print the problems of the grants of a key or role, one per line."""
    for one in shown.get("problems", ()):
        say(f"  ! {one['path']}: {one['reason']}; {one['means']}")


def run(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    return asyncio.run(work)
