"""The first key, which is made at the first start to make others with."""

from __future__ import annotations

from gateway.access.grants.grant import parse_grant
from gateway.access.keys.issuance import new_key
from gateway.http.request.context import Context

_ADMIN_GRANT = {
    "id": "everything",
    "actions": [
        "stream",
        "pull",
        "ingest",
        "keys.admin",
        "usage.read",
        "ops.read",
        "ops.act",
        "destinations.admin",
        "pseudonyms.resolve",
    ],
    "categories": ["**", "gateway.**"],
}


async def make_first_key(context: Context) -> str | None:
    """Make a key that may do everything and return its token; None if any key exists."""
    key, token = new_key(
        name="first admin key",
        purpose="administration, made at the first start",
        owner="whoever started the gateway",
        grants=(parse_grant(_ADMIN_GRANT),),
        now=context.clock.now(),
        life=context.settings.keys.default_life or context.settings.keys.max_life,
        pepper=context.keyring.peppers.current.secret,
    )
    if not await context.key_store.create_first(key):
        return None
    await context.enforcement.poll()
    return token
