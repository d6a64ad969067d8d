"""Files of declarations: what is read, what is refused, and what the schema says."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from gateway.declarations import schema
from gateway.declarations.reading import read_set
from gateway.declarations.wanted import WantedSet, parse_set, structure
from gateway.errors import InvalidRequest
from gateway.settings.load import load

TERMS = load(None, {}, {}).keys
GRANT = {"actions": ["stream"], "categories": ["auth.**"], "tenants": ["acme"]}
KEY: dict[str, Any] = {"purpose": "alerts", "owner": "soc", "grants": [GRANT]}
TOML = b"""
#:schema https://gateway.example/declaration.schema.json
set = "prod"

[roles.reader]
description = "reads sign-ins"
grants = [{ actions = ["stream", "pull"], categories = ["auth.**"], fields = { drop = ["data"] } }]

[keys.siem-acme]
purpose = "alerts on sign-ins"
owner = "soc@example.org"
expires_in = "90d"
roles = ["reader"]
limits = { events_per_second = 100 }
rotate = { every = "30d", overlap = "1d" }
secret = { file = "/run/secrets/siem", mode = "0600" }

[destinations.splunk]
type = "splunk_hec"
key = "siem-acme"
settings = { url = "https://splunk.example:8088" }
secrets = { token = { file = "/run/secrets/hec" } }
"""


def whole(raw: Any) -> WantedSet:
    steps = parse_set(raw, TERMS)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: WantedSet = done.value
            return found


def refused(raw: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        whole(raw)
    return caught.value


def test_toml_json_and_yaml_say_the_same() -> None:
    toml = read_set([("a.toml", TOML)]).members
    text = json.dumps(toml)
    assert read_set([("a.json", text.encode())]).members == toml
    # JSON is YAML, too.
    assert read_set([("a.yaml", text.encode())]).members == toml
    yaml = b"set: prod\nkeys:\n  siem:\n    purpose: alerts\n    owner: soc\n"
    assert read_set([("b.yml", yaml)]).members == {
        "set": "prod", "keys": {"siem": {"purpose": "alerts", "owner": "soc"}}
    }  # fmt: skip


def test_several_files_are_one_set_and_each_object_is_of_one_of_them() -> None:
    keys = b'[keys.siem]\npurpose = "a"\nowner = "b"\n'
    merged = read_set([("a.toml", TOML), ("b.toml", keys)])
    assert set(merged.members["keys"]) == {"siem-acme", "siem"}
    assert merged.file_of("keys.siem") == "b.toml"
    assert merged.file_of("keys.siem.grants[0].actions") == "b.toml"
    assert merged.file_of("keys.siem-acme.roles[0]") == "a.toml"
    assert merged.file_of("roles") == "a.toml"
    with pytest.raises(InvalidRequest, match=r"it stands in a\.toml, too") as caught:
        read_set([("a.toml", keys), ("b.toml", keys)])
    assert caught.value.members == {"path": "keys.siem", "file": "b.toml"}
    with pytest.raises(InvalidRequest, match=r"'prod' in a\.toml"):
        read_set([("a.toml", b'set = "prod"'), ("b.toml", b'set = "test"')])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.toml", b"[keys.a]\n[keys.a]\n", "it is no TOML"),
        ("a.json", b'{"set": "a", "set": "b"}', "'set' stands twice"),
        ("a.yaml", b"set: a\nset: b\n", "'set' stands twice"),
        ("a.yaml", b"keys: &a {x: 1}\nroles: *a\n", "aliases"),
        ("a.yaml", b"!!python/object:os.system {}", "it is no YAML"),
        ("a.toml", b"\xff", "not UTF-8"),
        ("a.txt", b"", ".toml, .json or .yaml"),
        ("a.json", b"[]", "is needed"),
        ("a.toml", b"[policies]\n", "policies cannot be declared"),
        ("a.json", b"{" + b" " * 4194304 + b"}", "at most"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_name_of_its_file(
    name: str, content: bytes, said: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_set([(name, content)])
    assert said in caught.value.detail
    assert caught.value.members["file"] == name


def test_a_set_becomes_roles_keys_and_destinations_that_are_wanted() -> None:
    raw = read_set([("a.toml", TOML)]).members
    del raw["keys"]["siem-acme"]["secret"]
    raw["destinations"]["splunk"]["secrets"] = {"token": "t0ken"}
    wanted = whole(raw)
    assert wanted.name == "prod"
    assert [one.id for one in wanted.roles["reader"].grants] == [""]
    request = wanted.keys["siem-acme"].request
    assert (request.name, request.life) == ("siem-acme", 90 * 86400)
    assert request.rotate is not None
    assert (request.rotate.every, request.rotate.overlap) == ("30d", "1d")
    assert wanted.destinations["splunk"].key == "siem-acme"
    assert wanted.destinations["splunk"].secrets == {"token": "t0ken"}


def test_what_is_wrong_is_named_by_its_path() -> None:
    base = {"set": "prod"}
    for raw, path in (
        ({}, "set"),
        ({"set": "Prod!"}, "set"),
        ({**base, "key": {}}, "key"),
        ({**base, "keys": {"a": {}}}, "keys.a.purpose"),
        ({**base, "keys": {"a": {**KEY, "purpos": ""}}}, "keys.a.purpos"),
        ({**base, "keys": {"a b": KEY}}, "keys.a b"),
        ({**base, "keys": {"a": {**KEY, "grants": [{**GRANT, "actions": ["read"]}]}}},
         "keys.a.grants[0].actions[0]"),
        ({**base, "keys": {"a": {**KEY, "limits": {"events": 1}}}}, "keys.a"),
        ({**base, "keys": {"a": {**KEY, "expires_in": "9000d"}}}, "keys.a"),
        ({**base, "keys": {"a": {**KEY, "rotate": {"every": "never"}}}}, "keys.a"),
        ({**base, "keys": {"a": {**KEY, "secret": {"file": "/x"}}}}, "keys.a.secret"),
        ({**base, "keys": {"a": {**KEY, "roles": [{"name": "r", "tenant": "acme"}]}}},
         "keys.a.roles[0]"),
        ({**base, "roles": {"r": {"parameters": {}, "grants": []}}}, "roles.r.parameters"),
        ({**base, "roles": {"auditor": {"grants": []}}}, "roles.auditor"),
        ({**base, "destinations": {"d": {"type": "http", "key": "k", "select": {"tenant": 1}}}},
         "destinations.d.select.tenant"),
    ):  # fmt: skip
        error = refused(raw)
        assert (error.members.get("path"), error.exit_code) == (path, 2), (raw, error.detail)
        assert error.detail.startswith((path, ".".join(path.split(".")[:2])))


def test_a_whole_key_in_a_file_is_not_repeated_in_the_error() -> None:
    from gateway.access.credentials.token import new_token

    _, token = new_token()
    error = refused({"set": "prod", "keys": {"a": {**KEY, "purpose": token}}})
    assert token not in error.detail


def test_the_shipped_schema_is_made_of_the_declarations() -> None:
    assert schema.shipped_schema().decode() == schema.schema_text(), (
        "write it anew: .venv/bin/python -m tests.support.declaration_schema"
    )


def test_the_schema_takes_what_is_read_and_refuses_what_is_not() -> None:
    made = schema.made_schema()
    jsonschema.Draft202012Validator.check_schema(made)
    validator = jsonschema.Draft202012Validator(made)
    raw = read_set([("a.toml", TOML)]).members
    structure(raw)
    assert list(validator.iter_errors(raw)) == []
    for wrong in (
        {"set": "Prod"},
        {"policies": {}},
        {"keys": {"a": {**KEY, "roles": [{"name": "r"}]}}},
        {"keys": {"a": {**KEY, "secret": {"path": "/x"}}}},
        {"keys": {"a": {"purpose": "a"}}},
        {"keys": {"a": {**KEY, "grants": [{"actions": ["read"], "categories": ["**"]}]}}},
        {"keys": {"a": {**KEY, "limits": {"events": 1}}}},
        {"destinations": {"d": {"type": "http"}}},
    ):
        assert list(validator.iter_errors(wrong)), wrong
