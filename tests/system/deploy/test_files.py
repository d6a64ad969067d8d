"""What deploy/ ships, as far as it can be judged without running containers.

Dockerfile: a linter, and its health check is run. compose.yaml: the Compose specification.
kubernetes/: Kubernetes' own schemas. nginx.conf and haproxy.cfg: the programs' own checks, beside
the tests that run them. And all of them: what they say of the gateway is so.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway import __version__
from gateway.cli.keys.changes import rotate
from gateway.clock import parse_duration
from gateway.http.metrics.declarations import METRICS
from gateway.settings.declarations import DECLARED, SECTIONS, Settings
from gateway.settings.load import load
from gateway.settings.sources import env_name
from tests.support.gateway_process import ROOT, GatewayProcess
from tests.support.machine_time import patience
from tests.support.services.valkey import binary
from tests.system.deploy.proxies import DEPLOY, KINDS, Certificate, command, configuration

PROGRAMS = Path(sys.executable).parent
DATA = "/var/lib/audit-gateway"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
GATEWAYS = [COMPOSE["services"][name] for name in ("gateway-1", "gateway-2")]
OBJECTS = {
    one["kind"]: one
    for file in sorted((DEPLOY / "kubernetes").iterdir())
    for one in yaml.safe_load_all(file.read_text(encoding="utf-8"))
}
POD = OBJECTS["Deployment"]["spec"]["template"]
[CONTAINER] = POD["spec"]["containers"]
# A drain takes less than `server.drain_timeout`; this is for the rest of the end.
END_SECONDS = 10
# A name alone is an image of the default registry; a host would have a dot or a port.
PLAIN_IMAGE = re.compile(r"[a-z][a-z0-9-]*(:[a-z0-9.-]+)?")
# What looks like the name of a setting, and is a file or an action, also one of a record.
OTHERS = (
    "log.db", "keys.db", "keys.md", "limits.md", "keys.admin", "keys.read", "destinations.admin",
    "log.new_epoch", "log.imported",
)  # fmt: skip
WRITTEN = [
    "Dockerfile", "backup.md", "compose.yaml", "haproxy.cfg", "keys.md", "nginx.conf", "sizing.md",
    "kubernetes/deployment.yaml", "kubernetes/horizontalpodautoscaler.yaml",
]  # fmt: skip


def instructions(name: str, stage: int = -1) -> list[str]:
    """The arguments of a Dockerfile's instructions of one stage."""
    joined = DOCKERFILE.replace("\\\n", " ")
    stages = re.split(r"^(?=FROM )", joined, flags=re.MULTILINE)
    return re.findall(rf"^{name} (.*)$", stages[stage], re.MULTILINE)


def image_settings() -> dict[str, str]:
    """The environment that the image sets."""
    [line] = instructions("ENV")
    return dict(item.split("=", 1) for item in shlex.split(line))


def of_gateway(environment: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if name.startswith("AUDIT_")}


def loaded(environment: dict[str, str]) -> Settings:
    """The settings of a container; a wrong or unknown one raises."""
    return load(None, of_gateway({**image_settings(), **environment}), {})


# Proxies


@pytest.mark.parametrize("kind", KINDS)
def test_the_proxies_accept_their_examples_without_a_warning(
    kind: str, tmp_path: Path, certificate: Certificate
) -> None:
    file = configuration(kind, tmp_path, certificate)
    run = subprocess.run(
        command(kind, file, check=True),
        capture_output=True,
        text=True,
        timeout=patience(20),
        check=False,
    )
    said = run.stdout + run.stderr
    assert run.returncode == 0, said
    assert not re.search(r"warn|alert|emerg", said, re.IGNORECASE), said


def test_the_proxies_are_more_patient_than_the_gateway() -> None:
    longest = max(
        declared.kind.read(declared.most[0])
        for path in ("stream.heartbeat", "stream.ping")
        for declared in [DECLARED[path]]
        if declared.most is not None
    )
    nginx = values_of("nginx.conf", r"(\w+) (.+);")
    haproxy = values_of("haproxy.cfg", r"timeout (\S+) (\S+)")
    waits = [nginx[name] for name in ("proxy_read_timeout", "proxy_send_timeout", "send_timeout")]
    waits += [haproxy[name] for name in ("client", "server", "tunnel")]
    assert min(map(parse_duration, waits)) > longest
    assert parse_duration(nginx["keepalive_timeout"]) < Settings().server.keepalive
    body = DECLARED["ingest.max_request_bytes"].kind.read(
        nginx["client_max_body_size"].replace("m", "MiB")
    )
    assert body == Settings().ingest.max_request_bytes


def values_of(file: str, line: str) -> dict[str, str]:
    """What the lines of such a form say: name and value."""
    return dict(re.findall(rf"^\s*{line}$", (DEPLOY / file).read_text("utf-8"), re.MULTILINE))


# Dockerfile


def test_the_linter_has_nothing_to_say_about_the_dockerfile() -> None:
    run = subprocess.run(
        [PROGRAMS / "hadolint", DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


def test_the_image_is_made_of_what_is_in_the_project() -> None:
    sources = {name for line in instructions("COPY", stage=1) for name in line.split()[:-1]}
    assert sources >= {"pyproject.toml", "gateway"}
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # What setuptools reads beside the code.
    assert {project["readme"], *project["license-files"]} <= sources
    [entry] = instructions("ENTRYPOINT")
    assert json.loads(entry)[0] in project["scripts"]
    [base] = {line.split()[0] for stage in (1, 2) for line in instructions("FROM", stage)}
    assert PLAIN_IMAGE.fullmatch(base)


def test_the_image_has_what_destinations_of_all_types_need() -> None:
    # Up to which section of constraints.txt it installs.
    [run] = instructions("RUN", stage=1)
    found = re.search(r"sed '/\^#@ end of (\w+)/", run)
    assert found is not None
    pins = (ROOT / "constraints.txt").read_text("utf-8").partition(f"#@ end of {found[1]}\n")[0]
    assert {"cryptography", "opentelemetry-proto"} <= set(re.findall(r"(?m)^(\S+)==", pins))
    assert "pytest" not in re.findall(r"(?m)^(\S+)==", pins)


def test_the_image_runs_without_root_and_listens_where_it_says() -> None:
    [user] = instructions("USER")
    assert user == "10001:10001"
    settings = loaded({})
    assert settings.data == Path(DATA)
    assert settings.server.host == "0.0.0.0"
    assert instructions("EXPOSE") == [str(settings.server.port)]
    assert f"--mode 0700 {DATA}" in " ".join(instructions("RUN"))


def test_the_health_check_tells_a_gateway_from_none(gateway: GatewayProcess) -> None:
    joined = DOCKERFILE.replace("\\\n", " ")
    found = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", joined, re.MULTILINE)
    assert found is not None
    program, *arguments = json.loads(found[1])
    assert program == "python"
    for port, status in ((gateway.port, 0), (1, 1)):
        run = subprocess.run(
            [sys.executable, *arguments], capture_output=True, timeout=patience(20),
            env={"AUDIT_GATEWAY_SERVER__PORT": str(port)}, check=False,
        )  # fmt: skip
        assert run.returncode == status, run.stderr


# Compose


def test_compose_follows_its_specification() -> None:
    run = subprocess.run(
        [
            PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec",
            DEPLOY / "compose.yaml",
        ],
        capture_output=True, text=True, timeout=patience(60), check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("service", GATEWAYS, ids=["gateway-1", "gateway-2"])
def test_composes_gateways_start_with_these_settings(service: dict[str, Any]) -> None:
    password = re.compile(r"\$\{(?:POSTGRES|REDIS)_PASSWORD:\?[^}]*\}")
    environment = {
        name: password.sub("0123abcd", text) for name, text in service["environment"].items()
    }
    assert "$" not in "".join(environment.values())
    settings = loaded(environment)
    assert settings.store_url == "postgresql://gateway:0123abcd@postgres/gateway"
    assert settings.redis.url == "redis://:0123abcd@redis/0"
    [trusted] = settings.server.trusted_proxies
    assert str(trusted.network_address) == address_of("nginx")
    assert parse_duration(service["stop_grace_period"]) > (
        settings.server.drain_timeout + END_SECONDS
    )
    assert service["ulimits"]["nofile"] > settings.stream.max_streams + 2000
    assert service["volumes"] == [f"gateway:{DATA}"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def address_of(service: str) -> str:
    address: str = COMPOSE["services"][service]["networks"]["front"]["ipv4_address"]
    return address


def test_composes_parts_find_each_other() -> None:
    services = COMPOSE["services"]
    upstream = re.findall(r"server (\S+):(\d+)", (DEPLOY / "nginx.conf").read_text())
    assert upstream == [("gateway-1", "8080"), ("gateway-2", "8080")]
    assert {name for name, _ in upstream} | {"nginx", "postgres", "redis"} == set(services)
    assert "./nginx.conf:/etc/nginx/nginx.conf:ro" in services["nginx"]["volumes"]
    assert "./tls:/etc/nginx/tls:ro" in services["nginx"]["volumes"]
    assert len({address_of(name) for name in ("gateway-1", "gateway-2", "nginx")}) == 3
    # The stores are for the gateways alone.
    assert COMPOSE["networks"]["store"]["internal"]
    for name in ("postgres", "redis"):
        assert services[name]["networks"] == ["store"]
        assert "ports" not in services[name]
    assert all(PLAIN_IMAGE.fullmatch(service["image"]) for service in services.values())


def test_composes_redis_asks_for_a_password_that_no_list_of_processes_shows(
    tmp_path: Path,
) -> None:
    shell, option, script = COMPOSE["services"]["redis"]["command"]
    # Compose makes one dollar of two; a server that is there stands in for Redis.
    script = script.replace("$$", "$").replace("redis-server", str(binary()))
    script = f"{script.strip()} --port 0 --unixsocket redis.sock --dir {tmp_path}"
    process = subprocess.Popen(
        [shell, option, script], cwd=tmp_path, env={**os.environ, "REDISCLI_AUTH": "0123abcd"},
        start_new_session=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert asked(tmp_path, b"PING").startswith(b"-NOAUTH")
        assert asked(tmp_path, b"AUTH 0123abcd") == b"+OK\r\n"
        arguments = [
            (Path("/proc") / name / "cmdline").read_bytes()
            for name in os.listdir("/proc")
            if name.isdigit() and (Path("/proc") / name / "cmdline").exists()
        ]
        assert not [one for one in arguments if b"0123abcd" in one]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def asked(folder: Path, command: bytes) -> bytes:
    """What a server says to a command, once it listens."""
    deadline = time.monotonic() + patience(10)
    while True:
        # The path of a socket has to be short.
        with contextlib.chdir(folder), socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect("redis.sock")
                connection.sendall(command + b"\r\n")
                return connection.recv(1000)
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)


# Kubernetes


def test_kubernetes_runs_the_image_of_this_version() -> None:
    images = {one["image"] for one in POD["spec"]["containers"]}
    assert images == {f"audit-gateway:{__version__}"}


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize("kind", OBJECTS)
def test_kubernetes_knows_every_member(kind: str, version: str) -> None:
    assert kubernetes_validate.validate(OBJECTS[kind], version, strict=True)


def test_the_objects_belong_together() -> None:
    labels = POD["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert OBJECTS[kind]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["Service"]["spec"]["selector"] == labels
    [port] = OBJECTS["Service"]["spec"]["ports"]
    assert port["targetPort"] == CONTAINER["ports"][0]["name"]
    target = OBJECTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (
        "Deployment",
        OBJECTS["Deployment"]["metadata"]["name"],
    )
    # A service of this name would add variables that are no settings.
    assert POD["spec"]["enableServiceLinks"] is False


def test_the_job_of_rotations_reaches_the_service_and_says_what_the_program_knows() -> None:
    pod = OBJECTS["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["image"] == f"audit-gateway:{__version__}"
    assert f"--url=http://{OBJECTS['Service']['metadata']['name']}" in container["args"]
    given = {one.partition("=")[0] for one in container["args"] if one.startswith("--")}
    assert given <= {name for one in rotate.params for name in one.opts}
    assert container["args"][:3] == ["keys", "rotate", "$(KEY_ID)"]
    assert pod["securityContext"]["runAsUser"] == POD["spec"]["securityContext"]["runAsUser"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    mounts = {one["name"] for one in container["volumeMounts"]}
    assert mounts == {one["name"] for one in pod["volumes"]}


def test_the_pods_start_with_these_settings_and_end_in_time() -> None:
    secrets = {"store-url": "postgresql://u:p@db/gateway", "redis-url": "redis://cache/0"}
    environment = {
        one["name"]: one.get("value") or secrets[one["valueFrom"]["secretKeyRef"]["key"]]
        for one in CONTAINER["env"]
    }
    settings = loaded(environment)
    assert settings.server.port == CONTAINER["ports"][0]["containerPort"]
    before = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = POD["spec"]["terminationGracePeriodSeconds"]
    assert grace > before + settings.server.drain_timeout + END_SECONDS
    mounts = {one["name"]: one["mountPath"] for one in CONTAINER["volumeMounts"]}
    assert mounts == {"data": DATA, "pepper": f"{DATA}/pepper", "tmp": "/tmp"}
    assert {one["name"] for one in POD["spec"]["volumes"]} == set(mounts)


def test_the_pods_are_restricted() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, Restricted."""
    pod, container = POD["spec"]["securityContext"], CONTAINER["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert f"{pod['runAsUser']}:{pod['runAsGroup']}" == instructions("USER")[0]
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert container["readOnlyRootFilesystem"] is True
    assert {next(iter(set(one) - {"name"})) for one in POD["spec"]["volumes"]} <= {
        "emptyDir",
        "secret",
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(POD["spec"])


def test_probes_and_scaling_ask_for_what_a_gateway_answers(gateway: GatewayProcess) -> None:
    def body(path: str) -> str:
        connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=patience(10))
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        assert answer.status == 200, path
        return text

    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        body(CONTAINER[probe]["httpGet"]["path"])
    figures = body(POD["metadata"]["annotations"]["prometheus.io/path"])
    [metric] = [
        one["pods"]
        for one in OBJECTS["HorizontalPodAutoscaler"]["spec"]["metrics"]
        if "pods" in one
    ]
    name = metric["metric"]["name"]
    assert re.search(rf"^{name} [\d.e+]+$", figures, re.MULTILINE)
    assert name.removeprefix("audit_gateway_") in {
        one.name for one in METRICS if one.kind == "gauge"
    }
    assert int(metric["target"]["averageValue"]) < Settings().stream.max_streams


# All of them


def settings_in(text: str) -> Iterator[str]:
    """What looks like the name of a setting, or of its variable."""
    sections = "|".join(SECTIONS)
    yield from re.findall(rf"\b(?:{sections})\.[a-z_]+\b(?!\()", text)
    yield from re.findall(r"\bAUDIT_GATEWAY_[A-Z_]*[A-Z]", text)


@pytest.mark.parametrize("file", WRITTEN)
def test_settings_are_called_by_their_names(file: str) -> None:
    known = {*DECLARED, *map(env_name, DECLARED), "AUDIT_GATEWAY_KEY", *OTHERS}
    assert set(settings_in((DEPLOY / file).read_text(encoding="utf-8"))) <= known
