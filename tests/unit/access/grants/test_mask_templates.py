"""Masking by templates: byte for byte what decoding each event gives, or decoding it is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.grants import mask_templates
from gateway.access.grants.mask import Masks, Versions, hiding_of
from gateway.access.grants.mask_templates import (
    FEWEST_MASKS,
    MOST_VALUES,
    PAYS_AFTER,
    MaskTemplates,
    Run,
    TemplatedVersions,
    Version,
    lines_of,
)
from gateway.event import Event
from tests.support.stored_events import MakeDraft, stored, with_json
from tests.unit.access.grants.test_mask import (
    MARK,
    WHOLE,
    any_masks,
    described_members,
    own_record,
    path_by_path,
    texts,
)

OTHERS = [Masks((path,)) for path in ("data.a", "data.b.c", "actor", "reason", "targets.name")]


def taught(event: Event, several: Sequence[Masks] = ()) -> MaskTemplates:
    """Templates that have seen events like this one so often that they pay."""
    templates = MaskTemplates()
    for masks in (*OTHERS, *several):
        if masks:
            templates.learn(hiding_of(masks))
    for _ in range(PAYS_AFTER):
        templates.of(event)
    return templates


def by_template(templates: MaskTemplates, event: Event, masks: Masks) -> bytes:
    return TemplatedVersions(event, templates).under(hiding_of(masks)).json


def decoding_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def under(versions: Versions, hiding: Any) -> Event:
        raise AssertionError("decoded")

    monkeypatch.setattr(Versions, "under", under)


_names = st.sampled_from(["a", "b", "c", 'q"\\', "ä", "\n", "masked", "cursor", "actor", "", "%b"])
_scalars = st.sampled_from([None, True, 7, -0.5, "", "x", 'a"}],b', ',"actor":', "ä☂\n", "%b"])
_data = st.dictionaries(
    _names,
    st.recursive(
        _scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
        max_leaves=10,
    ),
    max_size=5,
)


def _other(value: Any, marks: count[int]) -> Any:
    """A value with the same members and lists, and other values in them."""
    if isinstance(value, dict):
        return {name: _other(member, marks) for name, member in value.items()}
    if isinstance(value, list):
        return [_other(item, marks) for item in value]
    return f'{next(marks)}"\\,ü{value}'


@given(described_members, _data, st.lists(any_masks, min_size=1, max_size=5))
def test_events_with_other_values_are_masked_as_by_decoding_each(
    draft: MakeDraft, described: dict[str, Any], data: dict[str, Any], several: list[Masks]
) -> None:
    event = stored(draft, **described, data=data)
    templates = taught(event, several)
    for number in range(3):
        marks = count(100 * number)
        shown = stored(draft, number, id=f"e{number}", **described, data=_other(data, marks))
        versions = TemplatedVersions(shown, templates)
        for masks in (*several, *OTHERS, *several):
            expected = Versions(shown).under(hiding_of(masks)) if masks else shown
            found = versions.under(hiding_of(masks)) if masks else versions.under(None)
            assert found.json == expected.json == path_by_path(shown, masks)
            assert (found.actor, found.resources) == (expected.actor, expected.resources)
            assert (found is shown) is (expected is shown)


@given(
    described_members,
    st.lists(_data, min_size=1, max_size=3),
    st.lists(any_masks, min_size=1, max_size=5),
    st.lists(st.integers(0, 2), min_size=1, max_size=12),
    st.booleans(),
)
def test_events_in_a_row_are_masked_as_each_alone(
    draft: MakeDraft,
    described: dict[str, Any],
    datas: list[dict[str, Any]],
    several: list[Masks],
    kinds: list[int],
    known: bool,
) -> None:
    events = [
        stored(draft, 1 + at, id=f"e{at}", **described, data=_other(data, count(100 * at)))
        for at, data in enumerate(datas[kind % len(datas)] for kind in kinds)
    ]
    templates = taught(events[0], several if known else ())
    for _ in range(2):
        # Those of before are kept, and shown when others are known.
        run, kept = Run(events, templates), []
        for masks in (*several, *OTHERS, *several):
            hiding = hiding_of(masks) if masks else None
            kept.append((masks, run.under(hiding)))
        for masks, shown in kept:
            assert lines_of(shown) == [path_by_path(event, masks) for event in events]
            assert [one.json for one in shown] == lines_of(shown)
            assert [one.cursor for one in shown] == [event.cursor for event in events]
            assert [one.offset for one in shown] == [event.offset for event in events]


def test_what_masks_show_of_a_row_is_joined_when_it_is_sent(draft: MakeDraft) -> None:
    events = [stored(draft, 1 + at, id=f"e{at}", **WHOLE) for at in range(3)]
    absent = Masks(("data.absent",))
    run = Run(events, taught(events[0], [absent]))
    for path in ("actor", "actor", "reason", "reason", "targets.name", "targets.name"):
        shown = run.under(hiding_of(Masks((path,))))
        assert {type(one) for one in shown} == {Version}
        assert lines_of(shown) == [path_by_path(event, Masks((path,))) for event in events]
        assert run.under(None) == run.under(hiding_of(absent)) == events


def test_masks_that_come_later_end_the_template_of_a_row(draft: MakeDraft) -> None:
    events = [stored(draft, 1 + at, id=f"e{at}", **WHOLE) for at in range(3)]
    run = Run(events, taught(events[0]))
    later = Masks(("source.ip",), ("data.card.number",))
    for masks in (*OTHERS, later, *OTHERS):
        expected = [path_by_path(event, masks) for event in events]
        assert lines_of(run.under(hiding_of(masks))) == expected


@given(described_members, texts(kinds="object"), st.lists(any_masks, min_size=1, max_size=5))
def test_events_spelled_in_any_way_are_masked_as_by_decoding_each(
    draft: MakeDraft, described: dict[str, Any], data: str, several: list[Masks]
) -> None:
    event = stored(draft, **described)
    event = with_json(event, event.json[:-1] + b',"data":' + data.encode() + b"}")
    templates = taught(event, several)
    for masks in (*several, *OTHERS):
        if masks:
            assert by_template(templates, event, masks) == path_by_path(event, masks)


def test_an_event_is_not_decoded_for_each_mask(
    draft: MakeDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    event, other = stored(draft, **WHOLE), stored(draft, 2, **(WHOLE | {"reason": "another"}))
    templates = taught(event)
    expected = [(masks, path_by_path(other, masks)) for masks in OTHERS]
    for masks in OTHERS:
        by_template(templates, event, masks)
    decoding_fails(monkeypatch)
    for masks, json in expected:
        assert by_template(templates, other, masks) == json


@pytest.mark.parametrize(
    ("data", "as_encoded"),
    [
        (b'{"a": 1,"b":2}', b'{"a":1,"b":2}'),
        (b'{"a":1,"a":2}', b'{"a":2}'),
        (rb'{"a":1,"\u0061":2}', b'{"a":2}'),
        (rb'{"\u0061":1}', b'{"a":1}'),
        (b'{"b":{"c":1,"c":2}}', b'{"b":{"c":2}}'),
        (b'{"b":[{"c" :1}]}', b'{"b":[{"c":1}]}'),
        (b'{"b":[ {"c":1}]}', b'{"b":[{"c":1}]}'),
        (b'{"a":1,"b":{"c":2} }', b'{"a":1,"b":{"c":2}}'),
        (b'{"b":[%b]}' % b",".join([b"1"] * MOST_VALUES), b'{"b":[1]}'),
    ],
)  # fmt: skip
def test_what_is_not_understood_at_once_is_decoded(
    draft: MakeDraft, data: bytes, as_encoded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = stored(draft, reason="x")
    odd, plain = (
        with_json(event, event.json[:-1] + b',"data":' + one + b"}") for one in (data, as_encoded)
    )
    templates = taught(plain)
    for shown in (plain, odd):
        for masks in OTHERS:
            assert by_template(templates, shown, masks) == path_by_path(shown, masks)
    decoding_fails(monkeypatch)
    for masks in OTHERS:
        with pytest.raises(AssertionError, match="decoded"):
            by_template(templates, odd, masks)
        by_template(templates, plain, masks)


def test_events_with_other_members_have_other_templates(draft: MakeDraft) -> None:
    datas: list[Any] = [
        {"a": 1}, {"b": {"c": 1}}, {"b": [{"c": 1}]}, {"b": {"c": 1, "d": 1}}, {"b": 1}, {"b": []},
        {"b": {}}, {"c": 1, "a": 1}, {"a": 1, "c": 1}, {},
    ]  # fmt: skip
    events = [stored(draft, 1 + i, data=data) for i, data in enumerate(datas)]
    templates = taught(events[0])
    for _ in range(2 * PAYS_AFTER):
        for event in events:
            for masks in OTHERS:
                assert by_template(templates, event, masks) == path_by_path(event, masks)


def test_records_of_the_gateway_are_decoded_as_their_copies_are_hidden() -> None:
    record = own_record()
    foreign = msgspec.structs.replace(
        record, category="app.access", json=record.json.replace(b'"gateway.', b'"app.')
    )
    masks = Masks(drop=("source.ip",))
    templates = taught(foreign, [masks])
    assert b"192.0.2" in by_template(templates, foreign, masks)
    assert b"192.0.2" not in by_template(templates, record, masks)


def test_masks_that_come_later_reach_as_deep_as_they_have_to(draft: MakeDraft) -> None:
    event = stored(draft, **WHOLE)
    templates = taught(event)
    later = Masks(("source.ip",), ("data.card.number",))
    versions = TemplatedVersions(event, templates)
    for masks in (OTHERS[0], later, OTHERS[1]):
        assert versions.under(hiding_of(masks)).json == path_by_path(event, masks)
    for _ in range(2 * PAYS_AFTER):
        for masks in (later, *OTHERS):
            assert by_template(templates, event, masks) == path_by_path(event, masks)


@pytest.mark.parametrize("most", [256, len(OTHERS)])
def test_a_template_says_nothing_of_what_later_masks_hide(
    draft: MakeDraft, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_templates, "_MOST_MASKS", most)
    first = stored(draft, 1, data={"card": "none"})
    templates = taught(first)
    later = Masks(("data.card.number",))
    for number in range(2, 3 * PAYS_AFTER):
        card = {"number": MARK} if number % 2 else "none"
        event = stored(draft, number, data={"card": card})
        assert MARK.encode() not in by_template(templates, event, later)


def test_a_template_that_does_not_give_what_decoding_gives_is_not_used(
    draft: MakeDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = stored(draft, reason=MARK, data={"a": MARK})
    monkeypatch.setattr(mask_templates._Reach, "add", lambda reach, tree: None)
    templates = taught(event)
    for _ in range(2 * PAYS_AFTER):
        for path in ("data.a", "reason"):
            found = by_template(templates, event, Masks((path,)))
            assert found == path_by_path(event, Masks((path,)))
            assert found.count(MARK.encode()) == 1


def test_events_that_all_differ_in_their_names_cost_no_memory(draft: MakeDraft) -> None:
    templates = taught(stored(draft))
    for number in range(600):
        names = {"a": 1, f"n{number}": 2}
        event = with_json(
            stored(draft), stored(draft).json[:-1] + b',"data":' + orjson.dumps(names) + b"}"
        )
        for _ in range(2):
            templates.of(event)
    assert len(templates._templates) <= 256


def test_few_masks_are_applied_by_decoding(draft: MakeDraft) -> None:
    event = stored(draft, **WHOLE)
    templates = MaskTemplates()
    for number, masks in enumerate(OTHERS):
        for _ in range(PAYS_AFTER + 1):
            found = templates.of(event)
        assert (found is not None) is (number >= FEWEST_MASKS)
        templates.learn(hiding_of(masks))
