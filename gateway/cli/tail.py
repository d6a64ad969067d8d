"""`audit-gateway tail`: watch events as they come in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from gateway.cli.base.cursor_file import CursorFile
from gateway.cli.base.event_text import event_parts, printable_json
from gateway.cli.base.terminal import say
from gateway.cli.client.options import DEFAULT_URL, read_key
from gateway.cli.event_file import EventFile
from gateway.errors import InvalidRequest
from gateway.formats.names import FORMAT_NAMES, TEXT_FORMATS

if TYPE_CHECKING:
    from gateway.client.aio import AsyncStream

INTERRUPTED = 130
_BEGINS = ("after", "since", "from")

_EXAMPLES = """\b
Examples:
  audit-gateway tail
  audit-gateway tail --category 'auth.*' --outcome denied --since 15m
  audit-gateway tail --filter 'severity >= 4 && data.bytes > 1000000'
  audit-gateway tail --from start --no-follow --json > events.ndjson
  audit-gateway tail --after 8kq2m9x4ty-00000000000000012345
  audit-gateway tail --from start --output events.ndjson --rotate-size 100MiB
  audit-gateway tail --json --cursor-file position | consumer
  audit-gateway tail --format cef --output events.cef

\b
Exit codes: 0 complete, 2 usage, 3 the key was refused or lost its rights,
5 the gateway cannot be reached. A lost connection is taken up again where it
broke. With --output or --cursor-file a gateway that is away is waited for.
"""


_FILE = click.Path(path_type=Path, dir_okay=False)


def _selector(name: str, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(f"--{name}", multiple=True, metavar="PATTERN", help=what)


@click.command("tail", epilog=_EXAMPLES)
@_selector("tenant", "Only these tenants. Each of these options may repeat.")
@_selector("category", "Only these categories; `auth.*` and `auth.**` match by segment.")
@_selector("action", "Only these actions.")
@_selector("outcome", "Only these outcomes: success, failure, denied, unknown.")
@_selector("actor", "Only these actors, by id.")
@_selector("resource", "Only events on these resources, such as `k8s:prod/ns/pay/**`.")
@click.option("--min-severity", type=click.IntRange(1, 6), help="Only this severity and above.")
@click.option("--filter", metavar="EXPRESSION", help="Only what a CEL expression is true for.")
@click.option("--since", metavar="TIME", help="Begin at a time, or so long ago: 15m, 24h.")
@click.option("--from", "from", type=click.Choice(("start", "now")), help="Begin there.")
@click.option("--after", metavar="CURSOR", help="Begin behind a cursor.")
@click.option("--limit", type=click.IntRange(min=1), help="End after so many events.")
@click.option(
    "--no-follow",
    "follow",
    flag_value=False,
    default=None,
    help="End at the newest event instead of waiting.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the events as NDJSON.")
@click.option(
    "--format",
    type=click.Choice(FORMAT_NAMES),
    help="What events are written as, a line each; see deploy/formats.md.",
)
@click.option("--url", default=DEFAULT_URL, show_default=True, help="Address of the gateway.")
@click.option(
    "--key-file",
    type=_FILE,
    help="File that holds the key; else the variable AUDIT_GATEWAY_KEY.",
)
@click.option(
    "--consumer",
    metavar="NAME",
    help="Read as a durable consumer: the gateway keeps the position, which is acknowledged when "
    "the events are written. Its --since and --from count for its first use.",
)
@click.option(
    "--update-selection",
    is_flag=True,
    help="Have the consumer take other selectors or another filter than it was made with.",
)
@click.option(
    "--cursor-file",
    type=_FILE,
    help="File that keeps the position, to go on there; --since, --from and --after count for the "
    "first start.",
)
@click.option(
    "--output",
    type=_FILE,
    help="Append the events to a file as NDJSON, each exactly once; reopened at SIGHUP. The "
    "position is kept in FILE.cursor, unless --cursor-file names another.",
)
@click.option("--rotate-size", metavar="SIZE", help="Rotate the output at a size: 100MiB.")
@click.option(
    "--rotate-keep",
    type=click.IntRange(min=1),
    help="Number of rotated files, FILE.1 the newest.  [default: 5]",
)
@click.option(
    "--max-backoff",
    default="5s",
    show_default=True,
    metavar="DURATION",
    help="Longest pause before a lost connection is tried again.",
)
def tail_command(
    as_json: bool,
    format: str | None,
    url: str,
    key_file: Path | None,
    cursor_file: Path | None,
    output: Path | None,
    rotate_size: str | None,
    rotate_keep: int | None,
    max_backoff: str,
    update_selection: bool,
    **selected: Any,
) -> None:
    """Show events as they come in, one per line.

    What the key may see and the options select is shown. Everything beside
    the events goes to standard error.
    """
    # Imported here: `--help` need not wait for it.
    from gateway.clock import parse_duration

    pause, key = float(max(1, parse_duration(max_backoff))), read_key(key_file)
    _check_output(output, cursor_file, rotate_size, rotate_keep)
    if as_json and format is not None:
        raise InvalidRequest("--json and --format name two formats: give one of them")
    parameters = {name: value for name, value in selected.items() if value not in (None, ())}
    if format is not None:
        parameters["format"] = format
    if update_selection:
        if "consumer" not in parameters:
            raise InvalidRequest("--update-selection is about --consumer: give that, too")
        parameters["selection"] = "update"
    if output is not None and cursor_file is None:
        cursor_file = output.with_name(f"{output.name}.cursor")
    kept = None if cursor_file is None else CursorFile(cursor_file)
    size = 0 if rotate_size is None else _size(rotate_size)
    file = None if output is None else EventFile(output, size, rotate_keep or 5, format or "native")
    with nullcontext() if file is None else closing(file):
        cursor = None if kept is None else begin_of(kept, file)
        if cursor is not None:
            parameters = {name: parameters[name] for name in parameters if name not in _BEGINS}
            parameters["after"] = cursor
        _follow(_Run(url, key, parameters, pause, kept, file or Printed(as_json, format)))


class _Run(NamedTuple):
    url: str
    key: str
    parameters: dict[str, Any]
    max_pause: float
    kept: CursorFile | None
    output: EventFile | Printed


def _follow(run: _Run) -> None:
    """Follow a stream to its end, or until somebody has seen enough."""
    import asyncio

    streams: list[AsyncStream] = []
    try:
        asyncio.run(_following(run, streams))
    except asyncio.CancelledError:
        # SIGTERM: all is where it belongs.
        pass
    except KeyboardInterrupt:
        cursor = streams[0].cursor if streams else None
        go_on = f"; go on with --after {cursor}" if cursor and run.kept is None else ""
        say("", f"stopped{go_on}", err=True)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader closed the pipe (`tail | head`). Python would complain at exit otherwise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _following(run: _Run, streams: list[AsyncStream]) -> None:
    from gateway.cli.following import StreamFollower
    from gateway.client.aio import AsyncClient

    async with AsyncClient(run.url, run.key, notice=_notice) as client:
        unattended = run.kept is not None or "consumer" in run.parameters
        stream = client.stream(max_pause=run.max_pause, patient=unattended, **run.parameters)
        streams.append(stream)
        await StreamFollower(stream, run.output, run.kept, ends_well=unattended).run()


def _notice(text: str) -> None:
    say(text, err=True)


def begin_of(kept: CursorFile, file: EventFile | None) -> str | None:
    """Where to go on; None at the first start.

    The later one of two positions: of the last event in the file, or in the one that was rotated
    last, and of the cursor that was kept, which may be a second older, or further where nothing was
    selected.
    """
    found = kept.read()
    if file is None:
        return found
    if file.cursor is not None:
        return _later(file.cursor, found)
    if found is None or file.rotated_since(kept.path):
        return _later(file.rotated_cursor(), found)
    return found


def _later(written: str | None, kept: str | None) -> str | None:
    """The later of two cursors; `written` if they are of different logs."""
    from gateway.cursor import later, parse_cursor

    if written is None or kept is None:
        return written or kept
    epoch, position = parse_cursor(written)
    its_epoch, its_position = parse_cursor(kept)
    return kept if (its_epoch, later(position, its_position)) == (epoch, its_position) else written


def _check_output(
    output: Path | None, cursor_file: Path | None, rotate_size: str | None, rotate_keep: int | None
) -> None:
    if output is None and (rotate_size is not None or rotate_keep is not None):
        raise InvalidRequest("--rotate-size and --rotate-keep are about --output: give that, too")
    if rotate_size is None and rotate_keep is not None:
        raise InvalidRequest("--rotate-keep is about --rotate-size: give that, too")
    if None not in (output, cursor_file) and output == cursor_file:
        raise InvalidRequest("--output and --cursor-file name one file: give each its own")


def _size(text: str) -> int:
    from gateway.settings.kinds import SIZE

    try:
        size: int = SIZE.read(SIZE.from_text(text))
    except ValueError as error:
        raise InvalidRequest(f"--rotate-size {error}") from None
    if size < 1:
        raise InvalidRequest("--rotate-size is a size such as 100MiB; leave it out for no rotation")
    return size


class Printed:
    """Events on standard output: as lines for people, as NDJSON, or as text of a format."""

    def __init__(self, as_json: bool, format: str | None = None) -> None:
        self.write = _printer(as_json or format is not None, format in TEXT_FORMATS)

    def sync(self) -> None:
        sys.stdout.flush()


def _printer(as_lines: bool, as_text: bool) -> Callable[[list[bytes]], None]:
    """Function that prints events: in lines for people, or as they came."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    if as_text and not sys.stdout.isatty():
        # It has no escapes that mean the same.
        return lambda events: click.echo(b"\n".join(events))
    if as_lines:
        return lambda events: click.echo(printable_json(b"\n".join(events).decode()))

    import msgspec

    decode = msgspec.json.Decoder(dict[str, Any]).decode
    if not sys.stdout.isatty():
        return lambda events: say(
            *(" ".join(text for text, _ in event_parts(decode(event))) for event in events)
        )

    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)

    def show(events: list[bytes]) -> None:
        for event in events:
            line = Text(" ").join(Text(text, style) for text, style in event_parts(decode(event)))
            console.print(line, no_wrap=True, overflow="ellipsis", crop=True)

    return show
