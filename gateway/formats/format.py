"""Format of events, and what users decide about formats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

# Number for documentation (RFC 5612).
DOCUMENTATION_ENTERPRISE = 32473

Unmapped = Literal["full", "rest", "none"]


class FormatOptions(msgspec.Struct, frozen=True):
    """Choices within formats.

    `type_prefix` stands in front of the types of CloudEvents, `source` in front of the tenant in
    their source. `unmapped` is how much of the native event OCSF carries beside its own members,
    `original` whether ECS carries it whole. `enterprise_id` and `hostname` are those of RFC 5424.
    """

    type_prefix: str = ""
    source: str = "urn:audit-gateway:"
    unmapped: Unmapped = "full"
    original: bool = False
    enterprise_id: int = DOCUMENTATION_ENTERPRISE
    hostname: str = "-"


class Format(msgspec.Struct, frozen=True, eq=False):
    """Function from the native JSON of a masked event to its bytes in another standard.

    The bytes stand on one line, and are equal for equal events. It fails for no valid event, masked
    or pseudonymised ones included, and knows nothing but what it is given: what a mask hides is not
    there. Slots of a type (address, port, enumeration) hold only values of it, and are left out
    otherwise. `json`: whether the bytes are a JSON object; else they are text in UTF-8.
    """

    name: str
    json: bool
    encode: Callable[[bytes], bytes]
