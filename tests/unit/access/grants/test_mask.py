"""Masks: what is hidden is gone from the bytes, what is not stays as it was sent."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.grants.copies import OWN_COPIES
from gateway.access.grants.mask import (
    MAX_PATHS,
    Masks,
    Versions,
    check_paths,
    hiding_of,
    masked,
)
from gateway.errors import InvalidRequest
from gateway.event import Event
from gateway.ingest.gateway_event import ACCESS, new_gateway_event
from tests.support.stored_events import MakeDraft, stored, with_json

WHOLE: dict[str, Any] = {
    "actor": {"type": "user", "id": "u-1", "name": "Alice", "key_id": "k1"},
    "source": {"service": "shop", "ip": "192.0.2.7", "port": 443, "user_agent": "curl"},
    "targets": [
        {"urn": "k8s:prod/a", "type": "pod", "id": "1", "name": "web"},
        {"urn": "k8s:prod/b", "name": "db"},
    ],
    "request": {"id": "r-1", "trace_id": "t-1"},
    "reason": "because",
    "data": {
        "amount": 12.50,
        "card": {"number": "4111", "cvv": [1, 2]},
        "list": [{"x": 1}, {"x": 2}],
    },
}


def seen(event: Event, mask: tuple[str, ...] = (), drop: tuple[str, ...] = ()) -> dict[str, Any]:
    return orjson.loads(masked(event, Masks(mask, drop)).json)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        ("actor.name", {"type": "user", "id": "u-1", "name": "***", "key_id": "k1"}),
        ("actor", {"type": "***", "id": "***", "name": "***", "key_id": "***"}),
        ("source.port", {**WHOLE["source"], "port": "***"}),
        ("targets.name", [{**target, "name": "***"} for target in WHOLE["targets"]]),
        ("targets", [dict.fromkeys(target, "***") for target in WHOLE["targets"]]),
        ("request.trace_id", {"id": "r-1", "trace_id": "***"}),
        ("reason", "***"),
        ("data.amount", {**WHOLE["data"], "amount": "***"}),
        ("data.card", {**WHOLE["data"], "card": "***"}),
        ("data.card.cvv", {**WHOLE["data"], "card": {"number": "4111", "cvv": "***"}}),
        ("data.list.x", {**WHOLE["data"], "list": [{"x": "***"}, {"x": "***"}]}),
        ("data", {}),
    ],
)  # fmt: skip
def test_a_masked_value_is_three_stars_and_declared(
    draft: MakeDraft, path: str, instead: Any
) -> None:
    root = path.partition(".")[0]
    event = stored(draft, **WHOLE)
    found = seen(event, (path,))
    assert found.pop("masked") == [path]
    assert found.pop(root) == instead
    rest = seen(event)
    del rest[root]
    assert found == rest


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("actor.name", {"type": "user", "id": "u-1", "key_id": "k1"}),
        ("targets.urn", [{"type": "pod", "id": "1", "name": "web"}, {"name": "db"}]),
        ("data.card", {"amount": 12.50, "list": [{"x": 1}, {"x": 2}]}),
        ("data.list.x", {**WHOLE["data"], "list": [{}, {}]}),
        ("reason", None),
        ("data", None),
    ],
)
def test_a_dropped_member_is_gone_and_nothing_says_that_it_was_there(
    draft: MakeDraft, path: str, left: Any
) -> None:
    found = seen(stored(draft, **WHOLE), drop=(path,))
    assert "masked" not in found
    assert found.get(path.partition(".")[0]) == left


def test_names_of_members_under_a_mask_in_data_are_hidden_too(draft: MakeDraft) -> None:
    event = stored(draft, data={"cards": {"4111-1111": True}, "n": 1})
    for path in ("data.cards", "data"):
        assert b"4111" not in masked(event, Masks((path,))).json


def test_names_written_with_escapes_are_the_same_names(draft: MakeDraft) -> None:
    event = stored(draft, reason="x")
    escaped = with_json(event, event.json[:-1] + rb',"data":{"pay\u006coad":"secret","n":1}}')
    assert b"secret" not in masked(escaped, Masks(("data.payload",))).json
    assert b"secret" not in masked(escaped, Masks((), ("data.payload",))).json


def test_what_is_absent_is_neither_made_nor_declared(draft: MakeDraft) -> None:
    event = stored(draft, actor={"id": "u-1"})
    paths = ("actor.name", "data.card.number", "reason", "targets.name")
    assert seen(event, paths) == seen(event)


def test_a_path_through_a_plain_value_hides_nothing(draft: MakeDraft) -> None:
    event = stored(draft, data={"card": "plain", "list": [1, [2]]})
    for path in ("data.card.number", "data.list.x"):
        assert seen(event, (path,)) == seen(event)


def test_numbers_that_stay_keep_their_digits(draft: MakeDraft) -> None:
    event = stored(draft, data={"n": 1, "secret": 2})
    exact = b'"n":1.10000000000000000000e+400'
    precise = with_json(event, event.json.replace(b'"n":1', exact))
    assert exact in masked(precise, Masks(("data.secret",))).json


def test_selectors_find_nothing_in_what_is_hidden(draft: MakeDraft) -> None:
    event = stored(draft, **WHOLE)
    assert (event.actor, event.resources) == ("u-1", "k8s:prod/a\nk8s:prod/b")
    for path in ("actor.id", "actor"):
        assert masked(event, Masks((path,))).actor == ""
        assert masked(event, Masks((), (path,))).actor == ""
    for path in ("targets.urn", "targets"):
        assert masked(event, Masks((path,))).resources == ""
    other = masked(event, Masks(("actor.name", "targets.name")))
    assert (other.actor, other.resources) == (event.actor, event.resources)


def test_without_masks_it_is_the_very_same_event(draft: MakeDraft) -> None:
    event = stored(draft, **WHOLE)
    assert masked(event, Masks()) is event


def test_joined_masks_hide_what_either_hides_and_dropping_wins() -> None:
    one, other = Masks(("reason", "actor.name"), ("data.a",)), Masks(("data.a",), ("reason",))
    joined = Masks(("actor.name",), ("data.a", "reason"))
    assert one.joined(other) == other.joined(one) == joined
    assert hash(one.joined(other)) == hash(joined)


def test_a_path_is_hidden_by_every_member_that_it_lies_in() -> None:
    masks = Masks(("data.a.b",), ("actor",))
    assert masks.hides("data.a.b")
    assert masks.hides("data.a.b.c")
    assert masks.hides("actor.id")
    assert masks.hides("reason", "actor")
    assert not masks.hides("data", "data.a", "data.a.bc", "reason")
    assert not Masks().hides("data")


@pytest.mark.parametrize(
    "path",
    ["tenant", "category", "cursor", "id", "time", "severity", "masked", "", "x", "actor.x",
     "actor.name.x", "targets.0", "reason.x", "data.", "data..a", ".data", "Actor", "actor.*"],
)  # fmt: skip
def test_only_what_a_producer_describes_can_be_hidden(path: str) -> None:
    with pytest.raises(InvalidRequest):
        check_paths((path,))


def test_paths_are_bounded() -> None:
    check_paths(("data.x",) * MAX_PATHS)
    with pytest.raises(InvalidRequest):
        check_paths(("data.x",) * (MAX_PATHS + 1))


# Every hidden value holds this text; nothing that stays does.
MARK = "zq7MARKzq7"
_names = st.sampled_from(["a", "b", "c"])
_values = st.recursive(
    st.sampled_from([MARK, MARK + "\n", 'q"' + MARK, 7, None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names | st.just(MARK), inner),
    max_leaves=8,
)
_paths = st.lists(
    st.sampled_from(
        ["actor", "actor.id", "actor.name", "source.ip", "targets", "targets.urn", "targets.name",
         "reason", "data", "data.a", "data.a.b", "data.b.c", "data.c"]
    ),
    unique=True,
)  # fmt: skip


def _mark(value: Any, path: str, paths: tuple[str, ...]) -> Any:
    """The value with the mark wherever a path hides it, and without elsewhere."""
    if Masks(paths).hides(path):
        return value
    if isinstance(value, dict):
        return {
            name.replace(MARK, "d"): _mark(inner, f"{path}.{name}", paths)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_mark(inner, path, paths) for inner in value]
    return value.replace(MARK, "plain") if isinstance(value, str) else value


@given(_paths.map(tuple), _paths.map(tuple), st.dictionaries(_names, _values))
def test_no_byte_of_a_hidden_value_is_left(
    draft: MakeDraft, mask: tuple[str, ...], drop: tuple[str, ...], data: dict[str, Any]
) -> None:
    members = {
        "actor": {"id": MARK, "name": MARK},
        "source": {"ip": MARK},
        "targets": [{"urn": MARK, "name": MARK}, {"name": MARK}],
        "reason": MARK,
        "data": data,
    }
    marked = {name: _mark(value, name, mask + drop) for name, value in members.items()}
    event = stored(draft, **marked)
    found = masked(event, Masks(mask, drop))
    assert MARK.encode() not in found.json
    assert MARK not in found.actor + found.resources
    assert orjson.loads(found.json)["cursor"] == event.cursor.decode()


# One decoding for all masks, against a plain reading of each path


def path_by_path(event: Event, masks: Masks) -> bytes:
    """What the event is under masks: decoded and encoded for each path, one after the other."""
    json, declared = msgspec.Raw(event.json), []
    for path in masks.drop:
        json = _without(json, path.split("."), None, path)[0]
    for path in masks.mask:
        json, found = _without(json, path.split("."), path, path)
        declared += [path] if found else []
    if declared:
        members = OBJECT.decode(json) | {"masked": msgspec.Raw(msgspec.json.encode(declared))}
        json = msgspec.Raw(msgspec.json.encode(members))
    return bytes(json)


def _without(
    value: msgspec.Raw, parts: list[str], mask: str | None, path: str
) -> tuple[msgspec.Raw, bool]:
    if not parts:
        return _stars(value, path), True
    content: Any = msgspec.json.decode(value, type=Any)
    found = False
    if isinstance(content, dict):
        content = OBJECT.decode(value)
        name, rest = parts[0], parts[1:]
        if name in content and not rest and mask is None:
            del content[name]
        elif name in content:
            content[name], found = _without(content[name], rest, mask, path)
    elif isinstance(content, list):
        both = [_without(item, parts, mask, path) for item in LIST.decode(value)]
        content, found = [item for item, _ in both], any(one for _, one in both)
    else:
        return value, False
    return msgspec.Raw(msgspec.json.encode(content)), found


def _stars(value: msgspec.Raw, path: str) -> msgspec.Raw:
    if path == "data":
        return msgspec.Raw(b"{}")
    content: Any = msgspec.json.decode(value)
    if path.startswith("data.") or not isinstance(content, dict | list):
        return msgspec.Raw(b'"***"')
    shown: Any = (
        [_stars(item, path) for item in LIST.decode(value)]
        if type(content) is list
        else {name: _stars(item, path) for name, item in OBJECT.decode(value).items()}
    )
    return msgspec.Raw(msgspec.json.encode(shown))


OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
LIST = msgspec.json.Decoder(list[msgspec.Raw])
_blanks = st.sampled_from(["", "", "", " ", "\t "])
_spelled_names = st.dictionaries(
    st.sampled_from(["a", "b", "c", 'q"\\', "ä", "masked", "cursor", "actor", ""]),
    st.sampled_from(["plain", "escaped"]),
    max_size=4,
)


@st.composite
def texts(draw: st.DrawFn, depth: int = 4, kinds: str = "scalar object list") -> str:
    """A JSON value, with the blanks and the spelling that somebody may send."""
    kind = draw(st.sampled_from(kinds.split())) if depth else "scalar"
    if kind == "scalar":
        return draw(
            st.sampled_from(
                ["1", "-0", "1.10", "1e5", "1.0E+2", "12345678901234567890", "true", "null", '""',
                 '"x"', '"\\u00e4"', '"ä☂"', '"a\\"}],b"', '",\\"actor\\":"', "{}", "[]"]
            )
        )  # fmt: skip
    blank = draw(_blanks)
    if kind == "list":
        items = draw(st.lists(texts(depth=depth - 1), max_size=3))
        return f"[{blank}" + f"{blank},".join(items) + f"{blank}]"
    members = []
    for name, how in draw(_spelled_names).items():
        spelled = "".join(f"\\u{ord(one):04x}" for one in name)
        written = f'"{spelled}"' if how == "escaped" else orjson.dumps(name).decode()
        members.append(f"{written}{blank}:{blank}{draw(texts(depth=depth - 1))}")
    return f"{{{blank}" + f"{blank},{blank}".join(members) + f"{blank}}}"


_all_paths = st.lists(
    st.sampled_from(
        ["actor", "actor.id", "actor.name", "source", "source.ip", "source.port", "targets",
         "targets.urn", "targets.name", "request", "reason", "data", "data.a", "data.a.a",
         "data.a.b.c", "data.b", "data.c.a", 'data.q"\\', "data.ä", "data.masked", "data.actor",
         "data.absent.a"]
    ),
    unique=True, max_size=6,
)  # fmt: skip
any_masks = st.builds(
    lambda mask, drop: Masks(tuple(sorted(mask))).joined(Masks(drop=tuple(drop))),
    _all_paths, _all_paths,
)  # fmt: skip
described_members = st.fixed_dictionaries(
    {},
    optional={name: st.just(WHOLE[name]) for name in ("actor", "source", "request", "reason")}
    | {"targets": st.lists(st.sampled_from(WHOLE["targets"]), max_size=2)},
)


@given(described_members, st.none() | texts(kinds="object"), st.lists(any_masks, max_size=4))
def test_an_event_under_many_masks_is_each_time_what_one_path_after_the_other_leaves(
    draft: MakeDraft, described: dict[str, Any], data: str | None, several: list[Masks]
) -> None:
    event = stored(draft, **described)
    if data is not None:
        event = with_json(event, event.json[:-1] + b',"data":' + data.encode() + b"}")
    versions = Versions(event)
    for masks in (*several, *several):
        assert versions.under(hiding_of(masks)).json == path_by_path(event, masks)
    assert versions.under(None) is event


def test_masks_of_which_nothing_is_there_leave_the_very_same_event(draft: MakeDraft) -> None:
    event = stored(draft, actor={"id": "u-1"}, data={"a": 1, "b": {"c": [1]}})
    versions = Versions(event)
    for path in ("actor.name", "data.x", "data.b.x", "data.a.x", "reason", "targets.urn"):
        for masks in (Masks((path,)), Masks(drop=(path,))):
            assert versions.under(hiding_of(masks)) is event


def test_blanks_do_not_tell_whether_a_member_was_dropped(draft: MakeDraft) -> None:
    event = stored(draft, reason="x")
    with_it, without = (
        with_json(event, event.json[:-1] + b',"data":' + data + b"}")
        for data in (b'{"n": 1, "card": 2}', b'{"n": 1}')
    )
    masks = Masks(drop=("data.card",))
    assert masked(with_it, masks).json == masked(without, masks).json


def test_members_of_data_are_hidden_whatever_they_are_called(draft: MakeDraft) -> None:
    event = stored(draft, data={"cursor": "x", "secret": MARK, "actor": "y", "reason": "z"})
    for masks in (Masks(("data.secret",)), Masks(drop=("data.secret",))):
        assert MARK.encode() not in masked(event, masks).json


def test_masks_of_what_cannot_be_hidden_fail(draft: MakeDraft) -> None:
    with pytest.raises(ValueError, match="never hidden"):
        masked(stored(draft), Masks(("tenant",)))


def test_a_path_deeper_than_any_event_hides_nothing(draft: MakeDraft) -> None:
    event = stored(draft, data={"a": 1})
    deep = "data" + ".a" * 5000
    assert masked(event, Masks((deep,), ("data.a.b",))) is event


# The gateway's own records

COPIED: dict[str, Any] = {
    "address": "192.0.2.7", "networks": ["192.0.2.0/24"], "client": "curl", "clients": ["a", "b"],
    "whose": [{"key": "k", "address": "192.0.2.7"}], "key": "k", "name": "siem", "role": "r",
    "about": ["key:k"], "claimed": ["k"], "predecessor": "k", "successor": "k",
    "pending_successor": "k",
    "keys": ["k"], "created_by": "k", "operator": "cli:ada", "command_line": {"user": "ada"},
    "finding": "denials-k-1", "destination": "siem", "consumer": "siem",
}  # fmt: skip
OPERATORS = {"operator", "command_line", "created_by", "finding"}
KEY_COPIES = {
    "key",
    "name",
    "role",
    "about",
    "claimed",
    "predecessor",
    "successor",
    "pending_successor",
    "keys",
    "created_by",
    "finding",
}
NAMED = {"destination", "consumer"}


def own_record() -> Event:
    draft = new_gateway_event(
        id="1", category=ACCESS, action="events.pulled", by="k" * 12, address="192.0.2.7",
        client="curl", about=["key:k"], data={**COPIED, "count": 1, "ranges": [1]},
    )  # fmt: skip
    cursor = b"k3f9xq7m2p-%020d" % 1
    json = b'{"cursor":"%b",%b' % (cursor, draft.stored(b"2026-01-31T10:00:00.000000Z"))
    return Event(
        1, draft.tenant, draft.category, draft.action, draft.outcome, draft.severity, draft.actor,
        draft.resources, cursor, json,
    )  # fmt: skip


def test_every_copy_that_is_known_is_tried_here() -> None:
    assert {path.split(".")[1] for path in OWN_COPIES} == set(COPIED)


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        ("source.ip", {"address", "networks", "finding"}),
        ("source.user_agent", {"client", "clients"}),
        ("source", {"address", "networks", "client", "clients", "finding"}), ("source.port", set()),
        ("targets.urn", KEY_COPIES | NAMED), ("targets.id", KEY_COPIES),
        ("targets", KEY_COPIES | NAMED),
        ("targets.name", {"name"}), ("actor.id", OPERATORS), ("actor", OPERATORS),
        ("reason", set()),
    ],
)  # fmt: skip
def test_copies_of_what_is_hidden_are_hidden_in_own_records(path: str, gone: set[str]) -> None:
    event = own_record()
    left = seen(event, drop=(path,))["data"]
    assert set(COPIED) - set(left) == gone
    found = seen(event, (path,))
    assert {name for name in gone if found["data"][name] != "***"} == set()
    assert {f"data.{name}" for name in gone} <= set(found.get("masked", []))
    assert (found["data"]["count"], found["data"]["ranges"]) == (1, [1])


def test_whose_an_own_record_is_is_hidden_with_whoever_it_names() -> None:
    for path, one in (
        ("source", {"key": "k"}), ("actor", {"address": "192.0.2.7"}),
        ("actor.key_id", {"address": "192.0.2.7"}), ("targets.urn", {"address": "192.0.2.7"}),
    ):  # fmt: skip
        assert seen(own_record(), drop=(path,))["data"]["whose"] == [one]


def test_what_a_producer_sends_under_the_same_names_stays(draft: MakeDraft) -> None:
    event = stored(draft, category="gatewayx.access", data=COPIED)
    assert seen(event, ("source", "targets", "actor"))["data"] == COPIED
