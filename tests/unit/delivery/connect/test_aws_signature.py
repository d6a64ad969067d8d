"""Signatures of requests to S3, compared with those of botocore."""

from __future__ import annotations

import datetime as clock
from typing import Any

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from gateway.delivery.connect.aws_signature import AwsCredentials, signed_headers
from tests.support.cases import check_each

NOW = 1_795_946_400.0
PAYLOAD = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_signatures_are_those_of_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    at = clock.datetime.fromtimestamp(NOW, clock.UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda **_: at.replace(tzinfo=None))

    def check(case: tuple[str, str, str, dict[str, str], str]) -> None:
        method, sent, encoded, headers, token = case
        hashed = {**headers, "X-Amz-Content-SHA256": PAYLOAD}
        request: Any = AWSRequest(method, encoded, headers=hashed)
        request.context["payload_signing_enabled"] = False
        request.context["signing"] = {}
        theirs = _Signer(Credentials("AKID", "secret/+key", token or None), "s3", "eu-central-1")
        theirs.add_auth(request)
        credentials = AwsCredentials("AKID", "secret/+key", token, "eu-central-1")
        ours = signed_headers(method, sent, headers, PAYLOAD, credentials, NOW)
        assert ours["Authorization"] == request.headers["Authorization"]
        assert ours["x-amz-date"] == request.headers["X-Amz-Date"]
        assert ours.get("x-amz-security-token") == request.headers.get("X-Amz-Security-Token")

    host = "https://s3.example.org"
    key, encoded_key = "/b/p/dt=2026-01-31/hour=12/a-1-2", "/b/p/dt%3D2026-01-31/hour%3D12/a-1-2"
    listing = "/b?list-type=2&prefix=a%2Fb"
    md5 = {"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg==", "If-None-Match": "*"}
    check_each(
        [
            ("GET", host + key, host + encoded_key, {}, ""),
            ("HEAD", host + key, host + encoded_key, {}, "token"),
            ("PUT", host + key, host + encoded_key, md5, ""),
            ("PUT", host + ":9000" + key, host + ":9000" + encoded_key, md5, ""),
            ("GET", host + listing, host + listing, {}, ""),
            ("GET", host, host + "/", {"x-amz-meta-a": "two  blanks"}, ""),
        ],
        check,
    )


class _Signer(S3SigV4Auth):
    """Signs the digest that stands in the header, as for a body that is not at hand."""

    def payload(self, request: Any) -> str:
        return PAYLOAD
