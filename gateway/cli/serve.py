"""`audit-gateway serve`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.base.terminal import require_open_output, say

if TYPE_CHECKING:
    from gateway.http.request.context import Context
    from gateway.runtime.compose import Running
    from gateway.runtime.worker import Worker
    from gateway.settings.declarations import Settings

# Seconds after a failure that the end may take beyond the drain.
_END_SECONDS = 8.0
_EXAMPLES = """\b
Examples:
  audit-gateway serve --demo
  audit-gateway serve --data /var/lib/audit-gateway --host 0.0.0.0 --port 8080 --workers 4
  audit-gateway serve --config /etc/audit-gateway/config.toml

At the first start on a data folder a first admin key is printed, once; where what
is printed ends up in a log, set keys.first_key to "file".
SIGTERM and Ctrl-C end all streams with their cursors and stop. SIGHUP has the
certificate read again, where there is one, and stops otherwise.
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of settings; `config example` prints one.",
)
@click.option("--data", help="Folder of the log and the keys.  [default: ./audit-data]")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on, 0 for any free one.  [default: 8080]")
@click.option("--workers", type=int, help="Processes that share the port.  [default: 1]")
@click.option("--demo", is_flag=True, help="Append a made-up event every so often, to look at.")
def serve(
    config_file: Path | None,
    data: str | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    demo: bool,
) -> None:
    """Run the gateway until it is told to stop."""
    from gateway.runtime.process.event_loop import run
    from gateway.runtime.process.logs import configure_logs
    from gateway.settings.load import load

    flags = {"data": data, "server.host": host, "server.port": port, "server.workers": workers}
    settings = load(config_file, os.environ, flags)
    configure_logs(settings.log.level, settings.log.format)
    _name_empty(settings)
    _warn_of_plain_text(settings)
    if settings.server.workers == 1:
        run(_serve(settings, demo))
    else:
        from gateway.runtime.supervisor import supervise

        supervise(settings, lambda worker: _serve(settings, demo, worker))


def _name_empty(settings: Settings) -> None:
    """Warn of texts that the configuration file leaves empty, most often an unset variable."""
    import logging

    for path, one in settings.given.items():
        if one.shown == '""':
            logging.getLogger(__name__).warning(
                "%s is empty (%s): it counts as not set", path, one.origin
            )


def _warn_of_plain_text(settings: Settings) -> None:
    """Warn of an address that others can reach without TLS."""
    import logging

    from gateway.settings.server import PLAIN_TEXT_WARNING

    if settings.server.is_readable_on_the_way:
        logging.getLogger(__name__).warning("server.host: %s", PLAIN_TEXT_WARNING)


async def _serve(settings: Settings, demo: bool, worker: Worker | None = None) -> None:
    import asyncio
    import signal
    from functools import partial

    from gateway.runtime.compose import running
    from gateway.runtime.first_key import make_first_key
    from gateway.runtime.process.collector import Collector
    from gateway.runtime.process.memory import give_back_memory
    from gateway.runtime.process.threads import start_threads
    from gateway.runtime.supervisor import endings, reloads
    from gateway.tasks import stop as stop_tasks

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Ctrl-C and the end of a terminal reach all processes; the supervisor heeds them for all.
    for number in (signal.SIGTERM,) if worker is not None else endings(settings):
        loop.add_signal_handler(number, stop.set)
    if reloads(settings) and worker is None:
        # While it starts it reads the files anyway.
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
    start_threads()
    async with running(settings, worker=worker, stop=stop) as gateway:
        clock, tasks = gateway.context.clock, gateway.context.tasks
        if gateway.context.certificates is not None:
            loop.add_signal_handler(signal.SIGHUP, gateway.context.certificates.reload)
        collector = Collector()
        collector.begin()
        tasks.keep("collector", partial(collector.run, clock))
        tasks.keep("memory", partial(give_back_memory, clock))
        greets = True
        if worker is not None:
            worker.say_ready(stop)
            greets = worker.greets and await worker.all_ready()
            if greets:
                gateway.first_key = await make_first_key(gateway.context)
        if greets:
            try:
                require_open_output()
                await _greet(gateway, settings, demo)
            except OSError as error:
                _log_unsaid(gateway, settings, error)
        producing = []
        if demo and (worker is None or worker.writes):
            producing = [gateway.context.tasks.keep("demo", partial(_produce, gateway.context))]
        await stop.wait()
        await stop_tasks(producing)
        if (failure := gateway.context.failure) is not None:
            # The end may wait for the part that has failed.
            seconds = settings.server.drain_timeout + _END_SECONDS
            loop.call_later(seconds, os._exit, failure.exit_code)
    if (failure := gateway.context.failure) is not None:
        # The service manager restarts the process.
        raise failure


async def _demo_key(context: Context) -> str:
    """Create a read-only key for a day; a new one at each start, as none is shown twice."""
    from gateway.access.grants.grant import parse_grant
    from gateway.access.keys.issuance import new_key

    key, token = new_key(
        name="demo",
        purpose="looking at the demo",
        owner="whoever started the demo",
        grants=(parse_grant({"actions": ["stream", "pull"], "categories": ["**"]}),),
        now=context.clock.now(),
        life=86400,
        pepper=context.keyring.peppers.current.secret,
    )
    await context.key_store.create(key)
    return token


async def _produce(context: Context) -> None:
    """Append a few events at once, then one at intervals."""
    import random

    import orjson

    from gateway.cli.demo import demo_events
    from gateway.errors import Unavailable
    from gateway.ingest.decode import decode_events
    from gateway.ingest.ids import new_ids

    ids = new_ids(context.clock.now)
    events = demo_events(random.randrange(2**32))
    for number, event in enumerate(events):
        try:
            await context.writer.append(decode_events([orjson.dumps(event)], ids))
        except Unavailable as error:
            say(f"demo: {error.detail}", err=True)
        if number >= 10:
            await context.clock.sleep(random.uniform(0.2, 1.0))


async def _greet(gateway: Running, settings: Settings, demo: bool) -> None:
    say(f"audit-gateway is listening on {gateway.url} (data in {settings.data})")
    first = gateway.first_key
    if first is not None and settings.keys.first_key == "file":
        _say_where(gateway.url, first, settings)
        return
    if first is not None:
        say(f"first admin key, shown this once: {first}")
    shown = await _demo_key(gateway.context) if demo else first
    if shown is not None:
        _say_curl(f"curl -N -H 'Authorization: Bearer {shown}'", gateway.url)


def _log_unsaid(gateway: Running, settings: Settings, error: OSError) -> None:
    """Log the failed output and keep the first key: the gateway runs on."""
    import logging

    from gateway.adapters.files.folder import DataFolder

    logger = logging.getLogger(__name__)
    logger.warning(
        "standard output takes nothing (%s); listening on %s", error.strerror, gateway.url
    )
    if gateway.first_key is not None:
        path = DataFolder(settings.data).keep_first_key(gateway.first_key)
        logger.warning("first admin key, to be taken away from there: %s", path)


def _say_where(url: str, key: str, settings: Settings) -> None:
    """Print where the key is, not the key: the output may end up in a log."""
    from gateway.adapters.files.folder import DataFolder

    path = DataFolder(settings.data).keep_first_key(key)
    say(f"first admin key, to be taken away from there: {path}")
    header = f"sed 's/^/Authorization: Bearer /' {shlex.quote(str(path))}"
    _say_curl(f"{header} | curl -N -H @-", url)


def _say_curl(beginning: str, url: str) -> None:
    say("see events:")
    say(f"  {beginning} -H 'Accept: text/event-stream' '{url}/v1/stream?from=start'")
