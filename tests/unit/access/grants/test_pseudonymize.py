"""Pseudonyms in events: they stand for values, and no byte of a value is left."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.grants.grant import parse_grant
from gateway.access.grants.mask import Masks, Versions, domain_of, hiding_of, masked, masked_data
from gateway.access.grants.mask_templates import MaskTemplates, TemplatedVersions
from gateway.access.grants.pseudonym import PseudonymDomain, version_of
from gateway.access.grants.pseudonymizer import MOST_VALUES
from gateway.errors import InvalidRequest
from gateway.event import Event
from gateway.ingest.gateway_event import ACCESS, new_gateway_event
from tests.support.pseudonyms import DOMAIN, ROTATED_AT, SECRETS, named, pseudonym
from tests.support.stored_events import MakeDraft, stored, with_json

WHOLE: dict[str, Any] = {
    "actor": {"type": "user", "id": "u-1", "name": "Alice", "key_id": "u-1"},
    "source": {"service": "shop", "ip": "192.0.2.7", "port": 443},
    "targets": [{"urn": "user:bob", "id": "u-1", "name": "Alice"}, {"urn": "app:x"}],
    "reason": "because",
    "data": {
        "card": {"number": 4111, "holder": "Alice", "ok": True, "none": None, "parts": [1, "2"]},
        "user": {"id": "u-1"},
    },
}
MARK = "qZ7mArKqZ7"


def seen(event: Event, masks: Masks) -> dict[str, Any]:
    return masked(event, masks).members()


def test_equal_values_of_one_kind_have_equal_pseudonyms_wherever_they_stand(
    draft: MakeDraft,
) -> None:
    event = stored(draft, **WHOLE)
    found = seen(event, named("actor.id", "actor.key_id", "targets.id", "data.user.id"))
    expected = pseudonym("id", "u-1")
    assert version_of(expected) == 1
    assert found["actor"] == {**WHOLE["actor"], "id": expected, "key_id": expected}
    assert found["targets"][0]["id"] == found["data"]["user"]["id"] == expected
    paths = ["actor.id", "actor.key_id", "data.user.id", "targets.id"]
    assert found["pseudonymized"] == paths
    assert "masked" not in found
    names = seen(event, named("actor.name", "targets.name"))
    assert names["actor"]["name"] == names["targets"][0]["name"] == pseudonym("name", "Alice")


def test_strings_and_numbers_in_an_object_are_replaced_and_nothing_else(draft: MakeDraft) -> None:
    found = seen(stored(draft, **WHOLE), named("data.card", "source.port"))
    assert found["data"]["card"] == {
        "number": pseudonym("data.card.number", "4111"),
        "holder": pseudonym("data.card.holder", "Alice"),
        "ok": True,
        "none": None,
        "parts": [pseudonym("data.card.parts", "1"), pseudonym("data.card.parts", "2")],
    }
    assert found["source"]["port"] == pseudonym("source.port", "443")
    assert found["pseudonymized"] == ["data.card", "source.port"]


def test_what_is_masked_in_a_pseudonymized_object_stays_masked(draft: MakeDraft) -> None:
    event = stored(draft, **WHOLE)
    masks = named("actor", "data.card", mask=("actor.name", "data.card.number"), drop=("reason",))
    found = seen(event, masks)
    assert found["actor"]["name"] == found["data"]["card"]["number"] == "***"
    assert found["actor"]["type"] == pseudonym("actor.type", "user")
    assert found["masked"] == ["actor.name", "data.card.number"]
    assert found["pseudonymized"] == ["actor", "data.card"]
    # An object that is masked has no pseudonyms in it.
    found = seen(event, named("actor.id", "data.card.number", mask=("actor", "data.card")))
    assert set(found["actor"].values()) == {"***"}
    assert found["data"]["card"] == "***"
    assert "pseudonymized" not in found
    # Three stars that were sent are a value like any other.
    sent = stored(draft, actor={"id": "***"})
    assert seen(sent, named("actor"))["actor"]["id"] == pseudonym("id", "***")


def test_dropping_wins_over_masking_and_masking_over_pseudonyms() -> None:
    one = named("actor.id", "actor.name", "reason")
    other = Masks(mask=("actor.name",), drop=("reason",))
    joined = Masks(("actor.name",), ("reason",), ("actor.id",)).within(DOMAIN)
    assert one.joined(other) == other.joined(one) == joined
    assert hash(one.joined(other)) == hash(joined)
    assert one.joined(Masks(mask=one.pseudonymize)) == Masks(mask=one.pseudonymize)
    assert one != one.within(PseudonymDomain("other", SECRETS))


def test_a_path_within_a_pseudonymized_one_is_replaced_once(draft: MakeDraft) -> None:
    found = seen(stored(draft, **WHOLE), named("actor", "actor.id"))
    assert found["actor"]["id"] == pseudonym("id", "u-1")
    assert found["pseudonymized"] == ["actor"]


def test_selectors_see_pseudonyms(draft: MakeDraft) -> None:
    event = stored(draft, **WHOLE)
    shown = masked(event, named("actor.id", "targets.urn"))
    assert shown.actor == pseudonym("id", "u-1") == shown.members()["actor"]["id"]
    urns = [target["urn"] for target in shown.members()["targets"]]
    assert shown.resources.split("\n") == urns
    assert urns == [pseudonym("urn", "user:bob"), pseudonym("urn", "app:x")]
    for masks in (named("actor.id", mask=("actor",)), named("actor", drop=("actor.id",))):
        assert masked(event, masks).actor == ""
    nobody = stored(draft)
    assert masked(nobody, named("actor", "targets")) is nobody
    assert hiding_of(named("actor", "targets")).columns(nobody) == nobody


def test_an_event_has_the_pseudonyms_of_when_it_was_recorded(draft: MakeDraft) -> None:
    for at, version in (("2026-01-31T12:00:04.999999Z", 1), (ROTATED_AT, 2)):
        shown = masked(stored(draft, recorded_at=at, **WHOLE), named("actor.id"))
        assert shown.actor == pseudonym("id", "u-1", at=at)
        assert version_of(shown.actor) == version


def test_without_a_secret_members_are_masked(draft: MakeDraft) -> None:
    event = stored(draft, **WHOLE)
    forgotten = PseudonymDomain("siem", SECRETS.without(1))
    bare = Masks(pseudonymize=("actor.id", "data.card"), drop=("reason",))
    for masks in (bare, bare.within(forgotten)):
        shown = masked(event, masks)
        assert shown == masked(event, Masks(("actor.id", "data.card"), ("reason",)))
        assert shown.actor == ""
    later = stored(draft, recorded_at=ROTATED_AT, **WHOLE)
    assert version_of(masked(later, bare.within(forgotten)).actor) == 2
    no_time = with_json(event, event.json.replace(b'"recorded_at":"2', b'"recorded_at":"x'))
    assert masked(no_time, named("actor.id")).actor == ""


def test_other_tenants_have_unrelated_pseudonyms(draft: MakeDraft) -> None:
    shown = {
        masked(stored(draft, tenant=tenant, **WHOLE), named("actor.id")).actor
        for tenant in ("acme", "globex")
    }
    assert shown == {pseudonym("id", "u-1", "acme"), pseudonym("id", "u-1", "globex")}


def test_spelling_does_not_matter_but_for_numbers(draft: MakeDraft) -> None:
    event = stored(draft, reason="x")
    for text, value in ((rb'"\u0041b\/"', "Ab/"), (b"1.50", "1.50"), (b"-0", "-0")):
        spelled = with_json(event, event.json[:-1] + b',"data":{"v":%b}}' % text)
        assert seen(spelled, named("data.v"))["data"]["v"] == pseudonym("data.v", value)


def test_a_member_with_too_many_values_is_masked_and_others_are_not(draft: MakeDraft) -> None:
    many = list(range(MOST_VALUES + 1))
    event = stored(draft, actor={"id": "u-1"}, data={"few": many[1:], "many": many, "x": "y"})
    found = seen(event, named("actor.id", "data.few", "data.many", "data.x"))
    assert found["actor"]["id"] == pseudonym("id", "u-1")
    assert len(set(found["data"]["few"])) == MOST_VALUES
    assert found["data"]["many"] == "***"
    assert found["data"]["x"] == pseudonym("data.x", "y")
    assert found["masked"] == ["data.many"]
    assert found["pseudonymized"] == ["actor.id", "data.few", "data.x"]


def test_values_behind_too_many_at_their_path_are_masked(draft: MakeDraft) -> None:
    event = stored(draft, data={"users": [{"id": one} for one in range(MOST_VALUES + 2)]})
    found = seen(event, named("data.users.id"))
    ids = [one["id"] for one in found["data"]["users"]]
    assert ids[MOST_VALUES - 1] == pseudonym("id", str(MOST_VALUES - 1))
    assert ids[MOST_VALUES:] == ["***", "***"]
    assert found["masked"] == found["pseudonymized"] == ["data.users.id"]


def test_a_nul_in_a_name_of_data_does_not_end_the_space(draft: MakeDraft) -> None:
    event = stored(draft, data={"a": {"b\0acme\0x": "v"}})
    assert list(seen(event, named("data.a"))["data"]["a"].values()) == [pseudonym("data.a", "v")]


def test_copies_in_records_of_the_gateway_are_masked(draft: MakeDraft) -> None:
    record = new_gateway_event(
        id="1", category=ACCESS, action="events.pulled", by="k" * 12, address="192.0.2.7",
        about=["key:k"], data={"address": "192.0.2.7", "key": "k", "count": 1},
    )  # fmt: skip
    event = stored(lambda: record)
    found = seen(event, named("source.ip", "targets.id", "actor.id"))
    assert found["source"]["ip"] == pseudonym("ip", "192.0.2.7", "gateway")
    assert found["data"] == {"address": "***", "key": "***", "count": 1}
    assert b"192.0.2.7" not in masked(event, named("source.ip")).json
    shown = masked_data({"address": "192.0.2.7", "n": 1}, named("source.ip"))
    assert shown == {"address": "***", "n": 1}


_paths = st.sets(
    st.sampled_from([
        "actor", "actor.id", "source.ip", "targets", "targets.urn", "reason", "data.a", "data.b",
        "data.a.b", "data.a.c",
    ])
)  # fmt: skip
_values = st.recursive(
    st.sampled_from([MARK, f"x{MARK}", f'"{MARK}\\', 7, None, True]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(_paths, _paths, _paths, st.dictionaries(st.sampled_from("ab"), _values, max_size=2))
def test_no_byte_of_a_hidden_value_is_left_by_whichever_way(
    draft: MakeDraft, paths: set[str], mask: set[str], drop: set[str], data: dict[str, Any]
) -> None:
    every = paths | mask | drop | {"data.a", "data.b", "actor", "targets", "reason", "source.ip"}
    event = stored(
        draft, reason=MARK, actor={"id": MARK, "name": f"n{MARK}"}, source={"ip": MARK},
        targets=[{"urn": f"u:{MARK}", "name": MARK}], data=data,
    )  # fmt: skip
    masks = Masks(tuple(sorted(mask)), tuple(sorted(drop)), tuple(sorted(every))).within(DOMAIN)
    shown = masked(event, masks)
    for part in (shown.json, shown.actor.encode(), shown.resources.encode()):
        assert MARK.encode() not in part
    declared = shown.members().get("pseudonymized", [])
    assert set(declared).isdisjoint(mask | drop)


def test_templates_of_masks_give_way_to_pseudonyms(draft: MakeDraft) -> None:
    templates = MaskTemplates()
    plain = [Masks((path,)) for path in ("actor.id", "actor.name", "reason", "data", "source")]
    several = [named("actor.id", "data.card"), *plain, named("reason", mask=("actor",))]
    events = [stored(draft, number, **(WHOLE | {"reason": f"r{number}"})) for number in range(40)]
    for event in events:
        versions = TemplatedVersions(event, templates)
        for masks in (*several, *several):
            expected = Versions(event).under(hiding_of(masks))
            assert versions.under(hiding_of(masks)) == expected
    assert templates.masks == {hiding_of(masks) for masks in plain}
    # They are of use for all others, as before.
    assert versions.template is not None


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (["data"], "data as a whole"), (["data.a\0b"], "NUL"), (["tenant"], "cannot be hidden"),
        (["data..id"], "empty part"), (["actor.x"], "cannot be hidden"), ([], "empty list"),
    ],
)  # fmt: skip
def test_what_cannot_be_pseudonymized_is_refused(paths: list[str], reason: str) -> None:
    raw = {"actions": ["pull"], "categories": ["**"], "fields": {"pseudonymize": paths}}
    with pytest.raises(InvalidRequest, match=reason):
        parse_grant(raw)


def test_a_grant_holds_its_paths_and_never_a_domain() -> None:
    raw = {
        "actions": ["pull"], "categories": ["**"],
        "fields": {"pseudonymize": ["actor.id", "data.user.id"]},
    }  # fmt: skip
    grant = parse_grant(raw)
    assert orjson.loads(orjson.dumps(grant.shown())) == raw
    assert grant.fields is not None
    assert domain_of(grant.fields) is None
    with pytest.raises(InvalidRequest):
        parse_grant({**raw, "fields": {"pseudonymize": ["actor.id"], "domain": "x"}})
