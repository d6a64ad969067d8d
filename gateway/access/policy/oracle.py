"""Keys that could have guesses pseudonymized, and so reverse pseudonyms. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.access.grants.grant import Grant
from gateway.errors import InvalidRequest
from gateway.filters.overlap import common_pattern
from gateway.filters.pattern import ANY
from gateway.filters.scope import SEPARATORS

_READING = frozenset(("stream", "pull"))


def oracle_tenant(grants: Iterable[Grant]) -> str | None:
    """Pattern of tenants whose events the grants let a key send, and read pseudonymized; None if
    there is none."""
    allowing = [grant for grant in grants if grant.effect == "allow"]
    reading = [
        grant
        for grant in allowing
        if grant.fields is not None
        and grant.fields.pseudonymize
        and not _READING.isdisjoint(grant.actions)
    ]
    if not reading:
        return None
    sending = [grant for grant in allowing if "ingest" in grant.actions]
    for sent, read in ((sent, read) for sent in sending for read in reading):
        for one in sent.tenants or (ANY,):
            for other in read.tenants or (ANY,):
                common = common_pattern(one, other, SEPARATORS["tenant"])
                if common is not None:
                    return common
    return None


def refuse_oracle(grants: Iterable[Grant], whose: str) -> None:
    """Raise if a key with these grants could have its guesses pseudonymized."""
    tenant = oracle_tenant(grants)
    if tenant is not None:
        raise InvalidRequest(
            f"{whose} could send events of the tenant {tenant} and read them pseudonymized, and so "
            "find out by guesses whom a pseudonym stands for; use two keys, or mask the members",
            code="pseudonym_oracle",
            tenant=tenant,
        )
