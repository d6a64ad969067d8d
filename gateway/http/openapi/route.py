"""Declaration of one route."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from gateway.http.openapi.schemas import TEXT, Schema
from gateway.http.response.problem import Renderer

# Actions of a route that needs no key.
PUBLIC: tuple[str, ...] = ()
# Actions of a route for browsers that sign in, or have: whatever the key is granted.
SESSION: tuple[str, ...] = ("session",)
# Actions of a route for whatever key, ticket or session.
ANY_CREDENTIAL: tuple[str, ...] = ("any",)
_PATH_PARAMETER = re.compile(r"\{(\w+)(:[^}]+)?\}")
_PROBLEMS_WITH_KEY = (400, 401, 403, 429, 431, 503)
_HEAD_TOO_LARGE = 431
_PROBLEMS_OF_BODIES = (408, 413, 415)


class Refusals(msgspec.Struct, frozen=True):
    """Refusals of a route whose senders understand no problem documents: how an error is rendered,
    the `content` of the answers as in OpenAPI, and the statuses, where they are others."""

    render: Renderer
    content: Schema
    statuses: tuple[int, ...] = ()


class Route(msgspec.Struct, frozen=True):
    """Method of a path: handler, required grant, input and output.

    `path` is a pattern of aiohttp. `for_viewers`: embedded viewers may ask, too, and the handler
    narrows what they ask for. A key needs a grant of one of the `actions`; where the dispatch
    has `admitted` it, the handler gets the context and the admission beside the request. `answers`
    and `body` are written as in OpenAPI; `problems` are statuses of refusals besides those common
    to routes with a key and routes with a body.
    """

    method: str
    path: str
    handler: Callable[..., Awaitable[web.StreamResponse]]
    actions: tuple[str, ...]
    name: str
    summary: str
    answers: dict[int, Schema]
    problems: tuple[int, ...] = ()
    parameters: tuple[Schema, ...] = ()
    body: Schema | None = None
    body_required: bool = True
    tag: str = "keys"
    admitted: bool = True
    for_viewers: bool = False
    refusals_as: Refusals | None = None

    @property
    def public(self) -> bool:
        return self.actions == PUBLIC

    @property
    def for_keys(self) -> bool:
        """Whether it needs a key with a grant."""
        return self.actions not in (PUBLIC, SESSION, ANY_CREDENTIAL)

    @property
    def documented_path(self) -> str:
        """Path without the patterns of its parameters."""
        return _PATH_PARAMETER.sub(r"{\1}", self.path)

    @property
    def query(self) -> tuple[str, ...]:
        """Names of the query parameters."""
        return tuple([one["name"] for one in self.parameters if one["in"] == "query"])

    @property
    def all_parameters(self) -> list[Schema]:
        """Parameters in path, query and headers."""
        names = [found[1] for found in _PATH_PARAMETER.finditer(self.path)]
        in_path = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names]
        return [*in_path, *self.parameters]

    @property
    def refusals(self) -> list[int]:
        """Statuses of all its problems."""
        if self.refusals_as is not None and self.refusals_as.statuses:
            return list(self.refusals_as.statuses)
        with_key = () if self.public else _PROBLEMS_WITH_KEY
        with_body = () if self.body is None else _PROBLEMS_OF_BODIES
        return sorted({*with_key, *with_body, *self.problems})

    def operation(self) -> Schema:
        """Operation object of the OpenAPI document."""
        made: Schema = {
            "operationId": self.name,
            "summary": self.summary,
            "tags": [self.tag],
            "responses": {
                **{str(status): answer for status, answer in self.answers.items()},
                **{str(status): self._refusal(status) for status in self.refusals},
            },
        }
        if self.public:
            made["security"] = []
        elif self.actions == SESSION:
            made["security"] = [{"session": []}]
        if parameters := self.all_parameters:
            made["parameters"] = parameters
        if self.body is not None:
            made["requestBody"] = {"required": self.body_required, **self.body}
        return made

    def _refusal(self, status: int) -> Schema:
        """Response object of a refusal."""
        # A head that is too large has no route yet.
        if self.refusals_as is None or status == _HEAD_TOO_LARGE:
            return {"$ref": f"#/components/responses/Problem{status}"}
        return {"description": "Refused.", "content": self.refusals_as.content}
