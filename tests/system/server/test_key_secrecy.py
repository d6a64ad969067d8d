"""A key is seen by whoever it is handed to, once, and by nobody else ever."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from gateway_client import event, key_id, with_checksum
from gateways import Gateway, Program, StartProgram, finish_program
from open_streams import TRANSPORTS, Refused, open_stream

from gateway.access.credentials.token import new_token
from gateway.cli.main import cli
from tests.support.gateway_process import ROOT

SCANNER = r"alpk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}"


def secrets_of(*texts: str) -> list[bytes]:
    """What must not be found: of a key the secret, also as Basic credentials have it, of a ticket
    all but its beginning."""
    plain = [text[18:].encode() if text[:5] == "alpk_" else text[5:].encode() for text in texts]
    return plain + [base64.b64encode(text[18:].encode()) for text in texts if text[:5] == "alpk_"]


def basic(key: str) -> str:
    """Basic credentials, in which the form of the secret is that of `secrets_of`."""
    return "Basic " + base64.b64encode(f"me:{key}".encode()).decode()


async def use_in_every_way(program: Program, key: str, other: str) -> list[str]:
    """Put a key where it belongs and where it does not; returns the tickets that were made."""
    await program.send(event(), key=key)
    await program.pull(key)
    tickets = []
    for _ in range(2):
        answer = await program.post("/v1/tickets", key=key, json={})
        tickets.append(answer.json()["ticket"])
    for transport in TRANSPORTS:
        (await open_stream(program, transport, key)).close()
    (await open_stream(program, "sse", None, ticket=tickets[0])).close()
    for target in (f"/v1/events?key={key}", f"/v1/{key}", f"/v1/events/{key}?x={key}"):
        await program.get(target, key=None)
        await program.get(target, key=key)
    await program.get("/v1/events", key=with_checksum(key[:61]))
    await program.get("/v1/events", key=key[:-1])
    for credentials in (basic(key), basic(key)[:-1], basic(key) + "!", basic(key).swapcase()):
        for path in ("/v1/events", f"/v1/events?key={credentials[6:]}"):
            headers = {"Authorization": credentials}
            await program.get(path, key=None, headers=headers)
            await program.post(path, key=None, headers=headers, json=event())
        line = f"Authorization : {credentials}\r\n"
        await program.exchange(f"GET /v1/events HTTP/1.1\r\nHost: x\r\n{line}\r\n".encode())
    for name in ("User-Agent", "Referer", "X-Request-Id", "Cookie", "Origin", "Accept", "Host"):
        await program.get("/v1/events", key=key, headers={name: key})
    for body in ({"key": key, "action": "pull"}, {"name": key, "purpose": "p"}, {key: key}, [key]):
        for path in ("/v1/authz/explain", "/v1/authz/simulate", "/v1/keys", "/v1/stream"):
            await program.post(path, key=program.admin, json=body)
    await program.post("/v1/events", key=key, data=f'{{"x":"{key}"'.encode())
    await program.get("/v1/events", key=key, params={"filter": f'id == "{key}'})
    with pytest.raises(Refused):
        await open_stream(program, "websocket", key, headers={"Sec-WebSocket-Protocol": key})
    await program.exchange(f"GET {key} HTTP/1.1\r\nX\r\n{key}\r\n\r\n".encode())
    await program.exchange(f"{key}\r\n\r\n".encode())
    await program.post(f"/v1/keys/{key_id(other)}/rotate", key=program.admin)
    await program.revoke(key)
    await program.get("/v1/events", key=key)
    return tickets


async def test_no_key_is_in_a_log_a_metric_a_record_a_file_or_a_process_list(
    start_program: StartProgram,
) -> None:
    program = await start_program(executed=True, log__level="debug", record__delay="0s")
    key = await program.mint(
        {"actions": ["stream", "pull", "ingest"], "categories": ["**"]}, name="used"
    )
    other = await program.reader_key()
    tickets = await use_in_every_way(program, key, other)
    hidden = secrets_of(key, other, program.admin, program.user, *tickets)
    await asyncio.sleep(1.5)
    places = {
        "metrics": (await program.get("/metrics", key=None)).body,
        "document": (await program.get("/openapi.json", key=None)).body,
        "keys": (await program.get("/v1/keys", key=program.admin)).body,
        "findings": (await program.get("/v1/findings", key=program.admin)).body,
        "records": str(
            (await program.pull(program.admin, category="gateway.**", limit="10000"))["events"]
        ).encode(),
        "command line": Path(f"/proc/{program.process.pid}/cmdline").read_bytes(),
        "environment": Path(f"/proc/{program.process.pid}/environ").read_bytes(),
    }
    status, errors = await program.stop()
    assert status == 0
    places["log"] = errors.encode()
    for file in program.data.rglob("*"):
        if file.is_file():
            places[str(file)] = file.read_bytes()
    assert len(places) > 10
    for place, content in places.items():
        for secret in hidden:
            assert secret not in content, place
    assert b"debug" in places["log"].lower(), "everything was logged that can be"
    assert key_id(key).encode() in places["records"], "the id is told"


# Process lists


def commands(
    group: click.Command, context: click.Context, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(group, click.Group):
        yield path, group
        return
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from commands(command, context, (*path, name))


def test_no_command_takes_a_key_as_an_argument() -> None:
    """Arguments are in process lists and shell histories: a key comes in a file or a variable."""
    there_are = dict(commands(cli, click.Context(cli)))
    assert len(there_are) > 20
    for path, command in there_are.items():
        for parameter in command.params:
            names = [parameter.name or "", *parameter.opts]
            about_keys = [name for name in names if re.search("key|token|secret|pepper", name)]
            if about_keys:
                # The id of a key, which is no secret, or a file that holds one.
                # Or the name of a secret, whose value is asked for, or where one is put.
                known = (
                    "key_id", "key_file", "keep_file", "secret", "secrets", "secret_file",
                    "secret_mode", "secret_command",
                )  # fmt: skip
                assert parameter.name in known, (path, about_keys)
                if parameter.name == "key_file":
                    assert isinstance(parameter.type, click.Path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "show"), ("keys", "revoke"), ("keys", "suspend"), ("keys", "resume"),
        ("keys", "rotate"), ("keys", "history"), ("keys", "usage"), ("keys", "document"),
        ("keys", "explain"), ("keys", "simulate"),
    ],
    ids=lambda arguments: arguments[1],
)  # fmt: skip
async def test_a_whole_key_in_place_of_its_id_is_refused_and_not_repeated(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    data = str(tmp_path)
    made = await finish_program(
        "keys", "create", "--data", data, "--name", "n", "--purpose", "p", "--owner", "o"
    )
    found = re.search(SCANNER, made[1])
    assert found is not None, made
    status, out, errors = await finish_program(*arguments, found[0], "--data", data)
    assert status != 0
    assert found[0][18:] not in out + errors
    assert "Traceback" not in errors


async def test_a_reason_that_holds_the_leaked_key_or_moves_the_cursor_is_cleaned(
    gateway: Gateway,
) -> None:
    key = await gateway.reader_key()
    reason = f"leaked: {key}\n\x1b]0;all is well\x07"
    path = f"/v1/keys/{key_id(key)}"
    answer = await gateway.post(f"{path}/revoke", key=gateway.admin, json={"reason": reason})
    assert answer.status == 200, "it is urgent"
    shown = [answer.body]
    for suffix in ("", "/document", "/history"):
        shown.append((await gateway.get(path + suffix, key=gateway.admin)).body)
    for body in shown:
        assert key[18:].encode() not in body
        assert b"\\u001b" not in body
        assert b"\x1b" not in body
    assert answer.json()["revoked_reason"].startswith("leaked: alpk_***")


# Scanners


def test_every_key_is_found_by_the_documented_expression_of_secret_scanners() -> None:
    page = (ROOT / "deploy" / "keys.md").read_text()
    assert SCANNER in page, "it is documented"
    documented = re.compile(rf"\b{SCANNER}\b")
    for _ in range(2000):
        _, token = new_token()
        for text in (
            token, f'key = "{token}"', f"Authorization: Bearer {token}\n", f"https://x/?k={token}&y",
            f"AUDIT_GATEWAY_KEY={token}", f"'{token}'", f"({token})", f"{token}.",
        ):  # fmt: skip
            assert documented.findall(text) == [token]


def test_the_documented_expression_finds_no_ids_tickets_or_ordinary_text() -> None:
    kid, token = new_token()
    for text in (
        kid, token[:-1], token[:17], token.upper(), token.replace("alpk", "alpt"), f"x{token}",
        f"{token}0", "alpk_***", "key:" + kid, "alpk_<kid>_<secret><crc>",
    ):  # fmt: skip
        assert not re.search(rf"\b{SCANNER}\b", text), text


def test_the_project_itself_holds_no_key() -> None:
    places = ("gateway", "deploy", "README.md", "config.example.toml", "CHANGELOG.md")
    texts = [
        file
        for place in places
        for file in ([ROOT / place] if (ROOT / place).is_file() else (ROOT / place).rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    ]
    assert len(texts) > 150
    for file in texts:
        assert not re.search(SCANNER.encode(), file.read_bytes()), file


async def test_a_whole_key_in_what_everybody_sees_of_a_key_or_role_is_refused(
    gateway: Gateway,
) -> None:
    _, leaked = new_token()
    grant = {"actions": ["pull"], "categories": ["auth"]}
    body = {"name": "n", "purpose": "p", "owner": "o", "grants": [grant]}
    before = len((await gateway.get("/v1/keys", key=gateway.admin)).json()["keys"])
    for change in (
        {"name": f"for {leaked}"}, {"purpose": leaked}, {"owner": leaked},
        {"grants": [{**grant, "id": leaked}]}, {"grants": [{**grant, "resources": [leaked]}]},
        {"grants": [{**grant, "tenants": [leaked]}]}, {"grants": [{**grant, leaked: 1}]},
    ):  # fmt: skip
        answer = await gateway.post("/v1/keys", key=gateway.admin, json={**body, **change})
        assert (answer.status, leaked.encode() in answer.body) == (400, False), change
        assert b"holds a whole key" in answer.body
    for role in (
        {"description": leaked, "grants": []},
        {"grants": [{**grant, "id": leaked}]},
    ):
        answer = await gateway.request("PUT", "/v1/roles/team", key=gateway.admin, json=role)
        assert (answer.status, leaked.encode() in answer.body) == (400, False)
    assert len((await gateway.get("/v1/keys", key=gateway.admin)).json()["keys"]) == before
    # What only begins like one is a name as any other.
    named = {**body, "name": "rotates alpk_ keys"}
    assert (await gateway.post("/v1/keys", key=gateway.admin, json=named)).status == 201
