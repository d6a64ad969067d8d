"""Whose address counts behind proxies, and who can forge one: nobody."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from gateway.errors import InvalidSetting
from gateway.http.connection.address import TRUSTED_PROXIES, client_address
from gateway.settings.load import load

PROXIES = ["10.0.0.1", "10.0.8.0/24", "2001:db8:1::/64"]
CLIENT = "198.51.100.7"


def trusting(*networks: str) -> dict[str, str]:
    return {"AUDIT_GATEWAY_SERVER__TRUSTED_PROXIES": ",".join(networks)}


def seen(peer: str | None, *forwarded: str, trusted: list[str] | None = None) -> str | None:
    """The client of a request that comes from `peer` with these `X-Forwarded-For` headers."""
    settings = load(None, trusting(*(PROXIES if trusted is None else trusted)), {})
    app = web.Application()
    app[TRUSTED_PROXIES] = settings.server.trusted_proxies
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: (
        (peer, 4711) if name == "peername" and peer is not None else default
    )
    headers = CIMultiDict(("X-Forwarded-For", value) for value in forwarded)
    request = make_mocked_request("GET", "/", headers, transport=transport, app=app)
    return client_address(request)


def test_without_trusted_proxies_the_header_counts_for_nothing() -> None:
    assert seen("10.0.0.1", CLIENT, trusted=[]) == "10.0.0.1"
    assert seen(CLIENT, "10.0.0.1", trusted=[]) == CLIENT


def test_a_client_that_is_no_proxy_cannot_name_an_address() -> None:
    assert seen(CLIENT, "10.0.0.1") == CLIENT
    assert seen(CLIENT, "203.0.113.9, 10.0.0.1") == CLIENT
    # The next address to a trusted one.
    assert seen("10.0.0.2", "203.0.113.9") == "10.0.0.2"


@pytest.mark.parametrize("peer", ["10.0.0.1", "10.0.8.200", "2001:db8:1::5", "::ffff:10.0.0.1"])
def test_a_trusted_proxy_is_believed(peer: str) -> None:
    assert seen(peer, CLIENT) == CLIENT
    assert seen(peer, "2001:db8:2::9") == "2001:db8:2::9"


@pytest.mark.parametrize(
    "forged",
    [
        "203.0.113.9",
        "10.0.0.1",
        "10.0.0.1, 10.0.8.1",
        "203.0.113.9, 10.0.0.1",
        "unknown",
        "",
        ",,,",
        "127.0.0.1\t",
        ", ".join(["203.0.113.9"] * 400),
    ],
)
def test_what_a_client_forges_stands_left_of_what_the_proxy_appends(forged: str) -> None:
    assert seen("10.0.0.1", f"{forged}, {CLIENT}") == CLIENT
    # HAProxy appends a header of its own.
    assert seen("10.0.0.1", forged, CLIENT) == CLIENT


def test_through_several_trusted_proxies_the_nearest_stranger_is_the_client() -> None:
    assert seen("10.0.0.1", f"203.0.113.9, {CLIENT}, 10.0.8.7") == CLIENT
    assert seen("10.0.0.1", f"203.0.113.9, {CLIENT}", "10.0.8.7", "2001:db8:1::5") == CLIENT


def test_a_request_of_a_proxy_itself_has_its_address() -> None:
    assert seen("10.0.0.1") == "10.0.0.1"
    assert seen("10.0.0.1", "") == "10.0.0.1"
    assert seen("10.0.0.1", "10.0.8.7") == "10.0.8.7"


@pytest.mark.parametrize("said", ["unknown", "198.51.100.7.example", "198.51.100.300", "_hidden"])
def test_what_is_no_address_is_nobodys(said: str) -> None:
    """No grant that is bound to a network counts then, whatever stands further to the left."""
    assert seen("10.0.0.1", f"{CLIENT}, {said}") is None


@pytest.mark.parametrize(
    ("said", "address"),
    [
        (f"{CLIENT}:51234", CLIENT),
        ("[2001:db8:2::9]:51234", "2001:db8:2::9"),
        ("2001:DB8:2:0::9", "2001:db8:2::9"),
        (f"::ffff:{CLIENT}", CLIENT),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_addresses_are_understood_as_proxies_write_them(said: str, address: str) -> None:
    assert seen("10.0.0.1", said) == address


def test_a_mapped_address_of_a_proxy_in_the_header_is_that_proxy() -> None:
    assert seen("10.0.0.1", f"{CLIENT}, ::ffff:10.0.8.7") == CLIENT


def test_a_peer_without_an_address_has_none() -> None:
    assert seen(None, CLIENT) is None


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("0.0.0.0/0", "would let every client choose its address"),
        ("::/0", "would let every client choose its address"),
        ("10.0.0.1/8", "is not a network"),
        ("proxy.example", "is not a network"),
        ("10.0.0.1-10.0.0.9", "is not a network"),
    ],
)
def test_networks_that_cannot_be_meant_stop_the_start(network: str, reason: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        load(None, trusting("10.0.0.1", network), {})
    assert caught.value.detail.startswith(f"server.trusted_proxies: {network!r} {reason}")
