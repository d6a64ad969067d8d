"""Addresses of Redis."""

from __future__ import annotations

import pytest

from gateway.adapters.redis.address import RedisAddress, parse_address
from gateway.errors import InvalidSetting


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", RedisAddress("single", (("localhost", 6379),))),
        ("redis://h:1234/5", RedisAddress("single", (("h", 1234),), db=5)),
        ("redis://[::1]:7000/0", RedisAddress("single", (("::1", 7000),))),
        (
            "rediss://me:p%40ss%2Fw%3Aord@h/1?ca=/etc/ca.pem",
            RedisAddress(
                "single", (("h", 6379),), tls=True, db=1, user="me", password="p@ss/w:ord",
                ca="/etc/ca.pem",
            ),
        ),
        ("redis://:secret@h", RedisAddress("single", (("h", 6379),), password="secret")),
        (
            "redis+sentinel://host:26380,host2,[fe80::1]:1/main",
            RedisAddress(
                "sentinel", (("host", 26380), ("host2", 26379), ("fe80::1", 1)), service="main"
            ),
        ),
        (
            "rediss+sentinel://:pw@h/main/3?sentinel_user=s&sentinel_password=t",
            RedisAddress(
                "sentinel", (("h", 26379),), tls=True, db=3, service="main", password="pw",
                sentinel_user="s", sentinel_password="t",
            ),
        ),
        (
            "redis+cluster://u:pw@a:7000,b",
            RedisAddress("cluster", (("a", 7000), ("b", 6379)), user="u", password="pw"),
        ),
        ("rediss+cluster://a/0", RedisAddress("cluster", (("a", 6379),), tls=True)),
    ],
)  # fmt: skip
def test_an_address_is_read_by_its_scheme(url: str, address: RedisAddress) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "unknown kind"),
        ("localhost:6379", "unknown kind"),
        ("http://h", "unknown kind"),
        ("redis+ring://h", "unknown kind"),
        ("redis://", "a host is missing"),
        ("redis://a,b", "several hosts"),
        ("redis://h:0", "a port is"),
        ("redis://h:65536", "a port is"),
        ("redis://h:x", "a port is"),
        ("redis://[::1", "not a URL"),
        ("redis://h/x", "number of a database"),
        ("redis://h/0/1", "number of a database"),
        ("redis+sentinel://h", "name of its service"),
        ("redis+cluster://a,,b", "a host is missing"),
        ("redis+cluster://a/2", "database 0 only"),
        ("redis://h?timeout=5", "unknown option 'timeout'"),
        ("redis://h?sentinel_user=x", "unknown option 'sentinel_user'"),
    ],
)
def test_an_address_that_makes_no_sense_is_refused(url: str, says: str) -> None:
    with pytest.raises(InvalidSetting, match=says):
        parse_address(url)


def test_neither_a_refusal_nor_a_log_line_repeats_the_password() -> None:
    with pytest.raises(InvalidSetting) as refused:
        parse_address("redis://me:hunter2@h/x")
    assert "hunter2" not in refused.value.detail
    url = "rediss+sentinel://me:hunter2@h,[::1]:5/main?sentinel_password=hunter3"
    assert str(parse_address(url)) == "rediss+sentinel://h:26379,[::1]:5/main"
