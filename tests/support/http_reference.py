"""The page `deploy/http.md`: every route, as the table of routes and the OpenAPI document have it.

`python -m tests.support.http_reference > deploy/http.md` writes it anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.http.app import DOCUMENT
from gateway.http.openapi.route import Route
from gateway.http.routes.table import ROUTES

Schema = dict[str, Any]
SECTIONS = {
    "events": "Events and streams",
    "keys": "Keys, roles and findings",
    "delivery": "Delivery",
    "operation": "Operation",
}
BOUNDS = {
    "default": "default `{}`", "minimum": "at least {}", "maximum": "at most {}",
    "minLength": "at least {} characters", "maxLength": "at most {} characters",
    "minItems": "at least {}", "maxItems": "at most {}", "pattern": "`{}`",
}  # fmt: skip
INTRODUCTION = """# Every route

What `/openapi.json` on a running gateway says, for people; [interface.md](interface.md) explains
it. A query parameter that a route does not have is refused with 400 and the code
`unknown_parameter`; the problem names it under `parameter`, and those that there are under
`allowed`. A refusal is a problem document (`application/problem+json`) with a stable `code`.

An action is what a grant of the key has to allow. Routes that need none take no key."""


def page() -> str:
    """The page in Markdown."""
    return "\n".join([INTRODUCTION, *_routes(), *_schemas()]) + "\n"


def _routes() -> Iterator[str]:
    for tag, title in SECTIONS.items():
        yield from ("", f"## {title}")
        for route in ROUTES:
            if route.tag == tag:
                yield from _route(route)


def _route(route: Route) -> Iterator[str]:
    yield from ("", f"### {route.method} {route.documented_path}", "")
    yield route.summary
    actions = " or ".join(f"`{action}`" for action in route.actions)
    yield from ("", f"Action: {actions}." if actions else "Needs no key.")
    if parameters := route.all_parameters:
        rows = ((f"`{one['name']}`", one["in"], *_said(one)) for one in parameters)
        yield from _table(("Parameter", "In", "Values", "Meaning"), rows)
    if route.body is not None:
        need = "" if route.body_required else " (may be left out)"
        yield from ("", f"Body{need}: {_contents(route.body)}.")
    rows = (
        (str(status), _contents(answer), answer["description"])
        for status, answer in sorted(route.answers.items())
    )
    yield from _table(("Answer", "Body", "Meaning"), rows)
    if route.refusals:
        yield from ("", f"Refusals: {', '.join(map(str, route.refusals))}.")


def _schemas() -> Iterator[str]:
    yield from ("", "## Bodies")
    for name, schema in sorted(DOCUMENT["components"]["schemas"].items()):
        yield from ("", f"### {name}", "")
        if "description" in schema:
            yield from (schema["description"], "")
        if "allOf" in schema:
            first, schema = schema["allOf"]
            yield from (f"{_values(first)}, and:", "")
        required = schema.get("required", ())
        rows = [
            (f"`{member}`", "yes" if member in required else "", *_said(of))
            for member, of in schema.get("properties", {}).items()
        ]
        if rows:
            yield from list(_table(("Member", "Required", "Values", "Meaning"), rows))[1:]
        else:
            yield f"Any members: {_values(schema['additionalProperties'])}."


def _said(one: Schema) -> tuple[str, str]:
    """Values and meaning of a parameter, or of a member."""
    schema = one.get("schema", one)
    return _values(schema), one.get("description") or schema.get("description", "")


def _contents(one: Schema) -> str:
    kinds = one.get("content", {})
    return "; ".join(f"`{kind}`: {_values(said['schema'])}" for kind, said in kinds.items())


def _values(schema: Schema) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if alternatives := schema.get("oneOf") or schema.get("anyOf"):
        return " or ".join(map(_values, alternatives))
    kinds = schema.get("type", [])
    words = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    if "enum" in schema:
        words = ", ".join(f"`{value}`" for value in schema["enum"])
    elif words == "array":
        words = f"list of {_values(schema['items'])}"
    elif words == "object" and "properties" in schema:
        words = f"object of {', '.join(f'`{name}`' for name in schema['properties'])}"
    elif schema.get("format") == "date-time":
        words = words.replace("string", "date-time")
    bounds = [form.format(schema[name]) for name, form in BOUNDS.items() if name in schema]
    return ", ".join([words, *bounds])


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    heads = tuple(heads)
    yield from ("", f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|")
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


if __name__ == "__main__":
    sys.stdout.write(page())
