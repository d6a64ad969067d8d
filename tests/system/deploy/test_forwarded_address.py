"""The address of a client behind nginx and HAProxy, and who can forge it: nobody."""

from __future__ import annotations

import http.client
import json

import pytest

from tests.support.machine_time import patience
from tests.system.deploy.proxies import Proxy
from tests.system.deploy.streams import client_of
from tests.system.deploy.tenants import Tenant


async def test_a_grant_for_a_network_counts_for_the_clients_own_address(
    proxy: Proxy, tenant: Tenant
) -> None:
    key = tenant.key(when={"cidr": ["127.0.0.2/32"]})
    async with client_of(proxy, key, "127.0.0.2") as client:
        assert (await client.request("GET", "/v1/events"))[0] == 200
        await client.stream("sse")
    # Nor is it the proxy's address that counts.
    for address in ("127.0.0.3", "127.0.0.1"):
        async with client_of(proxy, key, address) as client:
            status, _, body = await client.request("GET", "/v1/events")
            assert (status, json.loads(body)["code"]) == (403, "address_not_allowed")


@pytest.mark.parametrize(
    "forged",
    [["127.0.0.2"], ["127.0.0.2, 127.0.0.1"], ["127.0.0.2", "127.0.0.2"], ["127.0.0.2,"], ["x"]],
)
async def test_an_address_cannot_be_forged_through_a_proxy(
    proxy: Proxy, tenant: Tenant, forged: list[str]
) -> None:
    key = tenant.key(when={"cidr": ["127.0.0.2/32"]})
    connection = http.client.HTTPSConnection(
        "127.0.0.1",
        proxy.port,
        timeout=patience(),
        context=proxy.context,
        source_address=("127.0.0.3", 0),
    )
    try:
        connection.putrequest("GET", "/v1/events")
        connection.putheader("Authorization", f"Bearer {key}")
        for value in forged:
            connection.putheader("X-Forwarded-For", value)
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (403, "address_not_allowed")
    finally:
        connection.close()


def test_an_address_cannot_be_forged_past_the_proxies(tenant: Tenant) -> None:
    key = tenant.key(when={"cidr": ["127.0.0.2/32"]})
    for own, status in (("127.0.0.2", 200), ("127.0.0.3", 403)):
        connection = http.client.HTTPConnection(
            tenant.gateway.host, tenant.gateway.port, timeout=patience(), source_address=(own, 0)
        )
        headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": "127.0.0.2"}
        connection.request("GET", "/v1/events", headers=headers)
        assert connection.getresponse().status == status
        connection.close()
