"""`/v1/keys/{id}/document`: purpose and view of a key, for people and programs."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gateway.access.administration.role_lookup import grants_by_role
from gateway.access.keys.rotation_chain import ended_issuer, rotation_chain_of
from gateway.access.policy.attributed_grant import grants_of_key
from gateway.errors import NotAcceptable
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.http.request.named_key import (
    last_use,
    named_key,
    presence_of,
    reader_of,
)
from gateway.http.response.accept import best_kind
from gateway.oversight.review.document import as_json, blocks
from gateway.oversight.review.document_text import CONTENT_SECURITY_POLICY, to_html, to_markdown
from gateway.oversight.review.key_review import ReviewBudget, key_facts

_KINDS = ("text/markdown", "text/html", "application/json")
_PATIENCE = ReviewBudget(seconds=3.0, events=10_000)


async def document(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`GET /v1/keys/{id}/document`: for keys that administer keys or read their usage.

    It covers events that the caller may pull itself; samples have the masks of both keys.
    """
    kind = best_kind(request, _KINDS)
    if kind is None:
        raise NotAcceptable("a document comes as " + ", ".join(_KINDS))
    most = admission.most_events(request)
    key = await named_key(request)
    grants = grants_of_key(key, await grants_by_role(context.key_store))
    reader = await reader_of(context, admission)
    slices = context.work.slices(admission.key.id)
    facts = await key_facts(
        context.log, context.clock, key, grants,
        rotation_chain=await rotation_chain_of(context.key_store, key),
        ended_issuer=await ended_issuer(context.keyring, key, context.clock.now()),
        last_use=await last_use(context, admission, key.id),
        presence=await presence_of(context, key.id), reader=reader, patience=_PATIENCE,
        slices=slices,
    )  # fmt: skip
    samples = facts.samples[:most]
    admission.holding(request).take(sum(map(len, samples)))
    await admission.recheck()
    samples = samples[: admission.charge([len(sample) for sample in samples])]
    facts = msgspec.structs.replace(facts, samples=samples)
    if kind == "application/json":
        body = msgspec.json.encode(as_json(facts))
    else:
        write = to_html if kind == "text/html" else to_markdown
        # On a thread: samples may be large, and every character is escaped.
        body = await slices.in_thread(lambda: write(blocks(facts)).encode())
        await admission.recheck()
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Vary": "Accept",
    }
    charset = None if kind == "application/json" else "utf-8"
    return web.Response(body=body, content_type=kind, charset=charset, headers=headers)
