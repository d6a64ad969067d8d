"""Settings of the formats of events."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.settings.kinds import BOOLEAN, INTEGER, TEXT, setting


def _check_prefix(prefix: str) -> str:
    if prefix and not re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.?", prefix):
        raise ValueError('must be a name in reverse DNS order, such as "org.example"')
    return prefix


def _check_source(source: str) -> str:
    if not re.fullmatch(r"[!-~]+", source) or re.search(r'[<>"{}|\\^`]', source):
        raise ValueError("must be the beginning of a URI, such as urn:audit-gateway:")
    return source


def _check_hostname(name: str) -> str:
    if not re.fullmatch(r"[!-~]{0,255}", name):
        raise ValueError("must be at most 255 printable ASCII characters without spaces")
    return name


@dataclass(frozen=True)
class FormatSettings:
    """Choices within the formats other than native; see deploy/formats.md."""

    type_prefix: str = setting(
        "",
        TEXT,
        'CloudEvents: what stands in front of the type of events, such as "org.example".',
        check=_check_prefix,
    )
    source: str = setting(
        "urn:audit-gateway:",
        TEXT,
        "CloudEvents: what stands in front of the tenant in the source of events.",
        check=_check_source,
    )
    unmapped: str = setting(
        "full",
        TEXT,
        "OCSF: what `unmapped` holds: full, the native event; rest, its members without a place of "
        "their own; none, its cursor.",
        choices=("full", "rest", "none"),
    )
    original: bool = setting(
        False, BOOLEAN, "ECS: whether `event.original` holds the native event as text."
    )
    enterprise_id: int = setting(
        32473,
        INTEGER,
        "RFC 5424: your private enterprise number, in the id of the structured data; 32473 is the "
        "one for documentation.",
        least=(1, "0 is reserved"),
        most=(2**32 - 1, "numbers have 32 bits"),
    )
    hostname: str = setting(
        "",
        TEXT,
        "RFC 5424: the name of the host in messages; empty is that of the machine.",
        check=_check_hostname,
    )
