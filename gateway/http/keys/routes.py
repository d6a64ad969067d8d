"""Rows of the table of routes for keys."""

from __future__ import annotations

from gateway.http.keys import handlers, key_list, preview
from gateway.http.keys.parameters import KEYS
from gateway.http.keys.precondition import PATCH_TYPES
from gateway.http.openapi.parts import content, headers, query, says
from gateway.http.openapi.route import Route
from gateway.http.openapi.schemas import TEXT, Schema, named
from gateway.http.query.query import USAGE

_ADMIN = ("keys.admin",)
_LOOKING = ("keys.read",)
_ETAG = headers(ETag="Its revision, for `If-Match`.")
_IF_MATCH: Schema = {
    "name": "If-Match", "in": "header", "required": True, "schema": TEXT,
    "description": "`ETag` of the key that is meant.",
}  # fmt: skip
_SHOWN_ONCE = headers(Location="Its path.")

KEY_ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/keys", key_list.list_all, _LOOKING, "keys", "Keys.",
          {200: says("Oldest first, or in the order asked for.", named("KeyList"))},
          parameters=KEYS),
    Route("POST", "/v1/keys", handlers.create, _ADMIN, "makeKey", "Make a key.",
          {201: says("The key, shown this once.", named("MintedKey"), headers=_SHOWN_ONCE)},
          problems=(409,), body=content(named("NewKey"))),
    Route("GET", "/v1/keys/{id}", handlers.show, _LOOKING, "key", "One key.",
          {200: says("The key.", named("KeyInUse"), headers=_ETAG)}, problems=(404,)),
    Route("PATCH", "/v1/keys/{id}", handlers.change, _ADMIN, "changeKey",
          "Change members of a key by a merge patch (RFC 7396); live streams narrow or end "
          "at once.",
          {200: says("The key after the change.", named("Key"), headers=_ETAG)},
          problems=(404, 409, 412, 428), parameters=(_IF_MATCH,),
          body=content(named("KeyPatch"), *PATCH_TYPES)),
    Route("POST", "/v1/keys/{id}/revoke", handlers.revoke, _ADMIN, "revokeKey",
          "End a key for good; its streams have ended when this returns.",
          {200: says("The key, and what came of it.", named("RevokedKey"))},
          problems=(404, 409), body=content(named("Revocation")), body_required=False),
    Route("POST", "/v1/keys/{id}/suspend", handlers.suspend, _ADMIN, "suspendKey",
          "End a key's streams and refuse it until it is resumed.",
          {200: says("The key after the change.", named("Key"))},
          problems=(404, 409), body=content(named("Reason")), body_required=False),
    Route("POST", "/v1/keys/{id}/resume", handlers.resume, _ADMIN, "resumeKey",
          "End a suspension; for whoever could make such a key.",
          {200: says("The key after the change.", named("Key"))},
          problems=(404, 409), body=content(named("Reason")), body_required=False),
    Route("POST", "/v1/keys/{id}/reviewed", handlers.reviewed, _LOOKING, "reviewKey",
          "Mark a key as reviewed; for others than its owner, its maker and the key itself.",
          {200: says("The key after the change.", named("Key"))},
          problems=(404, 409), body=content(named("Reviewed")), body_required=False),
    Route("POST", "/v1/keys/{id}/rotate", handlers.rotate, _ADMIN, "rotateKey",
          "Make a successor with the same rights; the old key drains, with `hold` from when the "
          "successor is confirmed or used.",
          {201: says("The successor, shown this once.", named("MintedKey"), headers=_SHOWN_ONCE)},
          problems=(404, 409), body=content(named("Overlap")), body_required=False),
    Route("POST", "/v1/keys/{id}/confirm", handlers.confirm, _ADMIN, "confirmKey",
          "Confirm a successor that is held, by its id or that of the old key, which drains then.",
          {200: says("The successor.", named("Key"), headers=_ETAG)},
          problems=(404, 409), body=content(named("Reason")), body_required=False),
    Route("GET", "/v1/keys/{id}/usage", handlers.usage, ("usage.read",), "keyUsage",
          "How much a key was used.",
          {200: says("Rows, oldest first.", named("UsageRows"))}, problems=(404,),
          parameters=query(USAGE)),
    Route("POST", "/v1/authz/preview", preview.preview, _ADMIN, "preview",
          "What a key with such grants would see.",
          {200: says("As far as the asking key sees it.", named("Preview"))},
          body=content(named("NewPreview"))),
)  # fmt: skip
