"""Keys for emergencies: found at once, told of to whoever operates, counted when they sign in."""

from __future__ import annotations

import asyncio
import json

from browser_sessions import sign_in
from click.testing import CliRunner
from gateways import Gateway
from test_sessions import ADMIN

from gateway.cli.main import cli
from gateway.http.response.request_metrics import BY_BREAK_GLASS, BY_KEY, SIGNED_IN
from tests.support.machine_time import becomes

REASON = "the identity provider is away"


async def make(gateway: Gateway) -> str:
    command = ["keys", "break-glass", "--reason", REASON, "--json"]
    folder = ["--data", str(gateway.context.settings.data)]
    made = await asyncio.to_thread(
        CliRunner().invoke, cli, [*command, *folder], standalone_mode=False
    )
    assert made.exception is None, made.exception
    key: str = json.loads(made.stdout)["key"]
    return key


async def test_a_key_for_an_emergency_is_a_finding_of_severity_5_at_once(gateway: Gateway) -> None:
    key = await make(gateway)

    async def found() -> list[tuple[str, int, str]]:
        answer = await gateway.get("/v1/findings?signal=break_glass", key=gateway.admin)
        return [
            (one["key"], one["severity"], one["data"]["reason"])
            for one in answer.json()["findings"]
        ]

    await becomes(found, lambda shown: shown == [(key[5:17], 5, REASON)])


async def test_who_operates_is_told_of_it_and_nobody_else(gateway: Gateway) -> None:
    operator = await gateway.mint({"actions": ["ops.read"], "categories": ["**"]})
    other = await gateway.mint({"actions": ["pull"], "categories": ["auth"]})

    async def until(key: str) -> str:
        answer: str = (await gateway.get("/v1/me", key=key)).json().get("break_glass_until", "")
        return answer

    assert [await until(key) for key in (operator, other)] == ["", ""]
    key = await make(gateway)
    ends = (await gateway.get("/v1/me", key=key)).json()["expires_at"]
    await becomes(lambda: until(operator), lambda shown: shown == ends)
    assert (await until(key), await until(other)) == (ends, "")


async def test_nobody_is_told_of_one_that_was_ended(gateway: Gateway) -> None:
    key = await make(gateway)

    async def told() -> bool:
        return "break_glass_until" in (await gateway.get("/v1/me", key=gateway.admin)).json()

    await becomes(told, bool)
    path = f"/v1/keys/{key[5:17]}/revoke"
    assert (await gateway.post(path, key=gateway.admin, json={})).status == 200
    await becomes(told, lambda shown: not shown)


async def test_sign_ins_by_it_are_counted_apart(gateway: Gateway) -> None:
    await sign_in(gateway, await make(gateway))
    await sign_in(gateway, await gateway.mint(ADMIN))
    counted = gateway.context.requests.sign_ins
    assert counted == {(BY_BREAK_GLASS, SIGNED_IN): 1, (BY_KEY, SIGNED_IN): 1}
