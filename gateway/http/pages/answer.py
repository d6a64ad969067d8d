"""Answers with a page or counts, held in memory and compressed."""

from __future__ import annotations

from aiohttp import web

from gateway.http.request.admission import Admission
from gateway.http.request.context import CONTEXT
from gateway.http.response.coding import FOR_A_THREAD, ON_ACCEPT_AND_CODING, in_coding


async def page_response(
    request: web.Request, admission: Admission, body: bytes, kind: str, headers: dict[str, str]
) -> web.Response:
    """Answer that is never cached, as it depends on the key, compressed for clients that take it
    so."""
    slices = request.app[CONTEXT].work.slices(admission.key.id)
    sent, coding = await in_coding(request, body, slices.in_thread)
    if len(body) > FOR_A_THREAD:
        # Compressing may have waited for its turn.
        await admission.recheck()
    return web.Response(
        body=sent,
        content_type=kind,
        charset="utf-8" if kind.startswith("text/") else None,
        headers={"Cache-Control": "no-store", "Vary": ON_ACCEPT_AND_CODING, **headers, **coding},
    )
