"""Masks on last uses and findings, which repeat records of the gateway. Pure.

Administrators of keys and readers of usage see them without a grant for the records, but
nothing that their grants hide of the records.
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
from gateway.oversight.detection.finding import Finding, FindingAnswer

_ALL = Masks(drop=("actor", "source", "targets", "data.parameters"))
# The highest severity of an access log entry.
_MOST_SEVERE_ACCESS = 3


class _Record(msgspec.Struct, frozen=True):
    """Columns of a record about one key, or about none, for scopes."""

    category: str
    severity: int
    actor: str = ""
    resources: str = ""
    tenant: str = RESERVED
    action: str = ""
    outcome: str = "success"


def masked_last_use(grants: Iterable[Grant], key_id: str, use: dict[str, Any]) -> dict[str, Any]:
    """A last use (`{"at", "address", "client"}`) with the masks of a reader's grants."""
    return masked_data(use, copies_of(access_log_masks(grants, key_id)))


def access_log_masks(grants: Iterable[Grant], key_id: str) -> Masks:
    """Masks of a reader's grants on the access log entries of a key."""
    record = _Record(f"{RESERVED}.access", _MOST_SEVERE_ACCESS, key_id, key_urn(key_id))
    return _hidden(grants, record)


def masked_finding(grants: Iterable[Grant], finding: Finding) -> FindingAnswer:
    """Public form of a finding with the masks of a reader's grants."""
    about = key_urn(finding.key) if finding.key else ""
    record = _Record(f"{RESERVED}.anomaly", finding.severity, resources=about)
    shown, masks = finding.public(), _hidden(grants, record)
    if not masks:
        return shown
    # The id of a finding names whom it is about.
    whose = "targets.urn" if finding.key else "actor.id" if finding.operator else "source.ip"
    shown.data = masked_data(finding.data, masks)
    shown.id = "***" if masks.hides(whose) else finding.id
    members = masked_data(msgspec.to_builtins(shown), copies_of(masks))
    return msgspec.convert({"key": None, **members}, FindingAnswer)


@lru_cache(1024)
def _test_of(scope: Scope) -> Test:
    return scope.compile()


def _hidden(grants: Iterable[Grant], record: _Record) -> Masks:
    """Masks of the grants on a record, whatever their conditions (`when`): it is shown any time."""
    masks = Masks()
    for grant in grants:
        if set(grant.actions).isdisjoint(READING) or not _test_of(grant.scope())(record):
            continue
        if grant.effect == "deny":
            return _ALL
        masks = masks.joined(grant.fields or Masks())
    return masks
