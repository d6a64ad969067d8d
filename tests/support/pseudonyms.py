"""Secrets and domains of pseudonyms for tests."""

from __future__ import annotations

from gateway.access.grants.mask import Masks
from gateway.access.grants.pseudonym import PseudonymDomain, PseudonymSecrets, SecretVersion
from gateway.clock import parse_rfc3339

SECRET = bytes(range(32))
# The second version begins then.
ROTATED_AT = "2026-01-31T12:00:05.000000Z"
SECRETS = PseudonymSecrets.of([SecretVersion(1, 0, SECRET)]).rotated(
    SECRET[::-1], parse_rfc3339(ROTATED_AT)
)
DOMAIN = PseudonymDomain("siem", SECRETS)


def named(*paths: str, mask: tuple[str, ...] = (), drop: tuple[str, ...] = ()) -> Masks:
    """Masks with pseudonyms of `DOMAIN` at these paths."""
    return Masks(mask, drop, paths).within(DOMAIN)


def pseudonym(space: str, value: str, tenant: str = "default", at: str = "") -> str:
    """Pseudonym of a value in `DOMAIN`, of an event recorded at a time, or before the rotation."""
    made = DOMAIN.at(parse_rfc3339(at) if at else 0)
    assert made is not None
    return made.of(space, tenant, value)
