"""CloudEvents in binary mode: attributes in headers, data of any type in the body."""

from __future__ import annotations

import json

import pytest
from cloudevents.core.bindings.http import to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.ingest.sources.binary_cloudevents import structured

NEEDED = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t"}


def made(body: bytes = b"", kind: str | None = None, **headers: str) -> dict[str, object]:
    sent = {**NEEDED, **{name.replace("_", "-"): value for name, value in headers.items()}}
    event: dict[str, object] = json.loads(structured(sent.items(), kind, body))
    return event


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("plain", "plain"),
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("%22quoted%22", '"quoted"'),
        ('"with \\"space\\" in it"', 'with "space" in it'),
        ("100%25", "100%"),
        ("%2525", "%25"),
        ("50% off", "50% off"),
        ("caf\u00e9", "caf\u00e9"),
    ],
)
def test_header_values_are_unquoted_and_percent_decoded_once(sent: str, meant: str) -> None:
    assert made(ce_subject=sent)["subject"] == meant


@pytest.mark.parametrize(
    ("header", "value", "says"),
    [
        ("ce-subject", "%C0%A0", "not UTF-8"),
        ("ce-subject", "%ED%A0%80", "not UTF-8"),
        ("ce-subject", "\udc80", "not UTF-8"),
        ("ce-subject", "a%0D%0Ace-tenant: evil", "control characters"),
        ("ce-subject", "%00", "control characters"),
        ("ce-Sub_ject", "a", "no attribute"),
        ("ce-", "a", "no attribute"),
        ("ce-" + "x" * 65, "a", "no attribute"),
        ("ce-data", "{}", "no attribute"),
        ("ce-data_base64", "{}", "no attribute"),
        ("ce-datacontenttype", "text/plain", "no attribute"),
        ("CE-ID", "2", "sent twice"),
    ],
)
def test_headers_that_are_no_attributes_are_refused(header: str, value: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        structured([*NEEDED.items(), (header, value)], None, b"")


@pytest.mark.parametrize(
    ("kind", "body", "meant"),
    [
        ("application/json", b'{"n":1.50}', {"data": {"n": 1.5}}),
        ("application/json; charset=utf-8", b" [1,\n2] ", {"data": [1, 2]}),
        ("application/vnd.x+json", b"null", {"data": None}),
        (None, b'"text"', {"data": "text"}),
        (None, b"\xff\x00", {"data_base64": "/wA="}),
        ("text/plain", "é".encode(), {"data": "é"}),
        ("text/plain", b"\xe9", {"data_base64": "6Q=="}),
        ("image/png", b"{}", {"data_base64": "e30="}),
        ("application/json", b"", {}),
    ],
)
def test_data_of_any_type_is_kept(kind: str | None, body: bytes, meant: object) -> None:
    event = made(body, kind)
    assert event.get("datacontenttype") == kind
    assert {
        name: event[name] for name in event if name.startswith("data") and "type" not in name
    } == meant


@pytest.mark.parametrize("body", [b'1,"tenant":"evil"', b"{", b"{}}", b"\xff"])
def test_a_body_that_is_not_the_json_it_says_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not JSON"):
        made(body, "application/json")


def test_numbers_keep_their_digits() -> None:
    assert b'"data":{"n":1.50}' in structured(NEEDED.items(), "application/json", b'{"n":1.50}')


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40))
def test_what_the_sdk_encodes_is_decoded(text: str) -> None:
    attributes = {"id": "1", "source": "s", "type": "t", "specversion": "1.0", "subject": text}
    message = to_binary(CloudEvent(attributes, None), JSONFormat())
    assert json.loads(structured(message.headers.items(), None, b""))["subject"] == text
