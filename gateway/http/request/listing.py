"""Long lists, made and sent in parts, so that they take little memory and time at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from aiohttp import web
from msgspec import Struct, json

from gateway.errors import GatewayError
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.http.response.answer import ALWAYS, Answer
from gateway.http.response.problem import LIMIT_DECISION


class Rest(Struct):
    """Last item of a list: members that stand behind it in the answer."""

    members: Struct


Items = Callable[[web.Request, Context, Admission], AsyncGenerator[Struct]]
ListHandler = Callable[[web.Request, Context, Admission], Awaitable[web.StreamResponse]]
# Longer lists are sent while they are made.
_PART_BYTES = 128 * 1024


def listed(member: str) -> Callable[[Items], ListHandler]:
    """Make the handler that answers `{"<member>":[..]}` with the items that a function yields.

    A `Rest` is the last of them.
    """

    def handler_of(items_for: Items) -> ListHandler:
        async def handler(
            request: web.Request, context: Context, admission: Admission
        ) -> web.StreamResponse:
            admission.holding(request).take(_PART_BYTES)
            items = items_for(request, context, admission)
            async with aclosing(items), aclosing(_parts(member, items)) as parts:
                return await _sent(request, parts, admission)

        return handler

    return handler_of


async def _sent(
    request: web.Request, parts: AsyncGenerator[bytes], admission: Admission
) -> web.StreamResponse:
    first = await anext(parts)
    second = await anext(parts, None)
    await admission.recheck()
    if second is None:
        return Answer(first, "application/json")
    response = web.StreamResponse(headers={**ALWAYS, "Cache-Control": "no-store"})
    response.content_type = "application/json"
    if LIMIT_DECISION in request:
        response.headers.update(request[LIMIT_DECISION].headers())
    await response.prepare(request)
    await response.write(first)
    await response.write(second)
    try:
        async for part in parts:
            # The key may have been revoked since the last part.
            await admission.recheck()
            await response.write(part)
    except GatewayError as error:
        # Parts are already sent: the client has to see that the list is incomplete.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the list was not ended") from error
    return response


async def _parts(member: str, items: AsyncGenerator[Struct]) -> AsyncGenerator[bytes]:
    """Body in parts of about `_PART_BYTES`; at least one part."""
    part = bytearray(b'{"%b":[' % member.encode())
    comma, rest = b"", b"}"
    async for item in items:
        if isinstance(item, Rest):
            rest = b"," + json.encode(item.members)[1:]
            break
        part += comma
        part += json.encode(item)
        comma = b","
        if len(part) > _PART_BYTES:
            yield bytes(part)
            part.clear()
    yield bytes(part + b"]" + rest)
