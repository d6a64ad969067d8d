"""A gateway that trusts the proxies in front of it, and both of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.system.deploy.proxies import KINDS, Certificate, Proxy
from tests.system.deploy.tenants import Tenant

# Nothing is heard of a quiet stream: what arrives was sent for itself.
QUIET = {
    "AUDIT_GATEWAY_STREAM__HEARTBEAT": "5m",
    "AUDIT_GATEWAY_STREAM__PING": "5m",
    "AUDIT_GATEWAY_SERVER__TRUSTED_PROXIES": "127.0.0.1",
}
MakeProxy = Callable[..., Proxy]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    with GatewayProcess(folder / "data", settings=QUIET) as process:
        yield process


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each proxy in turn."""
    name: str = request.param
    return name


@pytest.fixture
def make_proxy(tmp_path: Path, certificate: Certificate, kind: str) -> Iterator[MakeProxy]:
    """`make_proxy(gateway)` or `make_proxy("host:port", "host:port")`, ended with the test."""
    with ExitStack() as stack:
        made = 0

        def make(*gateways: GatewayProcess | str, **options: Any) -> Proxy:
            nonlocal made
            made += 1
            places = [
                place if isinstance(place, str) else f"{place.host}:{place.port}"
                for place in gateways
            ]
            pair = (places[0], places[-1])
            folder = tmp_path / f"{kind}-{made}"
            return stack.enter_context(Proxy(kind, folder, certificate, pair, **options))

        yield make


@pytest.fixture
def proxy(make_proxy: MakeProxy, gateway: GatewayProcess) -> Proxy:
    """A proxy in front of `gateway`."""
    return make_proxy(gateway)


@pytest.fixture
def tenant(gateway: GatewayProcess) -> Tenant:
    """A tenant of its own in `gateway`."""
    return Tenant(gateway)
