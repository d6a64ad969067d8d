"""Real receivers of destinations, which are killed and asked afterwards what they have."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import trustme
from recipes import rsyslog_command
from scene import RECIPES, Killable, MissingProgram, Scene, content, found, ids_in

from tests.support.bucket import SECRET_KEY
from tests.support.machine_time import patience
from tests.support.services.ports import free_port

OPENSEARCH = Path(__file__).parent / "opensearch"
SINK, INDEXER = (Path(__file__).with_name(name) for name in ("sink.py", "indexer.py"))
ACCESS_KEY, BUCKET = "AKID", "audit"
_PAGE = 10_000


class Receiver(NamedTuple):
    """A receiver of one destination: members of the destination, the program, how often it has
    each event, and whether it forgets what it has acknowledged when it is killed."""

    name: str
    destination: Mapping[str, Any]
    program: Killable | None
    counts: Callable[[], Counter[str]]
    forgets: bool = False


# Commands, also of tests that start them in another way


def opensearch_command(folder: Path, port: int, transport: int) -> list[str]:
    """How a node of OpenSearch is started. Raises `MissingProgram`."""
    if shutil.which("java") is None or not (OPENSEARCH / "Receiver.class").exists():
        raise MissingProgram("OpenSearch is not on this machine: see test_opensearch.py")
    (folder / "config").mkdir(parents=True)
    classes = f"{OPENSEARCH}:{OPENSEARCH}/lib/*"
    return [
        "java", "-Xms512m", "-Xmx512m", "-cp", classes, "Receiver", str(folder), str(port),
        str(transport),
    ]  # fmt: skip


def object_store_command(folder: Path, port: int) -> list[str]:
    """How an object store with the bucket is started. Raises `MissingProgram`."""
    program, _ = found("versitygw")
    (folder / "objects" / BUCKET).mkdir(parents=True)
    (folder / "metadata").mkdir()
    return [
        str(program), "--access", ACCESS_KEY, "--secret", SECRET_KEY,
        "--port", f"127.0.0.1:{port}", "--quiet",
        "posix", "--sidecar", str(folder / "metadata"), str(folder / "objects"),
    ]  # fmt: skip


# Receivers in a scene


def victoria_logs(scene: Scene) -> list[Receiver]:
    """VictoriaLogs by each protocol that it has in common with destinations."""
    path, _ = found("victoria-logs")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = scene.run(
        [path, "-retentionPeriod=10y", "-defaultMsgValue=event",
         f"-storageDataPath={scene.folder / 'victoria'}", f"-httpListenAddr=127.0.0.1:{port}"],
        {},
    )  # fmt: skip

    def receiver(
        kind: str, path: str, settings: Mapping[str, Any], mine: str, member: str, **members: Any
    ) -> Receiver:
        query = quote(f"{mine} | stats by ({member}) count() copies")

        def counts() -> Counter[str]:
            lines = fetched(f"{url}/select/logsql/query?query={query}").splitlines()
            rows = [json.loads(line) for line in lines]
            return Counter({one[member].rpartition(":")[2]: int(one["copies"]) for one in rows})

        destination = {"type": kind, "settings": {"url": url + path, **settings}, **members}
        return Receiver(f"VictoriaLogs, `{kind}`", destination, program, counts, forgets=True)

    return [
        receiver("splunk_hec", "/insert/splunk", {"source": "soak"}, "source:soak",
                 "fields.event_id", secrets={"token": "any"}),
        receiver("loki", "/insert", {"service_name": "soak-loki"}, "service_name:soak-loki",
                 "event_id"),
        receiver("otlp", "/insert/opentelemetry", {"service_name": "soak-otlp"},
                 '"service.name":soak-otlp', "log.record.uid"),
        receiver("elasticsearch", "/insert/elasticsearch", {}, '"event.dataset":*', "event.id"),
    ]  # fmt: skip


def opensearch(scene: Scene) -> list[Receiver]:
    """OpenSearch by its bulk interface."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = scene.run(opensearch_command(scene.folder / "opensearch", port, free_port()), {})
    template = (RECIPES / "elasticsearch-template.json").read_bytes()
    scene.until(lambda: bool(fetched(f"{url}/_cluster/health?wait_for_status=yellow")), "a node")
    fetched(f"{url}/_index_template/audit", template, "PUT")

    def counts() -> Counter[str]:
        return Counter(_documents(url))

    destination = {"type": "elasticsearch", "settings": {"url": url}}
    return [Receiver("OpenSearch, `elasticsearch`", destination, program, counts)]


def _documents(url: str) -> Iterator[str]:
    fetched(f"{url}/audit-*/_refresh", b"", "POST")
    query = {"size": _PAGE, "_source": ["event.id"]}
    said = fetched(f"{url}/audit-*/_search?scroll=1m", json.dumps(query).encode(), "POST")
    while said and (hits := (answer := json.loads(said))["hits"]["hits"]):
        for hit in hits:
            yield hit["_source"]["event"]["id"]
        more = {"scroll": "1m", "scroll_id": answer["_scroll_id"]}
        said = fetched(f"{url}/_search/scroll", json.dumps(more).encode(), "POST")


def object_store(scene: Scene) -> list[Receiver]:
    """versitygw, with an object every two seconds."""
    port, folder = free_port(), scene.folder / "store"
    program = scene.run(object_store_command(folder, port), {})

    def counts() -> Counter[str]:
        found: Counter[str] = Counter()
        for path in (folder / "objects" / BUCKET).glob("soak/dt=*/hour=*/*.ndjson.gz"):
            found.update(ids_in(gzip.decompress(path.read_bytes())))
        return found

    settings = {
        "url": f"http://127.0.0.1:{port}", "bucket": BUCKET, "access_key": ACCESS_KEY,
        "prefix": "soak",
    }  # fmt: skip
    destination = {
        "type": "s3", "settings": settings, "secrets": {"secret_key": SECRET_KEY},
        "batch": {"max_wait": "2s"},
    }  # fmt: skip
    return [Receiver("versitygw, `s3`", destination, program, counts)]


def files(scene: Scene) -> list[Receiver]:
    """The disk of the gateway."""
    folder = scene.folder / "data" / "destinations" / "soak"

    def counts() -> Counter[str]:
        found: Counter[str] = Counter()
        for path in folder.glob("*.ndjson*"):
            if "manifest" not in path.name and not path.name.endswith(".tmp"):
                raw = path.read_bytes()
                found.update(ids_in(gzip.decompress(raw) if path.suffix == ".gz" else raw))
        return found

    settings = {"folder": "soak", "max_bytes": 1 << 20}
    return [Receiver("`file`", {"type": "file", "settings": settings}, None, counts)]


def rsyslog(scene: Scene) -> list[Receiver]:
    """rsyslog over TLS."""
    path, settings = found("rsyslogd")
    port, work, authority = free_port(), scene.folder / "rsyslog-tls", trustme.CA()
    work.mkdir()
    certificate = authority.issue_cert("localhost")
    key, chain, ca = work / "key.pem", work / "cert.pem", work / "ca.pem"
    certificate.private_key_pem.write_to_path(str(key))
    certificate.cert_chain_pems[0].write_to_path(str(chain))
    authority.cert_pem.write_to_path(str(ca))
    received, file = work / "received.ndjson", work / "rsyslog.conf"
    file.write_text(f'''
        global(workDirectory="{work}" maxMessageSize="512k" DefaultNetstreamDriver="ossl"
               DefaultNetstreamDriverCAFile="{ca}" DefaultNetstreamDriverCertFile="{chain}"
               DefaultNetstreamDriverKeyFile="{key}")
        module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1"
               StreamDriver.AuthMode="anon")
        template(name="line" type="string" string="%msg%\\n")
        ruleset(name="audit" queue.type="Direct") {{
            action(type="omfile" file="{received}" template="line")
        }}
        input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="audit")
    ''')
    program = scene.run(*rsyslog_command(path, settings, file))
    destination = {
        "type": "syslog", "settings": {"url": f"tls://127.0.0.1:{port}"},
        "tls": {"ca": ca.read_text(), "server_name": "localhost"},
    }  # fmt: skip
    return [
        Receiver("rsyslog over TLS, `syslog`", destination, program,
                 lambda: Counter(ids_in(content(received))))
    ]  # fmt: skip


def collector(scene: Scene, url: str, received: Sequence[bytes]) -> list[Receiver]:
    """An OpenTelemetry Collector that answers once what it sends to has answered."""
    path, settings = found("otelcol")
    port, file = free_port(), scene.folder / "collector.yaml"
    file.write_text(
        f"""
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters:
  otlp_http:
    {{endpoint: "{url}", encoding: json, sending_queue: {{enabled: false}},
      retry_on_failure: {{enabled: false}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{logs: {{receivers: [otlp], exporters: [otlp_http]}}}}
"""
    )
    program = scene.run([path, "--config", str(file)], settings)
    destination = {"type": "otlp", "settings": {"url": f"http://127.0.0.1:{port}"}}
    return [
        Receiver("OpenTelemetry Collector, `otlp`", destination, program,
                 lambda: Counter(ids_in(b"".join(received))))
    ]  # fmt: skip


def http_sink(scene: Scene) -> list[Receiver]:
    """A program of ours that appends lines to a file."""
    port, received = free_port(), scene.folder / "sink.ndjson"
    program = scene.run([sys.executable, SINK, str(port), str(received)], {})
    destination = {"type": "http", "settings": {"url": f"http://127.0.0.1:{port}/"}}
    return [
        Receiver("a receiver of ours, `http`", destination, program,
                 lambda: Counter(ids_in(content(received))))
    ]  # fmt: skip


def indexer(scene: Scene) -> list[Receiver]:
    """A program of ours that acknowledges what it has indexed."""
    port, received = free_port(), scene.folder / "indexed.ndjson"
    program = scene.run([sys.executable, INDEXER, str(port), str(received)], {})
    settings = {"url": f"http://127.0.0.1:{port}", "ack": "required", "ack_timeout": "15s"}
    destination = {"type": "splunk_hec", "settings": settings, "secrets": {"token": "any"}}
    return [
        Receiver("a receiver of ours, `splunk_hec` with acknowledgement", destination, program,
                 lambda: Counter(ids_in(content(received))))
    ]  # fmt: skip


ALONE: Sequence[Callable[[Scene], list[Receiver]]] = (
    victoria_logs, opensearch, object_store, files, rsyslog, http_sink, indexer,
)  # fmt: skip


def toml(name: str, destination: Mapping[str, Any], key: str) -> str:
    """Table of a destination in the configuration of the gateway."""
    members = {"key": key, "from": "start", "retry": {"max": "2s"}, **destination}
    lines = [f"{member} = {_value(value)}" for member, value in members.items()]
    return "\n".join([f"[destinations.{name}]", *lines, ""])


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_value(one)}" for name, one in value.items()) + " }"
    return json.dumps(value)


def fetched(url: str, body: bytes | None = None, method: str = "GET") -> bytes:
    """Answer to a request; nothing where the receiver does not answer now."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=patience(20)) as answer:
            said: bytes = answer.read()
            return said
    except (OSError, urllib.error.HTTPError):
        return b""
