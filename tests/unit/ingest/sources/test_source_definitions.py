"""Definitions of sources: what they say, and that a wrong one is refused where it is wrong."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidSetting
from gateway.ingest.decode import decode_event
from gateway.ingest.mapping.definition import ConstantValue, Value
from gateway.ingest.mapping.parsing import parse_definition
from gateway.ingest.mapping.value_table import ValueTable
from gateway.ingest.sources.catalog import (
    FUNCTIONS,
    definition_in_settings,
    definition_named,
    make_source,
    shipped_names,
    shipped_text,
)
from gateway.ingest.sources.envelopes import parse_envelope
from gateway.ingest.sources.source import Mapped, NotMapped, Owner, RecordSource
from gateway.ingest.strict_json import Refused

HEAD = 'name = "own"\n'
NEEDED = 'category = { const = "own" }\naction = { const = "do" }\n'


def source(event: str, head: str = "", **options: str) -> RecordSource:
    text = HEAD + head + "[event]\n" + NEEDED + event
    return make_source(parse_definition(text, "own.toml", FUNCTIONS, parse_envelope), options)


def event_of(event: str, record: dict[str, Any], head: str = "", **options: str) -> Any:
    mapped = source(event, head, **options).draft(json.dumps(record).encode())
    made = json.loads(b"{" + mapped.draft.tail)
    decode_event(json.dumps(made).encode(), iter(()))
    return made


@pytest.mark.parametrize(
    ("path", "record", "found"),
    [
        ("a", {"a": "x"}, "x"),
        ("a.b", {"a": {"b": 7}}, "7"),
        ("a.b", {"a": "text"}, None),
        ("a.b", {"a": None}, None),
        ("a[0]", {"a": ["x", "y"]}, "x"),
        ("a[-1]", {"a": ["x", "y"]}, "y"),
        ("a[2]", {"a": ["x", "y"]}, None),
        ("a[0].b", {"a": [{"b": "x"}]}, "x"),
        ('a[?k=="v"].b', {"a": [{"k": "w", "b": "1"}, {"k": "v", "b": "2"}]}, "2"),
        ('"a.b/c".d', {"a.b/c": {"d": "x"}}, "x"),
        ("@timestamp", {"@timestamp": "x"}, "x"),
    ],
)
def test_a_path_leads_to_one_value(path: str, record: dict[str, Any], found: str | None) -> None:
    made = event_of(f"actor.id = {json.dumps(path)}", record)
    assert made.get("actor", {}).get("id") == found


@pytest.mark.parametrize(
    ("value", "record", "found"),
    [
        ('["a", "b"]', {"a": "", "b": "x"}, "x"),
        ('["a", "b"]', {"a": None, "b": "x"}, "x"),
        ('{ const = "c" }', {}, "c"),
        ('{ path = "a", as = "lower" }', {"a": "ABC"}, "abc"),
        ('{ path = "a", as = "dotted" }', {"a": "A/b:c"}, "A.b.c"),
        ('{ path = "a", as = "slug" }', {"a": "App User"}, "app-user"),
        ('{ path = "a", as = "json" }', {"a": {"b": [1]}}, '{"b":[1]}'),
        ('{ path = "a", as = "text" }', {"a": 1.5}, "1.5"),
        ('{ path = "a", as = "text" }', {"a": True}, "true"),
        ('{ path = "a", as = "time" }', {"a": 0}, "1970-01-01T00:00:00.000000Z"),
        ('{ path = "a", as = "ip" }', {"a": "host"}, None),
        ('{ path = "a", default = "d" }', {}, "d"),
        ('{ path = "a", table = { x = "y" } }', {"a": "x"}, "y"),
        ('{ path = "a", table = { x = "y" } }', {"a": "z"}, "z"),
        ('{ path = "a", table = { x = "" } }', {"a": "x"}, None),
        ('{ path = "a", table = { "x*" = "y" }, present = "p" }', {"a": "xx"}, "y"),
        ('{ path = "a", table = { "x*" = "y" }, present = "p" }', {"a": "z"}, "p"),
        ('{ path = "a", table = { "x*" = "y" }, absent = "n" }', {}, "n"),
        ('{ path = "a", table = { "1" = "y" } }', {"a": 1}, "y"),
        ('{ template = "{a}-{b}" }', {"a": 1, "b": "x/y"}, "1-x/y"),
        ('{ template = "{a}-{b}" }', {"a": 1}, None),
        ('{ template = "{a}[-{b}]" }', {"a": 1}, "1"),
        ("""{ template = '{a|"none"}' }""", {}, "none"),
        ('"{a:lower}"', {"a": "X"}, "x"),
        ('"{{[[{a}]]}}"', {"a": "X"}, "{[X]}"),
        ('{ join = ["a", "b[]"], with = "," }', {"a": 1, "b": ["x", None, "y"]}, "1,x,y"),
        ('{ any = [{ path = "a", table = { x = "y" } }, "b"] }', {"b": "z"}, "z"),
    ],
)
def test_a_value_is_made_as_its_definition_says(
    value: str, record: dict[str, Any], found: str | None
) -> None:
    made = event_of(f"actor.id = {value}", record)
    assert made.get("actor", {}).get("id") == found


def test_a_name_cannot_pretend_to_be_in_another_branch_of_a_resource_path() -> None:
    event = "targets = [{ urn = 'k8s:{$cluster|\"c\"}/{ns}/{name}' }, { urn = 'r:{+path}' }]"
    made = event_of(event, {"ns": "a/b", "name": "50%", "path": "x/y%"}, cluster="prod")
    assert [target["urn"] for target in made["targets"]] == ["k8s:prod/a%2Fb/50%25", "r:x/y%25"]
    other = event_of(event, {"ns": "a", "name": "b"})
    assert [target["urn"] for target in other["targets"]] == ["k8s:c/a/b"]


def test_each_item_of_a_list_makes_a_target() -> None:
    event = "targets = [{ each = 'a[]', urn = 'x:{o}/{@.id}', type = '@.type', id = '@' }]"
    made = event_of(event, {"o": 1, "a": [{"id": 1, "type": "t"}, {"id": 1, "type": "t"}, 7, {}]})
    assert made["targets"] == [{"urn": "x:1/1", "type": "t"}]


@pytest.mark.parametrize(
    ("table", "record", "outcome"),
    [
        ('table = { ok = "success" }', {"s": "ok"}, "success"),
        ('table = { ok = "success" }', {"s": "other"}, "unknown"),
        ('table = { ok = "success" }, present = "failure"', {"s": "other"}, "failure"),
        ('table = { ok = "success" }, absent = "denied"', {}, "denied"),
        ('table = { ok = "success" }, default = "denied"', {}, "denied"),
    ],
)
def test_an_outcome_follows_its_table(table: str, record: Any, outcome: str) -> None:
    assert event_of(f'outcome = {{ path = "s", {table} }}', record)["outcome"] == outcome


@pytest.mark.parametrize("name", [" ", "\n\t", ""])
def test_a_tenant_of_white_space_is_none(name: str) -> None:
    [found] = source('tenant = "a"').map(json.dumps({"a": name}).encode(), Owner("acme"))
    assert isinstance(found, Mapped)
    assert found.draft.tenant == "acme"


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_no_function_breaks_a_record_wherever_it_is_named(function: str) -> None:
    made = source(f'id = {{ function = "{function}" }}\ntargets = [{{ function = "{function}" }}]')
    for record in ({"a": "x"}, {"eventSource": 1, "objectRef": [], "ID": {}, "line": 7}):
        [found] = made.map(json.dumps(record).encode())
        assert isinstance(found, Mapped)
        assert decode_event(b"{" + found.draft.tail, iter(()), mapped=True) == found.draft


def test_what_a_table_remembers_of_unusual_values_is_bounded() -> None:
    value = Value((ConstantValue("x"),), table={"a*": "success"}, present="failure")
    table = ValueTable("outcome", value, lambda member, value: None)
    tracemalloc.start()
    try:
        assert {table(f"a{number}" + "x" * 100) for number in range(3000)} == {"success"}
        assert {table(f"{number}" + "x" * 1000) for number in range(3000)} == {"failure"}
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()


def test_a_value_that_no_table_knows_is_told() -> None:
    heard: list[tuple[str, str]] = []
    text = HEAD + "[event]\n" + NEEDED + 'outcome = { path = "s", table = { ok = "success" } }'
    definition = parse_definition(text, "own.toml", FUNCTIONS, parse_envelope)
    made = make_source(definition, unknown=lambda *one: heard.append(one))
    for status in ("ok", "odd", "odd"):
        made.draft(json.dumps({"s": status}).encode())
    assert heard == [("outcome", "odd")] * 2


@pytest.mark.parametrize(
    ("when", "record", "holds"),
    [
        ("a && b", {"a": 1, "b": 0}, True),
        ("a && b", {"a": 1}, False),
        ("a || b", {"b": 1}, True),
        ("!a", {}, True),
        ("!a", {"a": 1}, False),
        ('a == "x"', {"a": "x"}, True),
        ('a == "x*"', {"a": "xyz"}, True),
        ('a == "x"', {"a": 1}, False),
        ('a != "x"', {"a": "y"}, True),
        ('a.b == "[x]?"', {"a": {"b": "[x]?"}}, True),
    ],
)
def test_a_condition_says_which_records_are_of_the_source(
    when: str, record: Any, holds: bool
) -> None:
    [found] = source("", f"when = {json.dumps(when)}\n").map(json.dumps(record).encode())
    assert isinstance(found, Mapped) is holds


def test_records_that_a_rule_skips_are_neither_events_nor_refused() -> None:
    [found] = source("", 'skip = "digest"\n').map(b'{"digest":1}')
    assert isinstance(found, NotMapped)
    assert found.skipped


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ('outcom = "a"', "line 5: event.outcom: 'outcom' is not known; did you mean 'outcome'?"),
        ('outcome = { const = "sucess" }', "line 5: event.outcome: .*did you mean 'success'?"),
        ("severity = { const = 9 }", "line 5: event.severity: 9: a severity is a number from 1"),
        ('id = "a b"', "line 5: event.id: 'a b': the end, or a dot and a name"),
        ('id = "a[x]"', "line 5: event.id: 'a.x.': .*is needed at character 2"),
        ('id = "a[]"', "line 5: event.id: 'a..' has several values"),
        ('actor = { idd = "a" }', "line 5: event.actor.idd: 'idd' is not known; did you mean 'id'"),
        ('\n\nactor.id = { pathh = "a" }', "line 7: event.actor.id.pathh: .*mean 'path'"),
        ('id = { path = "a", as = "lowr" }', "line 5: event.id.as: .*mean 'lower'"),
        ('id = { function = "cloudtrail.x" }', "line 5: event.id.function: .*is not known"),
        ('id = "@.x"', "line 5: event.id: `@` stands for an item"),
        ('id = "{a"', "line 5: event.id: .*without its other"),
        ("id = '{$clustr}'", "line 5: event.id: 'clustr' is not known; did you mean 'cluster'"),
        ('tenant = { const = "gateway" }', "line 5: event.tenant: `gateway` is reserved"),
        ('targets = [{ each = "a", urn = "b" }]', r"line 5: event.targets.each: a path with \[\]"),
        ('copies = { "actor.id" = ["x"] }', "line 5: event.copies.actor.id: .*begins with data"),
        ('copies = { "actor.nam" = ["data.x"] }', "line 5: event.copies.actor.nam: .*'actor.name'"),
        ('copies = { "actor.id" = [["data.x"]] }', "line 5: event.copies.actor.id: .*begins with"),
        ("id = []", "line 5: event.id: at least one path is needed"),
        ("time = []", "line 5: event.time: at least one path is needed"),
        ("id = { any = [{ path = [] }] }", "line 5: event.id: at least one path is needed"),
        ("id = { join = [] }", "line 5: event.id.join: at least one path is needed"),
        ("id = 7", "line 5: event.id: a table is needed"),
    ],
)
def test_a_wrong_definition_is_refused_with_line_and_nearest_name(event: str, reason: str) -> None:
    with pytest.raises(InvalidSetting, match=f"own.toml, {reason}"):
        source(event)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name = ", "own.toml: not valid TOML"),
        ('name = "Own"\n[event]\n', "own.toml, line 1: name: 'Own': a-z"),
        (HEAD, "own.toml, line 1: event: a table is needed"),
        (HEAD + '[event]\naction = "a"\n', "own.toml, line 2: event: category is needed"),
        (HEAD + "[event]\n" + NEEDED.replace('"own"', '"gateway.x"'), "`gateway` is reserved"),
        (HEAD + 'whenn = "a"\n[event]\n' + NEEDED, "line 2: whenn: .*did you mean 'when'"),
        (HEAD + "envelopes = [1]\n[event]\n" + NEEDED, "line 2: envelopes: a text is needed"),
        (HEAD + 'when = "a &&"\n[event]\n' + NEEDED, "line 2: when: 'a &&': a member's name"),
    ],
)
def test_a_definition_without_what_it_needs_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidSetting, match=reason):
        parse_definition(text, "own.toml", FUNCTIONS, parse_envelope)


def test_a_source_of_the_settings_is_refused_by_its_path() -> None:
    event = {"category": {"const": "own"}, "action": "a"}
    assert definition_in_settings("own", {"event": event}).name == "own"
    with pytest.raises(InvalidSetting, match=r"sources.own.event.outcom: .*mean 'outcome'"):
        definition_in_settings("own", {"event": event | {"outcom": "a"}})


def test_an_unknown_source_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InvalidSetting, match="did you mean okta"):
        definition_named("oktaa")
    with pytest.raises(InvalidSetting, match=r"nowhere.toml cannot be read"):
        definition_named("nowhere.toml")


@pytest.mark.parametrize("name", shipped_names())
def test_each_shipped_source_is_named_as_its_file_and_cites_its_documentation(name: str) -> None:
    definition = parse_definition(shipped_text(name), name, FUNCTIONS, parse_envelope)
    assert definition.name == name
    assert definition.documentation.startswith("https://") or name == "native"
    # A document can be anything.
    assert definition.when or name == "elasticsearch"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=12)
    | st.sampled_from(["x" * 2000, "\x00\x1b[2J", "a/b", "..", "\u202e", "gateway", "{"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["a", "b", "c", "k"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
EVERYTHING = """
id = "a"
time = ["b.t", "c"]
tenant = { path = "b", as = "text" }
outcome = { path = "c", table = { x = "success", "y*" = "failure" } }
severity = "b.k"
reason = { join = ["a", "b[]", "c.k"] }
actor = { type = "a.k", id = "{a}-{b|c}", name = ["a", "b"], key_id = { path = "c", as = "json" } }
source = { service = "a", ip = "b", port = "c", user_agent = "a.b.c" }
request = { id = "a[0]", trace_id = "a[-1].k" }
targets = [
    { urn = "x:{a}/{+b}[/{c}]", type = "a", id = "b", name = "c" },
    { each = "a[]", urn = "y:{@.k}", name = "@.a" },
    { each = "b[].c[]", id = "@" },
]
"""


@given(record=st.dictionaries(st.sampled_from(["a", "b", "c", "k"]), JSON))
def test_every_record_is_a_valid_event_or_a_refusal(record: dict[str, Any]) -> None:
    text = HEAD + "[event]\n" + NEEDED.replace('{ const = "do" }', '["a", "b", "c"]') + EVERYTHING
    made = make_source(parse_definition(text, "own.toml", FUNCTIONS, parse_envelope))
    for found in made.map(json.dumps(record).encode()):
        if isinstance(found, Mapped):
            assert decode_event(b"{" + found.draft.tail, iter(()), mapped=True) == found.draft
        else:
            assert found.reason


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":"\xff"}', "not valid UTF-8"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":1,"a":2}', "twice"),
        (b'{"a":1e999}', "too large"),
        (b'{"a":', "not valid JSON"),
        (b"[1", "not valid JSON"),
        (b"17", "a record is a JSON object"),
        (b'{"a":' + b'{"x":' * 5000 + b"1" + b"}" * 5000 + b",}", "not valid JSON"),
    ],
)
def test_what_is_no_strict_json_is_refused(raw: bytes, reason: str) -> None:
    [found] = source("").map(raw)
    assert isinstance(found, NotMapped)
    assert reason in found.reason


def test_a_source_of_a_reserved_category_is_refused_by_record() -> None:
    text = HEAD + '[event]\naction = { const = "do" }\ncategory = "c"\n'
    made = make_source(parse_definition(text, "own.toml", FUNCTIONS, parse_envelope))
    for category in ("gateway", "Gateway.keys"):
        with pytest.raises(Refused, match="reserved"):
            made.draft(json.dumps({"c": category}).encode())
