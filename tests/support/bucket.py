"""Bucket of S3 in memory, with the rules that the type `s3` relies on; signatures are checked."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime
from typing import NamedTuple

from gateway.delivery.connect.aws_signature import AwsCredentials, signed_headers
from tests.support.scripted_receiver import Received, Reply

SECRET_KEY = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
_SIGNED = re.compile(r"Credential=(\S+?)/.*SignedHeaders=(\S+), Signature=([0-9a-f]{64})$")
_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"


def error(status: int, code: str, message: str = "because") -> Reply:
    """Answer with an error of S3."""
    return Reply(status, _ERROR.format(code, message).encode(), {"Content-Type": "application/xml"})


class _Object(NamedTuple):
    body: bytes
    digest: str


class Bucket:
    """Objects by their names, and in which order they were put."""

    def __init__(self, secret_key: str = SECRET_KEY) -> None:
        self._secret_key = secret_key
        self.objects: dict[str, _Object] = {}
        self.puts: list[str] = []

    def answer(self, received: Received) -> Reply:
        """What S3 answers."""
        if not _is_signed(received, self._secret_key):
            return error(403, "SignatureDoesNotMatch")
        bucket, _, key = received.target.lstrip("/").partition("/")
        if bucket != "audit":
            return error(404, "NoSuchBucket")
        if received.method == "PUT":
            return self._put(key, received)
        found = self.objects.get(key)
        if found is None:
            return Reply(404) if received.method == "HEAD" else error(404, "NoSuchKey")
        headers = {"x-amz-meta-content-sha256": found.digest, "ETag": '"x"'}
        if received.method == "HEAD":
            return Reply(200, b"", {**headers, "Content-Length": "0"})
        return Reply(200, found.body, headers)

    def _put(self, key: str, received: Received) -> Reply:
        body, headers = received.body, received.headers
        if headers["content-md5"] != base64.b64encode(hashlib.md5(body).digest()).decode():
            return error(400, "BadDigest")
        sha256 = hashlib.sha256(body)
        if headers["x-amz-checksum-sha256"] != base64.b64encode(sha256.digest()).decode():
            return error(400, "BadDigest")
        if headers["x-amz-content-sha256"] != sha256.hexdigest():
            return error(400, "XAmzContentSHA256Mismatch")
        if headers.get("if-none-match") == "*" and key in self.objects:
            return error(412, "PreconditionFailed")
        self.objects[key] = _Object(body, headers.get("x-amz-meta-content-sha256", ""))
        self.puts.append(key)
        return Reply(200, b"", {"ETag": '"x"'})


def _is_signed(received: Received, secret_key: str) -> bool:
    found = _SIGNED.search(received.headers.get("authorization", ""))
    if found is None or found[1] != "AKID":
        return False
    headers = received.headers
    made = ("host", "x-amz-date", "x-amz-content-sha256")
    names = [name for name in found[2].split(";") if name not in made]
    at = datetime.strptime(headers["x-amz-date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
    again = signed_headers(
        received.method,
        f"http://{headers['host']}{received.target}",
        {name: headers[name] for name in names},
        headers["x-amz-content-sha256"],
        AwsCredentials("AKID", secret_key),
        at.timestamp(),
    )
    return again["Authorization"] == headers["authorization"]
