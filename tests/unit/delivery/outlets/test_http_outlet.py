"""Destinations of the type `http`: bodies, credentials, signatures and answers."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from gateway.delivery.connect.transport import RemoteAnswer
from gateway.delivery.connect.webhook_signature import message_id, signing_key
from gateway.delivery.outlets.http import HTTP, judge
from gateway.delivery.outlets.outlet import DeliveryResult
from gateway.delivery.outlets.outlet_plan import NATIVE, NativeFormat
from gateway.errors import InvalidRequest
from tests.support.cases import every
from tests.support.outlets import HTTP_CASES, HttpCase, batch_of, connected, new_outlet
from tests.support.scripted_receiver import Received

SUCCESS, TRANSIENT, PERMANENT, CONFIG = DeliveryResult
CASE = HTTP_CASES["http"]
OLD, NEW = (f"whsec_{base64.b64encode(bytes([value] * 32)).decode()}" for value in (1, 2))
CLOUDEVENTS = NativeFormat("cloudevents")


@every([
    (200, SUCCESS), (201, SUCCESS), (202, SUCCESS), (204, SUCCESS), (299, SUCCESS),
    (301, CONFIG), (302, CONFIG), (307, CONFIG), (308, CONFIG), (304, CONFIG),
    (400, PERMANENT), (409, PERMANENT), (413, PERMANENT), (415, PERMANENT), (422, PERMANENT),
    (401, CONFIG), (402, CONFIG), (403, CONFIG), (404, CONFIG), (405, CONFIG), (407, CONFIG),
    (410, CONFIG), (418, CONFIG), (451, CONFIG),
    (408, TRANSIENT), (425, TRANSIENT), (429, TRANSIENT), (500, TRANSIENT), (501, TRANSIENT),
    (502, TRANSIENT), (503, TRANSIENT), (504, TRANSIENT), (529, TRANSIENT),
])  # fmt: skip
def test_every_status_has_its_result(case: tuple[int, DeliveryResult]) -> None:
    status, result = case
    verdict = judge(RemoteAnswer(status, {}, b"because"))
    assert (verdict.result, verdict.status) == (result, status)
    assert verdict.message == ("" if result is SUCCESS else "because")
    assert verdict.gone == (status == 410)


async def sent_bodies(count: int = 3, **parts: Any) -> list[Any]:
    async with connected(CASE, **parts) as (outlet, receiver):
        assert (await outlet.send(batch_of(outlet, count))).result is SUCCESS
        return receiver.received


async def test_bodies_have_the_form_and_the_type_that_were_chosen() -> None:
    async with connected(CASE) as (outlet, _):
        events = [encoded.outbound.json for encoded in batch_of(outlet)]
    for body, format, kind, whole in (
        ("ndjson", NATIVE, "application/x-ndjson", b"\n".join(events) + b"\n"),
        ("ndjson", NativeFormat("cef", False), "text/plain; charset=utf-8", None),
        ("json_array", NATIVE, "application/json", b"[" + b",".join(events) + b"]"),
        ("cloudevents_batch", CLOUDEVENTS, "application/cloudevents-batch+json", None),
    ):
        [received] = await sent_bodies(settings={"body": body}, format=format)
        assert received.method == "POST"
        assert received.headers["content-type"] == kind
        assert whole is None or received.body == whole
        if body != "ndjson":
            assert len(orjson.loads(received.body)) == 3


async def test_a_batch_that_was_prepared_is_sent_as_it_would_be_otherwise() -> None:
    for case in ("http", "elasticsearch", "splunk_hec", "otlp", "loki"):
        await check_prepared(HTTP_CASES[case])


async def check_prepared(case: HttpCase) -> None:
    async with connected(case) as (outlet, receiver):
        few, many = batch_of(outlet, 3), batch_of(outlet, 400)
        for batch in (few, many):
            assert (await outlet.send(batch)).result is SUCCESS
            outlet.stage(batch)
            assert (await outlet.send(batch)).result is SUCCESS
        # And no batch instead of another, as after a refusal parts of one come first.
        outlet.stage(many)
        assert (await outlet.send(few)).result is SUCCESS
        assert (await outlet.send(many)).result is SUCCESS
    bodies = [one.body for one in receiver.received]
    assert len(bodies[2]) > 64 << 10
    assert bodies == [bodies[0], bodies[0], bodies[2], bodies[2], bodies[0], bodies[2]]


async def test_an_outlet_that_is_closed_waits_for_what_is_being_prepared() -> None:
    async with connected(CASE) as (outlet, receiver):
        outlet.stage(batch_of(outlet, 400))
    assert receiver.received == []


async def test_cloudevents_go_one_by_one() -> None:
    parts = {"settings": {"body": "cloudevents"}, "format": CLOUDEVENTS}
    async with connected(CASE, **parts) as (outlet, _):
        assert outlet.limits.max_events == 1
    [received] = await sent_bodies(1, **parts)
    assert received.headers["content-type"] == "application/cloudevents+json"
    assert orjson.loads(received.body)["id"] == "e-1"


async def test_credentials_are_sent_as_they_were_given() -> None:
    headers = {"X-Source": "audit"}
    for settings, secrets, name, value in (
        ({}, {"token": ["abc"]}, "authorization", "Bearer abc"),
        ({"user": "ann"}, {"password": ["pw"]}, "authorization", "Basic YW5uOnB3"),
        ({"token_header": "X-Api-Key"}, {"token": ["abc"]}, "x-api-key", "abc"),
        ({}, {}, "authorization", None),
    ):
        settings = {"headers": headers, **settings}
        [received] = await sent_bodies(settings=settings, secrets=secrets)
        assert received.headers.get(name) == value
        assert received.headers["x-source"] == "audit"


def _verify(receiver: Webhook, received: Received) -> None:
    receiver.verify(received.body, dict(received.headers), json_parse=False)


async def test_signatures_are_those_of_standard_webhooks_and_both_secrets_sign_meanwhile() -> None:
    for secrets, valid in (([NEW], [NEW]), ([NEW, OLD], [NEW, OLD])):
        [received] = await sent_bodies(secrets={"signing": secrets})
        for secret in (NEW, OLD):
            receiver = Webhook(secret)
            if secret in valid:
                _verify(receiver, received)
            else:
                with pytest.raises(WebhookVerificationError):
                    _verify(receiver, received)


async def test_a_changed_body_is_not_signed() -> None:
    [received] = await sent_bodies(secrets={"signing": [NEW]})
    with pytest.raises(WebhookVerificationError):
        _verify(Webhook(NEW), received._replace(body=received.body + b" "))


async def test_a_request_that_is_repeated_has_the_same_id() -> None:
    secrets = {"signing": [NEW]}
    first, again = [(await sent_bodies(secrets=secrets))[0].headers["webhook-id"] for _ in "12"]
    [single] = await sent_bodies(1, secrets=secrets)
    assert first == again
    assert first.startswith("bat_")
    assert single.headers["webhook-id"].startswith("evt_")
    assert message_id(["a", "b"]) != message_id(["ab"]) != message_id(["a"])


async def test_a_signing_secret_that_is_none_is_of_the_configuration_and_not_shown() -> None:
    async with connected(CASE, secrets={"signing": ["hunter2hunter2"]}) as (outlet, receiver):
        verdict = await outlet.send(batch_of(outlet))
        assert (verdict.result, verdict.kind) == (CONFIG, "secret")
        assert "hunter2" not in repr(verdict)
        assert receiver.connections == 0


@every([
    "", "whsec_", "whsec_!!!!", "whsec_" + base64.b64encode(b"x" * 23).decode(),
    "whsec_" + base64.b64encode(b"x" * 65).decode(), base64.b64encode(b"x" * 32).decode(),
])  # fmt: skip
def test_secrets_that_are_none_of_standard_webhooks_are_refused(secret: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^secrets\.signing: "):
        signing_key(secret)


@every([
    {"headers": {"Content-Type": "text/csv"}}, {"headers": {"authorization": "Bearer x"}},
    {"headers": {"Host": "evil"}}, {"headers": {"Proxy-Authorization": "x"}},
    {"headers": {"a b": "x"}}, {"headers": {"X-A": "x\r\nX-B: y"}}, {"headers": {"X-A": ""}},
    {"headers": {f"X-{n}": "x" for n in range(33)}}, {"user": "a:b"},
    {"token_header": "Content-Length"}, {"body": "cloudevents"}, {"body": "cloudevents_batch"},
])  # fmt: skip
def test_settings_that_cannot_be_sent_are_refused_with_their_path(settings: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        new_outlet(HTTP, {"url": "https://siem.example.org/", **settings})
    path = refused.value.members["path"]
    assert refused.value.detail.startswith(f"{path}: ")
    assert path.split(".")[1] in settings


def test_a_json_array_holds_json_only() -> None:
    settings = {"url": "https://siem.example.org/", "body": "json_array"}
    with pytest.raises(InvalidRequest, match="cef is no JSON"):
        new_outlet(HTTP, settings, format=NativeFormat("cef", False))
