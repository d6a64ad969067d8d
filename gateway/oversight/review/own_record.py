"""Visibility of what repeats the gateway's own records: last uses, findings. Pure.

Who administers keys or reads their usage is told without a grant to read the
records. But what grants hide of the records from a reader is not shown there
either.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from gateway.access.grants.grant import Grant
from gateway.access.grants.mask import Masks, copies_of, masked_data
from gateway.access.keys.change import key_urn
from gateway.filters.scope import RESERVED, Scope, Test
from gateway.oversight.access_log.past_access import READING
from gateway.oversight.detection.finding import Finding

_ALL = Masks(drop=("actor", "source", "targets"))
# No record of a use is more severe.
_MOST_SEVERE_USE = 3


class _Record(msgspec.Struct, frozen=True):
    """Columns of a record about one key, or about none, for scopes."""

    category: str
    severity: int
    actor: str = ""
    resources: str = ""
    tenant: str = RESERVED
    action: str = ""
    outcome: str = "success"


def use_seen(grants: Iterable[Grant], key_id: str, use: dict[str, Any]) -> dict[str, Any]:
    """A last use (`{"at", "address", "client"}`) as it is shown to a reader with these grants."""
    return masked_data(use, copies_of(hidden_of_uses(grants, key_id)))


def hidden_of_uses(grants: Iterable[Grant], key_id: str) -> Masks:
    """Masks that the grants of a reader put on the records of a key's uses."""
    record = _Record(f"{RESERVED}.access", _MOST_SEVERE_USE, key_id, key_urn(key_id))
    return _hidden(grants, record)


def finding_seen(grants: Iterable[Grant], finding: Finding) -> dict[str, Any]:
    """A finding as the interface shows it to a reader with these grants."""
    about = key_urn(finding.key) if finding.key else ""
    record = _Record(f"{RESERVED}.anomaly", finding.severity, resources=about)
    shown, masks = finding.public(), _hidden(grants, record)
    if not masks:
        return shown
    shown["data"] = masked_data(finding.data, masks)
    shown = {"key": None, **masked_data(shown, copies_of(masks))}
    # Its id holds whom it is about.
    whose = "targets.urn" if finding.key else "actor.id" if finding.operator else "source.ip"
    if masks.hides(whose):
        shown["id"] = "***"
    return shown


@lru_cache(1024)
def _test_of(scope: Scope) -> Test:
    return scope.compile()


def _hidden(grants: Iterable[Grant], record: _Record) -> Masks:
    """Hours, networks and how far back the grants reach do not matter: it is told at any time."""
    masks = Masks()
    for grant in grants:
        if set(grant.actions).isdisjoint(READING) or not _test_of(grant.scope())(record):
            continue
        if grant.effect == "deny":
            return _ALL
        masks = masks.joined(grant.fields or Masks())
    return masks
