"""Values of settings: wrong kinds, ranges, pairs, secrets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.errors import InvalidSetting
from gateway.settings.declarations import DECLARED
from gateway.settings.kinds import LIST, TEXT, masked
from gateway.settings.load import load
from gateway.settings.sources import env_name


def refused(
    config: Path | None = None,
    environ: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
) -> InvalidSetting:
    with pytest.raises(InvalidSetting) as caught:
        load(config, environ or {}, flags or {})
    assert "\n" not in caught.value.detail
    return caught.value


def refused_toml(folder: Path, text: str) -> InvalidSetting:
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    return refused(file)


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        ('[server]\nport = "8080"\n', "server.port", "must be a whole number, not '8080'"),
        ("[server]\nport = true\n", "server.port", "must be a whole number, not true or false"),
        ("[server]\nport = 80.5\n", "server.port", "must be a whole number, not a fraction"),
        ("[server]\nhost = 1\n", "server.host", "must be text in quotes, not a number"),
        ("[server]\nkeepalive = 75\n", "server.keepalive", "must be a duration"),
        ('[server]\nkeepalive = "75"\n', "server.keepalive", "not a duration: '75'"),
        ('[server]\nallowed_origins = "https://a.example"\n', "server.allowed_origins", "a list"),
        ("[server]\nallowed_origins = [1]\n", "server.allowed_origins", "text in quotes"),
        ('[stream]\nbuffer_bytes = "64kB"\n', "stream.buffer_bytes", "such as \"64KiB\""),
        ("[stream]\nbuffer_bytes = true\n", "stream.buffer_bytes", "not true or false"),
        ("[data]\nx = 1\n", "data", "must be text in quotes, not a table"),
        ('[log]\nlevel = "INFO"\n', "log.level", "'INFO' is not one of debug, info, warning"),
        ('data = ""\n', "data", "name a folder"),
        ('data = "a\\u0000b"\n', "data", "cannot be printed"),
    ],
)  # fmt: skip
def test_values_of_the_wrong_kind_are_refused(
    tmp_path: Path, text: str, path: str, reason: str
) -> None:
    error = refused_toml(tmp_path, text)
    assert error.detail.startswith(f"{path}: ")
    assert reason in error.detail
    assert re.search(r"\(\S+/config\.toml:\d\)$", error.detail)


def test_a_section_must_be_a_table(tmp_path: Path) -> None:
    error = refused_toml(tmp_path, "server = 3\n")
    assert error.detail == f"server: is a section, write [server] ({tmp_path}/config.toml:1)"


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
@pytest.mark.parametrize(
    "path", [name for name, one in DECLARED.items() if one.kind in (TEXT, LIST) and not one.adds]
)
def test_an_empty_variable_is_refused_where_it_would_not_add(path: str, text: str) -> None:
    error = refused(environ={env_name(path): text})
    assert error.detail == (
        f"{path}: is empty; give it a value, or unset the variable for the default "
        f"(environment variable {env_name(path)})"
    )


@pytest.mark.parametrize("path", ["server.allowed_origins", "server.trusted_proxies"])
def test_an_empty_variable_may_add_nothing(path: str) -> None:
    assert getattr(load(None, {env_name(path): ""}, {}).server, path.split(".")[1]) == ()


@pytest.mark.parametrize(
    "url", ["postgresql://", "postgres:///", "postgresql://:@/", "postgresql://@/?"]
)
def test_a_database_that_a_template_left_without_a_name_is_refused(url: str) -> None:
    error = refused(environ={"AUDIT_GATEWAY_STORE__URL": url})
    assert "store.url: names neither a host nor a database" in error.detail


@pytest.mark.parametrize(
    "url", ["postgresql:///audit", "postgresql://db", "postgresql://?host=/run/postgresql"]
)
def test_a_database_may_be_named_in_part(url: str) -> None:
    assert load(None, {"AUDIT_GATEWAY_STORE__URL": url}, {}).store.url == url


@pytest.mark.parametrize(
    "url", ["redis://", "redis://:@/0", "redis://:pw@/0", "rediss://:6379", "redis://?x"]
)
def test_a_redis_that_a_template_left_without_a_host_is_refused(url: str) -> None:
    error = refused(environ={"AUDIT_GATEWAY_REDIS__URL": url})
    assert "redis.url: is no address of a Redis" in error.detail


@pytest.mark.parametrize(
    "url",
    ["redis://:p@w@redis/0", "redis://[::1]:6379/0", "redis+sentinel://a,b/main", "rediss://h"],
)
def test_a_redis_with_a_host_is_taken(url: str) -> None:
    assert load(None, {"AUDIT_GATEWAY_REDIS__URL": url}, {}).redis.url == url


@pytest.mark.parametrize(
    "networks",
    ["0.0.0.0/1,128.0.0.0/1", "::/1, 8000::/1", "0.0.0.0/2,64.0.0.0/2,::ffff:128.0.0.0/97"],
)
def test_networks_that_are_every_address_together_are_refused(networks: str) -> None:
    error = refused(environ={"AUDIT_GATEWAY_SERVER__TRUSTED_PROXIES": networks})
    assert "they are all addresses together" in error.detail


def test_an_empty_flag_is_refused() -> None:
    error = refused(flags={"server.host": ""})
    assert "is empty; give it a value, or leave the flag out" in error.detail
    assert "is empty; name a folder" in refused(flags={"data": ""}).detail


@pytest.mark.parametrize("path", [name for name, one in DECLARED.items() if not one.adds])
def test_no_setting_takes_an_empty_variable_for_its_default(path: str) -> None:
    assert refused(environ={env_name(path): ""}).members["setting"] == path


@pytest.mark.parametrize("text", ["", "8_080", " 80", "+80", "0x50", "eighty", "٨"])
def test_numbers_from_the_environment_are_plain_digits(text: str) -> None:
    error = refused(environ={"AUDIT_GATEWAY_SERVER__PORT": text})
    assert "must be a whole number" in error.detail
    assert "(environment variable AUDIT_GATEWAY_SERVER__PORT)" in error.detail


def test_a_weaker_source_is_checked_although_it_is_overridden() -> None:
    error = refused(environ={"AUDIT_GATEWAY_SERVER__PORT": "x"}, flags={"server.port": 1})
    assert error.members["origin"] == "environment variable AUDIT_GATEWAY_SERVER__PORT"


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("server.port", 65536, "65536 is above 65535: it is the highest port"),
        ("server.port", -1, "-1 is below 0: ports are not negative"),
        ("server.drain_timeout", "11m", "11m is above 10m: service managers kill"),
        ("server.keepalive", "0s", "0s is below 1s: clients need"),
        ("stream.heartbeat", "301s", "301s is above 5m: proxies cut"),
        ("ingest.max_request_bytes", "255KiB", "255KiB is below 256KiB: one event"),
        ("store.retention_bytes", -1, "-1 is below 0"),
        ("store.retention_age", "999999999d", "a century"),
        ("keys.max_life", "3651d", "ten years"),
    ],
)
def test_values_out_of_range_are_refused_with_the_reason(
    path: str, value: object, reason: str
) -> None:
    error = refused(flags={path: value})
    assert error.detail.startswith(f"{path}: ")
    assert reason in error.detail


@pytest.mark.parametrize("path", [path for path, one in DECLARED.items() if one.least or one.most])
def test_both_ends_of_every_range_are_allowed(path: str) -> None:
    declared = DECLARED[path]
    for bound in (declared.least, declared.most):
        if bound is not None:
            declared.read(bound[0])


@pytest.mark.parametrize(
    ("flags", "low", "high"),
    [
        ({"keys.default_life": "366d"}, "keys.default_life", "keys.max_life"),
        ({"keys.max_life": "89d"}, "keys.max_life", "keys.default_life"),
        ({"ingest.queue_events": 9999}, "ingest.queue_events", "ingest.max_request_events"),
        ({"ingest.queue_bytes": "7MiB"}, "ingest.queue_bytes", "ingest.max_request_bytes"),
    ],
)
def test_pairs_that_contradict_each_other_are_refused(
    flags: dict[str, object], low: str, high: str
) -> None:
    error = refused(flags=flags)
    assert error.members["setting"] == low
    assert high in error.detail
    assert "(default)" in error.detail
    assert "(flag)" in error.detail


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "a.example", "https://a.example/", "https://a.example:443", "http://a.example:80",
     "https://*.example", "ftp://a.example", "https://u@a.example", "https://"],
)  # fmt: skip
def test_what_is_no_browser_origin_is_refused(origin: str) -> None:
    error = refused(flags={"server.allowed_origins": ["https://fine.example", origin]})
    assert error.detail.startswith("server.allowed_origins: ")
    assert origin in error.detail


def test_every_origin_at_once_is_refused_with_the_reason() -> None:
    error = refused(environ={"AUDIT_GATEWAY_SERVER__ALLOWED_ORIGINS": "*"})
    assert '"*" would let every web site open streams' in error.detail


@pytest.mark.parametrize("host", ["", "localhost:8080", "[::1]", "http://localhost", "a b"])
def test_what_is_no_host_is_refused(host: str) -> None:
    assert refused(flags={"server.host": host}).members["setting"] == "server.host"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "mysql://u:hunter2@db/log",
            "no adapter for mysql://, only for sqlite:// and postgresql://",
        ),
        ("host=db password=hunter2", "is no URL"),
        ("log.db", "is no URL"),
        ("sqlite://hunter2.db", "must name a file"),
        ("sqlite:///", "must name a file"),
        ("sqlite:////", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:///log.db?key=hunter2", "must name a file"),
    ],
)
def test_other_store_urls_are_refused_without_being_repeated(url: str, reason: str) -> None:
    error = refused(environ={"AUDIT_GATEWAY_STORE__URL": url})
    assert error.detail.startswith("store.url: ")
    assert reason in error.detail
    assert "sqlite:////absolute/path" in error.detail
    assert "hunter2" not in error.detail


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@db/log", "postgresql://u:***@db/log"),
        ("postgresql://u:p:/?#@x@db/log", "postgresql://u:***@db/log"),
        ("redis://:p@db", "redis://:***@db"),
        ("postgresql://db/log?password=p&sslmode=require",
         "postgresql://db/log?password=***&sslmode=require"),
        ("postgresql://u@db/log?a=1&SSLPassword=p", "postgresql://u@db/log?a=1&SSLPassword=***"),
        ("sqlite:///relative/log.db", "sqlite:///relative/log.db"),
    ],
)  # fmt: skip
def test_passwords_in_urls_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_url_settings_are_marked_as_secret_and_kept_out_of_repr() -> None:
    assert {path for path in DECLARED if "url" in path} == {"store.url", "redis.url"}
    assert DECLARED["store.url"].secret
    assert "sqlite:///there" not in repr(load(None, {}, {"store.url": "sqlite:///there"}))


def test_what_is_shown_of_a_secret_is_masked() -> None:
    settings = load(None, {}, {"store.url": "sqlite:////srv/x://u:hunter2@log.db"})
    assert settings.given["store.url"].shown == '"sqlite:////srv/x://u:***@log.db"'
