"""Which addresses destinations may be connected to."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from gateway.delivery.connect.addresses import AddressRule, is_loopback, literal_address
from gateway.delivery.connect.endpoint import check_endpoint, parse_endpoint
from gateway.errors import InvalidRequest
from tests.support.cases import every

REFUSED = [
    ("0.0.0.0", "unspecified"), ("0.1.2.3", "unspecified"), ("::", "unspecified"),
    ("127.0.0.1", "loopback"), ("127.255.255.254", "loopback"), ("::1", "loopback"),
    ("169.254.169.254", "link-local"), ("169.254.170.2", "link-local"), ("fe80::1", "link-local"),
    ("febf::1", "link-local"),
    ("192.0.0.192", "metadata"), ("168.63.129.16", "metadata"), ("fd00:ec2::254", "metadata"),
    ("224.0.0.1", "multicast"), ("239.255.255.250", "multicast"), ("ff02::1", "multicast"),
    ("ff0e::1", "multicast"),
    ("10.0.0.1", "private"), ("10.255.255.255", "private"), ("172.16.0.1", "private"),
    ("172.31.255.255", "private"), ("192.168.0.1", "private"), ("fc00::1", "private"),
    ("fdff::1", "private"), ("fec0::1", "private"),
    ("100.64.0.1", "shared"), ("100.100.100.200", "shared"), ("100.127.255.255", "shared"),
    ("240.0.0.1", "reserved"), ("255.255.255.255", "reserved"), ("198.18.0.1", "reserved"),
    # The same, wrapped: IPv4-mapped, IPv4-translated, IPv4-compatible, NAT64, 6to4, Teredo (both
    # of its addresses), ISATAP.
    ("::ffff:127.0.0.1", "loopback"), ("::ffff:10.0.0.1", "private"),
    ("::ffff:169.254.169.254", "link-local"), ("::ffff:100.64.0.1", "shared"),
    ("::ffff:0.0.0.0", "unspecified"), ("::ffff:224.0.0.1", "multicast"),
    ("::ffff:0:127.0.0.1", "loopback"), ("::127.0.0.1", "loopback"), ("::10.0.0.1", "private"),
    ("64:ff9b::7f00:1", "loopback"), ("64:ff9b::10.0.0.1", "private"),
    ("64:ff9b::169.254.169.254", "link-local"), ("64:ff9b::100.64.0.1", "shared"),
    ("64:ff9b:1::1", "private"), ("2002:7f00:1::1", "loopback"),
    ("2002:a9fe:a9fe::1", "link-local"),
    ("2001:0:7f00:1::34ff:8ef8", "loopback"), ("2001:0:cb00:7107::80ff:fffe", "loopback"),
    ("2606:4700::5efe:10.0.0.1", "private"), ("2606:4700::200:5efe:127.0.0.1", "loopback"),
]  # fmt: skip
REACHED = [
    "203.0.113.7", "8.8.8.8", "1.1.1.1", "11.0.0.1", "9.255.255.255", "172.15.255.255",
    "172.32.0.1", "192.167.255.255", "192.169.0.1", "100.63.255.255", "100.128.0.1", "126.255.0.1",
    "128.0.0.1", "169.253.0.1", "169.255.0.1", "223.255.255.255", "2606:4700::1", "2001:db8::1",
    "64:ff9b::203.0.113.7", "::ffff:203.0.113.7", "2002:cb00:7107::1", "fbff::1",
]  # fmt: skip


@every(REFUSED)
def test_addresses_of_the_table_are_refused_in_every_form(case: tuple[str, str]) -> None:
    address, kind = case
    assert AddressRule().refusal(ip_address(address)) == kind


@every(REACHED)
def test_public_addresses_are_reached(address: str) -> None:
    assert AddressRule().refusal(ip_address(address)) is None


@every(REFUSED)
def test_destinations_of_the_configuration_reach_private_networks_and_loopback_and_no_more(
    case: tuple[str, str],
) -> None:
    address, kind = case
    refused = AddressRule(configured=True).refusal(ip_address(address))
    assert refused == (None if kind in ("private", "loopback") else kind)


@every(REFUSED)
def test_a_network_that_is_allowed_is_reached_and_its_neighbour_is_not(
    case: tuple[str, str],
) -> None:
    address = ip_address(case[0])
    assert AddressRule((ip_network(address),)).refusal(address) is None
    assert AddressRule((ip_network("10.9.0.0/16"),)).refusal(address) == case[1]


def test_an_allowed_network_is_reached_through_nat64_too() -> None:
    rule = AddressRule((ip_network("10.9.0.0/16"),))
    assert rule.refusal(ip_address("64:ff9b::10.9.0.1")) is None
    assert rule.refusal(ip_address("64:ff9b::10.8.0.1")) == "private"


def test_an_allowed_form_does_not_hide_another_that_is_refused() -> None:
    server = AddressRule((ip_network("127.0.0.1/32"),))
    assert server.refusal(ip_address("2001:0:7f00:1::f5ff:fffe")) == "private"


def test_loopback_is_known_in_its_forms() -> None:
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert is_loopback(ip_address(address))
    for address in ("128.0.0.1", "::2", "2001:0:7f00:1::1"):
        assert not is_loopback(ip_address(address))


def test_zones_and_brackets_do_not_hide_an_address() -> None:
    assert literal_address("fe80::1%eth0") == ip_address("fe80::1")
    assert literal_address("[::1]") == ip_address("::1")
    assert literal_address("localhost") is None


@every([
    ("https://siem.example.org/in?x=1", "https", "siem.example.org", None),
    ("http://127.0.0.1:8080", "http", "127.0.0.1", 8080),
    ("https://[2001:db8::1]:443/", "https", "2001:db8::1", 443),
])  # fmt: skip
def test_endpoints_are_read_from_urls(case: tuple[str, str, str, int | None]) -> None:
    assert parse_endpoint(case[0]) == case[1:]


@every([
    "", "siem.example.org", "ftp://siem.example.org", "file:///etc/passwd", "https://", "https:///x",
    "https://a b/", "https://a\n/", "https://ä.example.org/", "https://a:0/", "https://a:99999/",
    "https://user:pw@a/", "https://token@a/", "https://a/#x", "https://a\\@127.0.0.1/",
    "gopher://a/", "tls://a", "https://[::1", "https://" + "a" * 3000,
])  # fmt: skip
def test_what_is_no_url_of_a_receiver_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^settings\.url: ") as refused:
        parse_endpoint(url)
    assert refused.value.code == "invalid_url"
    assert "pw" not in refused.value.detail


@every([
    ("https://127.0.0.1/", "address_refused"), ("https://[::ffff:7f00:1]/", "address_refused"),
    ("https://169.254.169.254/", "address_refused"),
    ("https://[fe80::1%25eth0]/", "address_refused"),
    ("https://2130706433/", "invalid_url"), ("https://127.1/", "invalid_url"),
    ("https://0x7f.0.0.1/", "invalid_url"), ("https://0177.0.0.1/", "invalid_url"),
    ("http://siem.example.org/", "plaintext_refused"), ("http://203.0.113.7/", "plaintext_refused"),
])  # fmt: skip
def test_urls_are_refused_before_anything_is_looked_up(case: tuple[str, str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_endpoint(parse_endpoint(case[0]), AddressRule(), plaintext=False)
    assert refused.value.code == case[1]


def test_urls_that_are_not_encrypted_are_taken_when_asked_for_or_on_the_machine() -> None:
    check_endpoint(parse_endpoint("http://siem.example.org/"), AddressRule(), plaintext=True)
    own = AddressRule(configured=True)
    for url in ("http://localhost:9200/", "http://127.0.0.1:9200/", "http://[::1]:9200/"):
        check_endpoint(parse_endpoint(url), own, plaintext=False)
