"""Signature of requests to S3 and its like, version 4 of AWS. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

_UNRESERVED = "-_.~"


class AwsCredentials(NamedTuple):
    """Access key, and what belongs to it."""

    access_key: str
    secret_key: str
    session_token: str = ""
    region: str = "us-east-1"


def signed_headers(
    method: str,
    url: str,
    headers: Mapping[str, str],
    payload_sha256: str,
    credentials: AwsCredentials,
    now: float,
) -> dict[str, str]:
    """The headers, and those that sign all of them."""
    parts = urlsplit(url)
    at = datetime.fromtimestamp(int(now), UTC)
    moment, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
    signed = {**headers, "x-amz-date": moment, "x-amz-content-sha256": payload_sha256}
    if credentials.session_token:
        signed["x-amz-security-token"] = credentials.session_token
    lower = {name.lower(): " ".join(value.split()) for name, value in signed.items()}
    lower["host"] = parts.netloc
    names = ";".join(sorted(lower))
    query = sorted(
        f"{quote(name, safe=_UNRESERVED)}={quote(value, safe=_UNRESERVED)}"
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    )
    canonical = "\n".join([
        method, quote(unquote(parts.path or "/"), safe="/" + _UNRESERVED), "&".join(query),
        *(f"{name}:{lower[name]}" for name in sorted(lower)), "", names, payload_sha256,
    ])  # fmt: skip
    scope = f"{day}/{credentials.region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    signed["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return signed
