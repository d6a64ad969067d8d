"""Sign-in by an identity provider: who comes in, as whom, and until when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from failing import Broken
from gateway_client import Answer
from gateways import Gateway, ShiftedClock, Start
from oidc_browser import BACK, BEGIN, Arrived, OidcBrowser, oidc
from open_streams import open_stream
from use_record import told

from gateway.http.app import DOCUMENT
from gateway.http.response.request_metrics import BY_OIDC, REFUSED, SIGNED_IN
from gateway.people.confirmations import Confirmations
from tests.support.machine_time import eventually
from tests.support.oidc_provider import OidcProvider, curve_key, provider_at

HOUR = 3600
JSON = {"Accept": "application/json"}
NAMED = {"begin": BEGIN, "back": BACK}
Get = Callable[[str], Awaitable[Answer]]


@pytest.fixture
async def provider(shifted: ShiftedClock) -> AsyncIterator[OidcProvider]:
    async with provider_at(shifted.now) as provider:
        yield provider


@pytest.fixture
async def gateway(start: Start, shifted: ShiftedClock, provider: OidcProvider) -> Gateway:
    return await start(shifted, console=oidc(provider), record={"delay": 0})


async def test_a_person_signs_in_with_the_roles_of_their_groups_and_no_grants(
    gateway: Gateway, provider: OidcProvider
) -> None:
    browser = OidcBrowser(gateway)
    arrived = await browser.sign_in(provider, to="keys/new?q=a")
    assert (arrived.status, arrived.headers["Location"]) == (303, "/#/keys/new?q=a")
    me = (await (await browser.session()).get("/v1/me")).json()
    assert (me["kind"], me["name"], me["owner"]) == ("person", "ann@example.org", "ann@example.org")
    assert "keys.admin" in me["actions"]
    key = await gateway.context.key_store.get(me["id"])
    assert key is not None
    assert (key.roles, key.grants) == (("key-admin", "on-call"), ())


async def test_the_page_offers_the_provider(gateway: Gateway, provider: OidcProvider) -> None:
    page = (await OidcBrowser(gateway).get("/")).text
    assert f'name="identity-provider" content="{provider.url.removeprefix("http://")}"' in page


async def test_the_same_person_is_the_same_principal_with_the_groups_of_now(
    gateway: Gateway, provider: OidcProvider
) -> None:
    ids = set()
    for groups in (["admins"], ["auditors", "elsewhere"], "auditors"):
        provider.person |= {"groups": groups, "email": "ann.other@example.org"}
        browser = OidcBrowser(gateway)
        await browser.sign_in(provider)
        me = (await (await browser.session()).get("/v1/me")).json()
        ids.add(me["id"])
        assert ("keys.admin" in me["actions"]) is (groups == ["admins"])
    assert len(ids) == 1


async def test_a_person_in_no_known_group_is_told_which_groups_came(
    gateway: Gateway, provider: OidcProvider
) -> None:
    provider.person["groups"] = ["<b>sales</b>", "support"]
    browser = OidcBrowser(gateway)
    arrived = await browser.sign_in(provider)
    assert (arrived.status, arrived.code) == (403, "no_group")
    assert "these groups came: <b>sales</b>, support" in arrived.detail
    assert "<b>" not in arrived.text
    assert browser.cookies == {}
    provider.person.pop("groups")
    assert "no groups came" in (await browser.sign_in(provider)).detail


async def test_records_name_the_person(gateway: Gateway, provider: OidcProvider) -> None:
    browser = OidcBrowser(gateway)
    await browser.sign_in(provider)
    session = await browser.session()
    body = {"name": "n", "purpose": "p", "owner": "o", "grants": [], "expires_in": "1d"}
    made = await session.request("POST", "/v1/keys", json=body)
    assert made.status == 201, made.body
    person = (await session.get("/v1/me")).json()["id"]
    assert (made.json()["created_by"], made.json()["created_by_name"]) == (
        person, "ann@example.org",
    )  # fmt: skip
    provider.person["groups"] = []
    await OidcBrowser(gateway).sign_in(provider)
    ann = {"type": "person", "id": "u-1", "name": "ann@example.org", "key_id": person}
    wanted = ("session.opened", "request.denied", "key.created")
    await told(gateway, actions=wanted, where=lambda one: one.get("actor") == ann)


async def test_what_a_person_does_not_have_they_cannot_give(
    gateway: Gateway, provider: OidcProvider
) -> None:
    browser = OidcBrowser(gateway)
    await browser.sign_in(provider)
    grant = {"actions": ["pull"], "categories": ["auth"]}
    body = {"name": "n", "purpose": "p", "owner": "o", "grants": [grant], "expires_in": "1d"}
    made = await (await browser.session()).request("POST", "/v1/keys", json=body)
    made.problem(403, "exceeds_own_grants")


async def test_nothing_is_delivered_as_a_person(gateway: Gateway, provider: OidcProvider) -> None:
    browser = OidcBrowser(gateway)
    await browser.sign_in(provider)
    person = (await (await browser.session()).get("/v1/me")).json()["id"]
    body = {
        "name": "d", "type": "http", "key": person, "settings": {"url": "https://siem.example/x"},
    }  # fmt: skip
    made = await gateway.post("/v1/destinations", key=gateway.admin, json=body)
    made.problem(409, "is_person")


async def test_other_roles_are_to_be_reviewed_anew_and_the_same_are_not(
    gateway: Gateway, provider: OidcProvider
) -> None:
    browser = OidcBrowser(gateway)
    await browser.sign_in(provider)
    path = f"/v1/keys/{(await (await browser.session()).get('/v1/me')).json()['id']}"
    note = {"note": "as it should be"}
    assert (await gateway.post(f"{path}/reviewed", key=gateway.admin, json=note)).status == 200
    for groups, reviewed in ((["admins"], True), (["auditors"], False)):
        provider.person["groups"] = groups
        await OidcBrowser(gateway).sign_in(provider)
        shown = (await gateway.get(path, key=gateway.admin)).json()
        assert ("reviewed_at" in shown) is reviewed
    rows = (await gateway.get("/v1/review", key=gateway.admin, headers=JSON)).json()["keys"]
    assert [one["kind"] for one in rows if one["name"] == "ann@example.org"] == ["person"]


async def test_a_person_has_no_key_to_rotate(gateway: Gateway, provider: OidcProvider) -> None:
    browser = OidcBrowser(gateway)
    await browser.sign_in(provider)
    person = (await (await browser.session()).get("/v1/me")).json()["id"]
    answer = await gateway.post(f"/v1/keys/{person}/rotate", key=gateway.admin, json={})
    answer.problem(409, "is_person")


async def test_nobody_gives_a_person_more_than_the_provider_does(
    gateway: Gateway, provider: OidcProvider
) -> None:
    browser = OidcBrowser(gateway)
    await browser.sign_in(provider)
    path = f"/v1/keys/{(await (await browser.session()).get('/v1/me')).json()['id']}"
    grant = {"actions": ["pull"], "categories": ["**"]}
    for patch, status in (
        ({"grants": [grant]}, 409), ({"roles": ["siem-forwarder"]}, 409), ({"owner": "soc"}, 409),
        ({"name": "other"}, 409), ({"expires_in": "1d"}, 409), ({"purpose": "looks"}, 200),
    ):  # fmt: skip
        state = {"If-Match": (await gateway.get(path, key=gateway.admin)).headers["ETag"]}
        changed = await gateway.request("PATCH", path, key=gateway.admin, json=patch, headers=state)
        assert changed.status == status, (patch, changed.body)
        assert status == 200 or changed.json()["code"] == "is_person"


async def test_who_was_suspended_or_revoked_stays_out(
    gateway: Gateway, provider: OidcProvider
) -> None:
    browser = OidcBrowser(gateway)
    await browser.sign_in(provider)
    session = await browser.session()
    person = (await session.get("/v1/me")).json()["id"]
    for act in ("suspend", "revoke"):
        path = f"/v1/keys/{person}/{act}"
        assert (await gateway.post(path, key=gateway.admin, json={})).status == 200
        assert (await session.get("/v1/me")).status == 401
        again = await OidcBrowser(gateway).sign_in(provider)
        assert (again.status, again.code) == (403, "person_kept_out")


async def test_sign_ins_are_counted(gateway: Gateway, provider: OidcProvider) -> None:
    await OidcBrowser(gateway).sign_in(provider)
    provider.person["groups"] = []
    await OidcBrowser(gateway).sign_in(provider)
    counted = gateway.context.requests.sign_ins
    assert counted == {(BY_OIDC, SIGNED_IN): 1, (BY_OIDC, REFUSED): 1}


async def test_streams_of_a_person_end_when_they_sign_out_also_those_by_ticket(
    gateway: Gateway, provider: OidcProvider
) -> None:
    provider.person["groups"] = ["auditors"]
    browser = OidcBrowser(gateway)
    await browser.sign_in(provider)
    session = await browser.session()
    ticket = (await session.request("POST", "/v1/tickets", json={})).json()["ticket"]
    late = (await session.request("POST", "/v1/tickets", json={})).json()["ticket"]
    stream = await open_stream(gateway, "ndjson", None, ticket=ticket)
    assert (await session.request("DELETE", "/v1/session")).status == 204
    assert (await stream.to_end())["code"] == 4506
    opened = await gateway.get("/v1/stream", key=None, params={"ticket": late})
    opened.problem(401, "session_ended")


# Confirmations


async def confirm(gateway: Gateway) -> None:
    """Have persons confirmed who are due, as a task of the gateway does."""
    context = gateway.context
    assert context.sign_in is not None
    sessions = context.admission.sessions
    await Confirmations(
        context.sign_in, sessions, context.key_store, context.access_log, context.clock
    ).poll()


async def pass_an_hour(get: Get, shifted: ShiftedClock, but: float = 0.0) -> None:
    """An hour in which the person has done something now and then."""
    for _ in range(3):
        shifted.shift += (HOUR - but) / 3
        assert (await get("/v1/me")).status == 200


async def test_the_provider_is_asked_each_hour_and_roles_follow(
    gateway: Gateway, provider: OidcProvider, shifted: ShiftedClock
) -> None:
    browser = OidcBrowser(gateway)
    await browser.sign_in(provider)
    session = await browser.session()
    provider.person["groups"] = ["auditors"]
    await pass_an_hour(session.get, shifted)
    asked = provider.count("/token")
    await confirm(gateway)
    assert provider.count("/token") == asked + 1
    await confirm(gateway)
    assert provider.count("/token") == asked + 1
    await gateway.context.enforcement.poll_keys()
    me = (await session.get("/v1/me")).json()
    assert "keys.admin" not in me["actions"]


@pytest.mark.parametrize("end", ["refused", "no group", "somebody else"])
async def test_a_person_who_is_not_confirmed_is_out_with_all_streams(
    gateway: Gateway, provider: OidcProvider, shifted: ShiftedClock, end: str
) -> None:
    browser = OidcBrowser(gateway)
    provider.person["groups"] = ["auditors"]
    await browser.sign_in(provider)
    session = await browser.session()
    await pass_an_hour(session.get, shifted)
    stream = await open_stream(gateway, "ndjson", None, headers=session.headers)
    if end == "refused":
        provider.refuses = "invalid_grant"
    else:
        provider.person |= {"groups": []} if end == "no group" else {"sub": "u-2"}
    await confirm(gateway)
    assert (await stream.to_end())["code"] == 4506
    (await session.get("/v1/me")).problem(401, "session_ended")


async def test_a_provider_that_is_away_ends_no_session_for_another_hour(
    gateway: Gateway, provider: OidcProvider, shifted: ShiftedClock
) -> None:
    browser = OidcBrowser(gateway)
    await browser.sign_in(provider)
    session = await browser.session()
    provider.refuses = "temporarily_unavailable"
    await pass_an_hour(session.get, shifted)
    await confirm(gateway)
    shifted.shift += 30
    await confirm(gateway)
    assert provider.count("/token") == 2, "it is asked again after a minute"
    await pass_an_hour(session.get, shifted, but=60)
    shifted.shift += 60
    (await session.get("/v1/me")).problem(401, "session_ended")


async def test_without_a_token_for_it_people_sign_in_again_after_an_hour(
    gateway: Gateway, provider: OidcProvider, shifted: ShiftedClock
) -> None:
    provider.gives_refresh = False
    browser = OidcBrowser(gateway)
    await browser.sign_in(provider)
    session = await browser.session()
    for _ in range(2):
        shifted.shift += HOUR / 2 - 5
        assert (await session.get("/v1/me")).status == 200
    shifted.shift += 20
    (await session.get("/v1/me")).problem(401, "session_ended")


async def test_the_store_has_no_token_of_the_provider(
    gateway: Gateway, provider: OidcProvider
) -> None:
    await OidcBrowser(gateway).sign_in(provider)
    notes = await gateway.context.key_store.notes("session")
    assert all(b"refresh-" not in note for note in notes.values())


# What stands around it


@pytest.mark.parametrize("key", ["RS256", "ES256"])
async def test_tokens_of_usual_algorithms_are_taken(
    gateway: Gateway, provider: OidcProvider, key: str
) -> None:
    if key == "ES256":
        provider.key, provider.algorithm = curve_key(), "ES256"
    assert (await OidcBrowser(gateway).sign_in(provider)).status == 303


async def test_unknown_keys_are_not_looked_for_at_each_token(
    gateway: Gateway, provider: OidcProvider
) -> None:
    assert (await OidcBrowser(gateway).sign_in(provider)).status == 303
    provider.key, provider.algorithm = curve_key(), "ES256"
    # Keys were fetched a moment ago.
    assert (await OidcBrowser(gateway).sign_in(provider)).code == "oidc_refused"
    assert provider.count("/jwks") == 1


async def test_without_a_provider_there_is_nothing_to_sign_in_by(start: Start) -> None:
    gateway = await start()
    assert 'name="identity-provider" content=""' in (await OidcBrowser(gateway).get("/")).text
    assert (await OidcBrowser(gateway).get("/v1/session/oidc")).code == "no_provider"


async def test_all_answers_are_in_the_document(
    start: Start, shifted: ShiftedClock, provider: OidcProvider
) -> None:
    limits = {"address_requests_per_second": 1, "address_requests_burst": 12}
    gateway = await start(shifted, console=oidc(provider), limits=limits)
    browser, answered = OidcBrowser(gateway), set()

    def note(name: str, arrived: Arrived) -> Arrived:
        assert str(arrived.status) in DOCUMENT["paths"][NAMED[name]]["get"]["responses"]
        assert arrived.status == 303 or arrived.headers["Content-Type"].startswith("text/html")
        answered.add((name, arrived.status))
        return arrived

    begun = note("begin", await browser.get(BEGIN))
    back = provider.authorize(begun.headers["Location"])
    note("back", await browser.get(back.replace("code=", "code=x&code=")))
    note("back", await browser.get(BACK))
    note("back", await browser.sign_in(provider))
    note("begin", await browser.get(f"{BEGIN}?x=y"))
    provider.person["groups"] = []
    note("back", await browser.sign_in(provider))
    for name, path in NAMED.items():
        rebound = await gateway.get(path, key=None, headers={"Host": "evil.example"})
        note(name, Arrived(rebound.status, rebound.headers, ""))
    provider.refuses = "server_error"
    note("back", await browser.sign_in(provider))
    for name, path in NAMED.items():
        while note(name, await browser.get(path)).status != 429:
            pass
    gateway.context.sign_in = None
    for name, path in NAMED.items():
        note(name, await browser.get(path))
    provided = {name: {303, 400, 403, 404, 429} for name in NAMED}
    provided["back"] |= {401, 503}
    assert answered == {(name, one) for name, statuses in provided.items() for one in statuses}


async def test_people_are_confirmed_on_after_a_failure_of_the_task(
    start: Start, shifted: ShiftedClock, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(monkeypatch)
    gateway = await start(shifted, console=oidc(provider))
    errors = gateway.context.tasks.errors
    broken.once("confirmations")
    await eventually(lambda: errors["confirmations"] == 1)
    assert (await OidcBrowser(gateway).sign_in(provider)).status == 303
