"""The recipes of deploy/shippers/, started in a scene with the real programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from scene import (
    EVENTS_FILE,
    FOLDER,
    RECEIVED_FILE,
    RECIPES,
    Killable,
    MissingProgram,
    Scene,
    content,
    found,
)

from tests.setup_clients import Missing, node_program


class Started(NamedTuple):
    """A recipe that runs. `file` is where the events come out, and `events` the file of `tail`."""

    shipper: Killable
    file: Path
    tail: Killable | None = None
    events: Path | None = None


def _configured(scene: Scene, recipe: str, other: Mapping[str, str], name: str = "audit.*") -> Path:
    """A configuration of a recipe, with files of its own."""
    places = dict(other)
    for place, here in (
        (EVENTS_FILE, _events(scene, recipe)),
        (RECEIVED_FILE, _received(scene, recipe)),
    ):
        if any(place in path.read_text() for path in (RECIPES / recipe).glob(name)):
            places[place] = str(here)
    return scene.configured(recipe, places, name)


def rsyslog(scene: Scene) -> Started:
    """rsyslog behind the file of `tail`."""
    path, settings = found("rsyslogd")
    work = scene.folder / "rsyslog"
    work.mkdir()
    file = _configured(scene, "rsyslog", {"/var/spool/rsyslog": str(work)})
    return _behind_tail(scene, "rsyslog", *rsyslog_command(path, settings, file))


def rsyslog_command(
    path: Path, settings: dict[str, str], file: Path
) -> tuple[list[str | Path], dict[str, str], list[Path]]:
    """How rsyslog is run with a configuration, and the file that a kill leaves."""
    pid = file.with_suffix(".pid")
    modules = [str(one) for one in FOLDER.glob("usr/lib/*/rsyslog")] if settings else []
    options = ["-n", "-f", str(file), "-i", str(pid), *(["-M", modules[0]] if modules else [])]
    return [path, *options], settings, [pid]


def syslog_ng(scene: Scene) -> Started:
    """syslog-ng behind the file of `tail`."""
    path, settings = found("syslog-ng")
    file = _configured(scene, "syslog-ng", {})
    work = scene.folder / "syslog-ng"
    work.mkdir()
    options = [
        "-F", "-f", str(file), "-R", str(work / "persist"), "-p", str(work / "pid"),
        "-c", str(work / "control"), "--no-caps",
    ]  # fmt: skip
    if settings:
        modules = os.pathsep.join(map(str, FOLDER.glob("usr/lib/syslog-ng/*")))
        options += ["--module-path", modules]
    return _behind_tail(scene, "syslog-ng", [path, *options], settings)


def collector(scene: Scene, url: str) -> Started:
    """An OpenTelemetry Collector behind the file of `tail`, which sends to an address."""
    path, settings = found("otelcol")
    places = {
        "/var/lib/otelcol/storage": str(scene.folder / "storage"),
        "https://otlp.example.org": url,
    }
    file = _configured(scene, "otel-collector", places)
    arguments = ["--config", str(file), "--feature-gates=stanza.synchronousLogEmitter"]
    return _behind_tail(scene, "otel-collector", [path, *arguments], settings)


def websocat(scene: Scene) -> Started:
    """websocat at the URL of a consumer."""
    path, _ = found("websocat")
    received = _received(scene, "websocat")
    credentials = scene.folder / "credentials"
    credentials.write_text(f"anybody:{scene.key}\n")
    settings = {
        "PATH": f"{path.parent}{os.pathsep}{os.environ['PATH']}", "FILE": str(received),
        "URL": scene.gateway.url.replace("http", "ws"), "CREDENTIALS": str(credentials),
    }  # fmt: skip
    return Started(scene.run(["sh", RECIPES / "websocat" / "follow.sh"], settings), received)


def benthos(scene: Scene) -> Started:
    """Benthos at the URL of a consumer."""
    path, _ = found("benthos")
    url = scene.gateway.url.replace("http", "ws")
    file = _configured(scene, "benthos", {"wss://audit.example.org": url})
    program = scene.run([path, "-c", str(file)], {"AUDIT_KEY": scene.key})
    return Started(program, _received(scene, "benthos"))


def benthos_pages(scene: Scene) -> Started:
    """Benthos that polls pages of a consumer."""
    path, _ = found("benthos")
    folder = "benthos-pages"
    received = _received(scene, folder)
    places = {"https://audit.example.org": scene.gateway.url, RECEIVED_FILE: str(received)}
    file = scene.configured("benthos", places, "polling.yaml")
    return Started(scene.run([path, "-c", str(file)], {"AUDIT_KEY": scene.key}), received)


def telegraf(scene: Scene) -> Started:
    """Telegraf that polls pages of a consumer."""
    path, _ = found("telegraf")
    received, key = _received(scene, "telegraf"), scene.folder / "key"
    key.write_text(scene.key)
    places = {
        "https://audit.example.org": scene.gateway.url, "/etc/audit/siem.key": str(key),
        "/var/lib/telegraf/buffer": str(scene.folder / "buffer"), RECEIVED_FILE: str(received),
    }  # fmt: skip
    return Started(
        scene.run([path, "--config", str(scene.configured("telegraf", places))], {}), received
    )


def node_red(scene: Scene) -> Started:
    """Node-RED at the URL of a consumer."""
    red, _ = found("node-red/node_modules/node-red/red.js")
    try:
        node = node_program()
    except Missing as missing:
        raise MissingProgram(str(missing)) from None
    file = _configured(scene, "node-red", {}, "flows.json")
    url = scene.gateway.url.replace("http", "ws")
    settings = {
        "AUDIT_STREAM": f"{url}/v1/stream?consumer=node-red&from=start&on_gap=skip",
        "AUDIT_AUTHORIZATION": f"Bearer {scene.key}",
        # Node keeps compiled code there.
        "TMPDIR": str(scene.folder),
    }
    options = ["-u", str(scene.folder / "user"), "-p", "0", str(file)]
    program = scene.run([node, red, *options], settings)
    return Started(program, _received(scene, "node-red"))


def curl(scene: Scene) -> Started:
    """curl in its loop; `file` is the folder of pages."""
    folder = scene.folder / "pages"
    folder.mkdir()
    script = RECIPES / "curl" / "follow.sh"
    settings = {"URL": scene.gateway.url, "HEADER": str(scene.header), "FOLDER": str(folder)}
    return Started(scene.run(["sh", script], settings), folder)


def pages(folder: Path) -> bytes:
    """What curl has received."""
    return b"".join(content(path) for path in sorted(folder.glob("after-*.ndjson")))


SHIPPERS: Mapping[str, Callable[[Scene], Started]] = {
    "websocat": websocat,
    "Benthos, WebSocket": benthos,
    "Benthos, pages": benthos_pages,
    "Telegraf, pages": telegraf,
    "Node-RED": node_red,
    "curl, pages": curl,
    "rsyslog, file of `tail`": rsyslog,
    "syslog-ng, file of `tail`": syslog_ng,
}


def _events(scene: Scene, recipe: str) -> Path:
    return scene.folder / f"{recipe}-events.ndjson"


def _received(scene: Scene, recipe: str) -> Path:
    return scene.folder / f"{recipe}-received.ndjson"


def _behind_tail(
    scene: Scene,
    recipe: str,
    command: list[str | Path],
    settings: Mapping[str, str],
    stale: list[Path] | None = None,
) -> Started:
    events = _events(scene, recipe)
    tail = scene.tail(events)
    program = scene.run(command, settings, stale or ())
    return Started(program, _received(scene, recipe), tail, events)
