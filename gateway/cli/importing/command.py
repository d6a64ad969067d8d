"""`audit-gateway import`: bring audit records that exist already into the log."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from gateway.cli.base.cursor_file import CursorFile
from gateway.cli.base.event_text import printable
from gateway.cli.base.options import Folder
from gateway.cli.base.terminal import say
from gateway.cli.client.options import DEFAULT_URL, read_key
from gateway.cli.importing.state_files import state_file
from gateway.errors import GatewayError, InvalidRequest

if TYPE_CHECKING:
    from gateway.cli.importing.growing_file import FilePosition
    from gateway.cli.importing.importer import Importer, RefusedFile
    from gateway.ingest.reading import GoesOn
    from gateway.ingest.sink import Sink
    from gateway.ingest.sources.lines import MakeLines

NATIVE = "native"
REFUSED = "refused.ndjson"
INTERRUPTED = 130
_TENANT = re.compile(r"[a-z0-9._-]{1,64}")

_EXAMPLES = """\b
Examples:
  audit-gateway import events.ndjson
  audit-gateway import --source cloudtrail --tenant acme AWSLogs/*.json.gz
  audit-gateway import --source kubernetes --cluster prod --data ./data /var/log/audit.log
  audit-gateway import --source kubernetes --follow /var/log/kubernetes/audit.log
  zcat okta-*.gz | audit-gateway import --source okta -

\b
Exit codes: 0 all records are in, or --follow was ended; 1 some were refused, 2 usage or input,
3 the key was refused, 5 the gateway cannot be reached.
"""


@click.command("import", epilog=_EXAMPLES)
@click.option(
    "--source",
    "--format",
    "source_name",
    default=NATIVE,
    show_default=True,
    metavar="NAME|FILE",
    help="What the records are: a name of `sources list`, or a file with a definition. `native` is "
    "the gateway's own form.",
)
@click.option("--cluster", help="Name of the Kubernetes cluster, for resource paths.")
@click.option("--url", help=f"Address of a running gateway.  [default: {DEFAULT_URL}]")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that holds the key; else the variable AUDIT_GATEWAY_KEY.",
)
@click.option(
    "--data",
    type=Folder(),
    help="Write into this data folder instead; no gateway may be running on it.",
)
@click.option("--tenant", help="Tenant of events that name none.  [default: default]")
@click.option(
    "--refused",
    "refused_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that refused records are appended to.  [default: beside the data folder, "
    "DATA.refused.ndjson; over HTTP ~/.local/state/audit-gateway/refused.ndjson]",
)
@click.option(
    "--follow",
    is_flag=True,
    help="Go on with what the files get, also when they are rotated, until SIGTERM or SIGINT.",
)
@click.option(
    "--cursor-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that keeps the position in the one that is followed.  [default: beside the data "
    "folder, DATA.follow-DIGEST.cursor; over HTTP "
    "~/.local/state/audit-gateway/follow-DIGEST.cursor]",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=500,
    show_default=True,
    help="Events per request.",
)
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(dir_okay=False, allow_dash=True),
)
def import_command(
    source_name: str,
    cluster: str | None,
    url: str | None,
    key_file: Path | None,
    data: Path | None,
    tenant: str | None,
    refused_file: Path | None,
    follow: bool,
    cursor_file: Path | None,
    batch: int,
    files: tuple[str, ...],
) -> None:
    """Import audit records from files, `-` for standard input.

    A file is NDJSON, a JSON array or one object; gzip, bz2, xz, zstd and zip are recognised, and
    so are envelopes around records, such as {"Records": [...]}. The record itself is
    kept unchanged under `data`. Importing a file again does no harm: the same record gets the
    same id, and the gateway counts it as a duplicate.

    Records that cannot be taken are appended to a file with their place and the
    reason, and never keep others out. The summary names the file.

    With --follow the command goes on with each line that the files get, and after a
    restart where it was. A file need not be there yet.
    """
    from gateway.cli.importing.importer import Importer, RefusedFile

    if tenant is not None and not _TENANT.fullmatch(tenant):
        raise InvalidRequest(f"--tenant {tenant}: a tenant is 1 to 64 of a-z, 0-9, `.`, `_`, `-`")
    _check_files(follow, cursor_file, files)
    refused_path = refused_file or state_file(data, REFUSED)
    _check_refused_file(refused_path, files)
    lines, goes_on = make_lines(source_name, tenant, cluster)
    kept = RefusedFile(refused_path, follow_links=refused_file is not None)
    if follow:
        paths = list(dict.fromkeys(Path(os.path.abspath(file)) for file in files))
        given = source_name, tenant, cluster, url
        cursors = [
            CursorFile(
                cursor_file or state_file(data, f"follow-{_digest(str(path), *given)}.cursor")
            )
            for path in paths
        ]
        make = partial(make_sink, url, key_file, data, _notice, mapped=source_name != NATIVE)
        with kept as refused:
            _follow(list(zip(paths, cursors, strict=True)), make, lines, goes_on, refused, batch)
        return
    with _progress(files) as (advance, say), kept as refused:
        sink = make_sink(url, key_file, data, say, mapped=source_name != NATIVE)
        try:
            importer = Importer(
                lines, sink, refused, batch=batch, progress=advance, goes_on=goes_on
            )
            _run(importer, files)
        finally:
            sink.close()
    _report(importer, refused)
    if importer.count.refused:
        click.get_current_context().exit(1)


def make_lines(
    source_name: str, tenant: str | None, cluster: str | None
) -> tuple[MakeLines, GoesOn | None]:
    """The mapping of a source, by its name or the file of its definition, and how its lines are
    read."""
    from gateway.clock import SystemClock
    from gateway.ingest.sources.catalog import definition_named, make_source
    from gateway.ingest.sources.lines import lines_of, native_lines

    if source_name == NATIVE:
        return native_lines(tenant), None
    options = {} if cluster is None else {"cluster": cluster}
    source = make_source(definition_named(source_name), options, now=SystemClock().now)
    return lines_of(source, tenant), source.goes_on


def make_sink(
    url: str | None,
    key_file: Path | None,
    data: Path | None,
    notice: Callable[[str], None],
    *,
    mapped: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Sink:
    """Sink of the import: the folder `data` if given, else the gateway at `url`. `mapped`:
    duplicates are recognised by the records under `data` alone."""
    if data is not None:
        if url is not None or key_file is not None:
            raise InvalidRequest("--data writes into a folder: leave out --url and --key-file")
        from gateway.cli.importing.folder_sink import FolderSink

        return FolderSink(data, mapped=mapped)
    from gateway.cli.importing.http_sink import HttpSink

    return HttpSink(
        DEFAULT_URL if url is None else url,
        read_key(key_file),
        notice=notice,
        mapped=mapped,
        sleep=sleep,
    )


def _follow(
    paths: list[tuple[Path, CursorFile]],
    make: Callable[..., Sink],
    lines: MakeLines,
    goes_on: GoesOn | None,
    refused: RefusedFile,
    batch: int,
) -> None:
    """Follow files until a signal; then, and on errors, report."""
    from gateway.cli.importing.follower import FileFollower, PatientSink, pausing, until_signalled
    from gateway.cli.importing.growing_file import GrowingFile
    from gateway.cli.importing.importer import Importer

    with ExitStack() as stack:
        wait = stack.enter_context(until_signalled())
        files = []
        for path, kept in paths:
            position = _position_in(path, kept)
            file = GrowingFile(path, position, goes_on=goes_on, notice=_notice)
            stack.callback(file.close)
            files.append((file, kept))
            there = "" if path.exists() else ", which is not there yet"
            _notice(f"following {path}{there}; the position is kept in {kept.path}")
        sink = make(sleep=pausing(wait))
        stack.callback(sink.close)
        importer = Importer(lines, PatientSink(sink, wait, _notice), refused, batch=batch)
        try:
            FileFollower(files, importer, refused, goes_on).run(wait, time.monotonic)
        finally:
            _report(importer, refused)


def _position_in(path: Path, kept: CursorFile) -> FilePosition | None:
    from gateway.cli.importing.growing_file import parse_position

    try:
        text = kept.read()
    except OSError as error:
        raise InvalidRequest(f"{kept.path} cannot be read: {error.strerror}") from None
    return None if text is None else parse_position(text, path, kept.path)


def _check_files(follow: bool, cursor_file: Path | None, files: tuple[str, ...]) -> None:
    if cursor_file is not None and not follow:
        raise InvalidRequest("--cursor-file goes with --follow")
    if cursor_file is not None and len(files) > 1:
        raise InvalidRequest("--cursor-file keeps one position: leave it out for several files")
    if follow and "-" in files:
        raise InvalidRequest("--follow takes files; standard input is read without it")
    for file in files:
        if not follow and file != "-" and not os.path.exists(file):
            raise InvalidRequest(f"{file} does not exist")


def _digest(*given: str | None) -> str:
    return hashlib.sha256(repr(given).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _notice(text: str) -> None:
    say(text, err=True)


def _run(importer: Importer, files: tuple[str, ...]) -> None:
    """Import all files; if interrupted, report what is stored and how to continue."""
    try:
        for file in files:
            with opened(file) as stream:
                importer.run(file, stream)
    except KeyboardInterrupt:
        say("", f"interrupted. {importer.count}. {_GO_ON}", err=True)
        raise SystemExit(INTERRUPTED) from None
    except GatewayError:
        if importer.count.read:
            say(f"stopped. {importer.count}. {_GO_ON}", err=True)
        raise


_GO_ON = "Run the same command again to go on: what is in already counts as duplicates."


def _report(importer: Importer, refused: RefusedFile) -> None:
    say(str(importer.count), err=True)
    if refused.first is not None:
        say(f"for example {refused.first}", err=True)
        say(f"the refused records and the reasons are in {refused.path}", err=True)


@contextmanager
def opened(file: str) -> Iterator[io.BufferedIOBase]:
    """The bytes of a file, or of standard input for `-`. Raises `InvalidRequest`."""
    if file == "-":
        yield cast(io.BufferedIOBase, sys.stdin.buffer)
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(open(file, "rb"))
        except OSError as error:
            raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from None
        yield stream


def _check_refused_file(refused: Path, files: tuple[str, ...]) -> None:
    if refused.resolve() in {Path(file).resolve() for file in files if file != "-"}:
        raise InvalidRequest(
            f"{refused}, to which refused records go, is one of the files to import; name another "
            "one with --refused FILE"
        )


@contextmanager
def _progress(
    files: tuple[str, ...],
) -> Iterator[tuple[Callable[[str, int], None], Callable[[str], None]]]:
    """Two functions: one takes a file and the bytes read of it, the other prints a line."""
    if not sys.stderr.isatty():
        yield lambda file, position: None, lambda text: say(text, err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    total = sum(os.path.getsize(file) for file in files if file != "-")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total or None)
        positions: dict[str, int] = {}

        def advance(file: str, position: int) -> None:
            positions[file] = position
            bar.update(task, completed=sum(positions.values()))

        yield advance, lambda text: console.print(printable(text), markup=False)
