"""Entity tags of keys, and the preconditions of patches (RFC 9110 and 7396)."""

from __future__ import annotations

import re
from collections.abc import Callable

from aiohttp import web

from gateway.access.keys.key import Key
from gateway.errors import InvalidRequest, PreconditionFailed, PreconditionRequired

# RFC 7396, section 4; and what most clients of JSON can send.
PATCH_TYPES = ("application/merge-patch+json", "application/json")
_TAGS = re.compile(r'\s*(?:W/)?"[^"]*"\s*(?:,\s*(?:W/)?"[^"]*"\s*)*', re.ASCII)
_TAG = re.compile(r'(?:W/)?"[^"]*"', re.ASCII)


def etag(key: Key) -> str:
    """Entity tag of a key as stored: each change of it gives another one."""
    return f'"{key.revision}"'


def required_match(request: web.Request) -> Callable[[Key], None]:
    """Check of the header `If-Match` against the stored key. Raises `PreconditionRequired` for a
    request without it, and the check `PreconditionFailed` for a key that is another by now."""
    sent = request.headers.getall("If-Match", [])
    if not sent:
        raise PreconditionRequired(
            "say which state of the key you change: send its `ETag` of GET /v1/keys/{id} as "
            "`If-Match`, so that nobody's change is undone unseen"
        )
    wanted = ", ".join(sent)
    if wanted.strip() != "*" and not _TAGS.fullmatch(wanted):
        raise InvalidRequest('If-Match: entity tags are needed, such as "12", or *')

    def check(key: Key) -> None:
        # Compared strongly: a weak tag matches nothing.
        if wanted.strip() != "*" and etag(key) not in _TAG.findall(wanted):
            raise PreconditionFailed(
                f"the key was changed meanwhile, last by {key.changed_by} ({key.change}): look at "
                f"it again, and send {etag(key)} as If-Match if the change is still right",
                etag=etag(key),
            )

    return check
