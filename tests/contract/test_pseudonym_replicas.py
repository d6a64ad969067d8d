"""All processes on one store have the same pseudonyms, whoever made the secret of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.access.administration.administration import Administration
from gateway.access.administration.caller import CommandLine
from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.access.grants.mask import domain_of
from gateway.access.keyring import Keyring
from gateway.access.keys.issuance import parse_key_request
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import KeyStore
from gateway.access.keys.operator import Operator
from gateway.access.policy.decision import Allowed
from gateway.scheduling.loop_work import LoopWork
from gateway.settings.declarations import KeySettings

Connect = Callable[[], Awaitable[KeyStore]]
PEPPERS = Peppers((Pepper(b"p" * 32),))
BODY = {
    "name": "n", "purpose": "p", "owner": "o", "expires_in": "1h", "pseudonym_domain": "siem",
    "grants": [{"actions": ["pull"], "categories": ["**"],
                "fields": {"pseudonymize": ["actor.id"]}}],
}  # fmt: skip


def administration(keys: KeyStore, clock: Any) -> Administration:
    async def pepper() -> bytes:
        return PEPPERS.current.secret

    caller, slices = CommandLine(Operator("somebody")), LoopWork(clock).slices("")
    return Administration(caller, keys, clock, KeySettings(), pepper, slices)


async def pseudonyms(keyring: Keyring, key: Key, *times: int) -> list[str]:
    """Pseudonyms of one value for events recorded at these times, by a gateway's decision."""
    known = await keyring.get(key.id)
    assert known is not None
    decision = keyring.decide(known, "pull", None)
    assert isinstance(decision, Allowed)
    domain = domain_of(decision.view.rules[0].masks)
    assert domain is not None
    made = [domain.at(at) for at in times]
    return ["***" if one is None else one.of("id", "acme", "u-1") for one in made]


async def test_processes_that_need_a_secret_at_once_make_one_and_see_its_rotation(
    connect_keys: Connect, clock: Any
) -> None:
    stores = [await connect_keys(), await connect_keys()]
    keyrings = [Keyring(store, lambda: PEPPERS, clock) for store in stores]
    for keyring in keyrings:
        await keyring.refresh()
    first, second = (administration(store, clock) for store in stores)
    issued = await asyncio.gather(
        *(admin.create(parse_key_request(BODY, KeySettings())) for admin in (first, second) * 3)
    )
    found = [await pseudonyms(ring, one.key, 0) for ring in keyrings for one in issued]
    assert len(set(map(tuple, found))) == 1

    begins = (await first.rotate_pseudonyms(0)).begins
    for keyring in keyrings:
        await keyring.refresh()
    several = [await pseudonyms(ring, issued[0].key, 0, begins - 1, begins) for ring in keyrings]
    assert several[0] == several[1]
    assert several[0][:1] == several[0][1:2] == found[0]
    assert several[0][2].startswith("ps2_")

    await clock.advance(begins / 1e6 - clock.now() + 1)
    await second.forget_pseudonyms(1)
    for keyring in keyrings:
        await keyring.refresh()
    left = [await pseudonyms(ring, issued[0].key, 0, begins) for ring in keyrings]
    assert left[0] == left[1] == ["***", several[0][2]]
