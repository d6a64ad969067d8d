"""ID tokens (OpenID Connect Core 1.0, section 3.1.3.7): which are taken, and which are not. Pure,
but for the library that checks signatures, which is loaded by the first sign-in."""

from __future__ import annotations

import binascii
import hmac
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from gateway.errors import Unauthorized
from gateway.sanitize import clean

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    PublicKey = RSAKey | ECKey | OKPKey

# Signatures by a key that only the provider has; "none" and those with a shared secret are missing
# on purpose.
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519",
)  # fmt: skip
SKEW_SECONDS = 60
MOST_KEYS = 100
_KINDS = ("RSA", "EC", "OKP")
# Of the modulus in base64url: 2048 bits (RFC 7518, section 3.3).
_LEAST_RSA_DIGITS = 342
_LONGEST_TOKEN = 64 * 1024
_LONGEST_HEADER = 8 * 1024
_LONGEST_SUBJECT = 255

Claims = dict[str, Any]


class UnknownKey(Exception):
    """No key of the provider, as far as they are known, has made the signature."""


class Expected(NamedTuple):
    """What a token has to say: who made it, for whom, and in answer to what (None: that is not
    asked, as for tokens of a confirmation)."""

    issuer: str
    client_id: str
    nonce: str | None


class ProviderKey(NamedTuple):
    """A public key of the provider, for signatures. `kid` is "" where it has no name."""

    kid: str
    algorithm: str
    key: PublicKey


def provider_keys(document: bytes) -> tuple[ProviderKey, ...]:
    """The keys in a JWK set (RFC 7517) that may sign tokens; others are left out."""
    try:
        listed = msgspec.json.decode(document)["keys"][:MOST_KEYS]
    except (msgspec.DecodeError, TypeError, KeyError) as error:
        raise refused("the provider's keys cannot be read") from error
    found = (_provider_key(one) for one in listed if isinstance(one, dict))
    return tuple(one for one in found if one is not None)


def _provider_key(members: Mapping[str, Any]) -> ProviderKey | None:
    from joserfc.errors import JoseError
    from joserfc.jwk import OctKey, import_key

    if members.get("kty") not in _KINDS or members.get("use", "sig") != "sig":
        return None
    kid, algorithm = members.get("kid", ""), members.get("alg", "")
    if not isinstance(kid, str) or not isinstance(algorithm, str):
        return None
    if members["kty"] == "RSA" and len(str(members.get("n"))) < _LEAST_RSA_DIGITS:
        return None
    try:
        key = import_key(dict(members))
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return None if isinstance(key, OctKey) else ProviderKey(kid, algorithm, key)


def verified(token: object, keys: Iterable[ProviderKey], expected: Expected, now: float) -> Claims:
    """Claims of an ID token. Raises `UnknownKey`, or `Unauthorized` with what is wrong."""
    if not isinstance(token, str) or not token.isascii() or len(token) > _LONGEST_TOKEN:
        raise refused("there is no ID token")
    header = _header(token)
    algorithm, kid = header.get("alg"), header.get("kid", "")
    if algorithm not in ALGORITHMS:
        raise refused(f"its algorithm {_shown(algorithm)} is not allowed")
    if "crit" in header:
        raise refused("its header has extensions that are not known")
    fitting = [one for one in keys if kid in ("", one.kid) and one.algorithm in ("", algorithm)]
    claims = next(filter(None, (_signed(token, one, str(algorithm)) for one in fitting)), None)
    if claims is None:
        raise UnknownKey
    check_claims(claims, expected, now)
    return claims


def _header(token: str) -> dict[str, Any]:
    text = token.partition(".")[0]
    try:
        padded = text + "=" * (-len(text) % 4)
        header = msgspec.json.decode(binascii.a2b_base64(padded.translate(_STANDARD)))
    except (ValueError, msgspec.DecodeError):
        header = None
    if not isinstance(header, dict) or len(text) > _LONGEST_HEADER:
        raise refused("it has no readable header")
    return header


# From the letters of base64url to those of base64.
_STANDARD = str.maketrans("-_", "+/")


def _signed(token: str, key: ProviderKey, algorithm: str) -> Claims | None:
    """Claims of the token, if that key has signed it."""
    from joserfc.errors import JoseError
    from joserfc.jws import JWSRegistry, deserialize_compact

    registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    registry.max_header_length = _LONGEST_HEADER
    try:
        payload = deserialize_compact(token, key.key, registry=registry).payload
        claims = msgspec.json.decode(payload)
    except (JoseError, ValueError, TypeError, msgspec.DecodeError):
        return None
    return claims if isinstance(claims, dict) else None


def check_claims(claims: Claims, expected: Expected, now: float) -> None:
    """Raise unless the claims are of that provider, for this client, of now."""
    if claims.get("iss") != expected.issuer:
        raise refused("another provider has made it (iss)")
    audience = claims.get("aud")
    several = isinstance(audience, list) and len(audience) > 1
    if expected.client_id not in (audience if isinstance(audience, list) else [audience]):
        raise refused("it is for another client (aud)")
    if (several or "azp" in claims) and claims.get("azp") != expected.client_id:
        raise refused("it was made for another client (azp)")
    if expected.nonce is not None and not _equal(claims.get("nonce"), expected.nonce):
        raise refused("it is not the answer to this sign-in (nonce)")
    if not _moment(claims, "exp") > now - SKEW_SECONDS:
        raise refused("it has expired (exp)")
    if not _moment(claims, "iat") <= now + SKEW_SECONDS:
        raise refused("it was made in the future (iat)")
    if "nbf" in claims and not _moment(claims, "nbf") <= now + SKEW_SECONDS:
        raise refused("it is not valid yet (nbf)")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT:
        raise refused("it names nobody (sub)")


def refused(why: str) -> Unauthorized:
    """Error for what the provider has sent, and is not taken."""
    return Unauthorized(
        f"the answer of the identity provider is refused: {why}", code="oidc_refused"
    )


def _moment(claims: Claims, name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(f"it does not say {name}")
    return value


def _equal(sent: object, wanted: str) -> bool:
    return isinstance(sent, str) and hmac.compare_digest(sent.encode(), wanted.encode())


def _shown(value: object) -> str:
    return clean(str(value), 32)
