"""Files of the console, as they lie in the package: no build step.

Each has the digest of its content in its name, so that browsers keep it for good and an upgrade
never mixes versions. The page's import map leads from the names that modules import to these names;
its own digest is in the policy, which allows no other script in the page.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_WORTH_COMPRESSING = 1024
_PATH = "/console/"
_FOLDER = files("gateway.http.console") / "static"
# Names by which modules import what is not our own.
_VENDORED = {
    "preact": "vendor/preact/preact.js",
    "preact/hooks": "vendor/preact/hooks.js",
    "htm": "vendor/htm/htm.js",
}
_OWN = "own/"
_UPLOT = ("vendor/uplot/uplot.js", "vendor/uplot/uplot.css")
# Where the page says which identity provider people may sign in by.
PROVIDER_MARK = b"@provider@"
_STYLES, _THEMES, _ICON = "app.css", "themes.css", "icon.svg"
_NOBODY = "'none'"
_MAIN, _EMBED = "main", "embed"
# What a first visit loads; other pages are loaded when they are gone to.
_FIRST = (_MAIN, "pages/live")
_IMPORTED = re.compile(r'^(?:import|export) [^;]*? from "([^"]+)";', re.MULTILINE)


class Asset(NamedTuple):
    """One file: content, the same compressed where that gains something, and media type."""

    content: bytes
    gzipped: bytes | None
    content_type: str


class Console(NamedTuple):
    """The page, with its policy, the address of its styles, and the files that it loads, by name in
    the URL."""

    page: bytes
    policy: str
    assets: dict[str, Asset]
    styles: str

    def page_with(self, provider: str) -> bytes:
        """The page, which offers to sign in by that identity provider; "": by none."""
        return self.page.replace(PROVIDER_MARK, html.escape(provider).encode())


class EmbeddedPage(NamedTuple):
    """The page of embedded viewers, and its import map."""

    page: bytes
    import_map: str


@cache
def console() -> Console:
    """The console of this version."""
    sources, urls, _, mapped = _files()
    assets = {
        urls[path].removeprefix(_PATH): _asset(path, content) for path, content in sources.items()
    }
    page = _page("index.html", _MAIN, _FIRST)
    return Console(page, policy_of(mapped), assets, urls[_STYLES])


@cache
def embedded() -> EmbeddedPage:
    """The page of embedded viewers of this version."""
    return EmbeddedPage(_page("embed.html", _EMBED, (_EMBED,)), _files()[3])


def policy_of(import_map: str, ancestors: Sequence[str] = ()) -> str:
    """Content security policy (CSP Level 3) of a page. `ancestors`: origins whose pages may show it
    in a frame."""
    digest = base64.b64encode(hashlib.sha256(import_map.encode()).digest()).decode()
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'sha256-{digest}'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            f"frame-ancestors {' '.join(ancestors) or _NOBODY}",
            "require-trusted-types-for 'script'",
        )
    )


@cache
def _files() -> tuple[dict[str, bytes], dict[str, str], dict[str, str], str]:
    """Contents and URLs of all files by path, URLs of modules by name, and the import map."""
    sources = {path: content for path, content in _walk(_FOLDER, "") if _suffix(path) in _TYPES}
    urls = {path: _PATH + _name(path, content) for path, content in sources.items()}
    own = {
        path.removeprefix(_OWN).removesuffix(".js"): url
        for path, url in urls.items()
        if path.startswith(_OWN)
    }
    imports = {name: urls[path] for name, path in _VENDORED.items()} | own
    return sources, urls, imports, json.dumps({"imports": imports}, sort_keys=True)


def _page(template: str, main: str, first: Iterable[str]) -> bytes:
    """A page that runs the module `main`; the browser is told of those that it needs `first`."""
    sources, urls, imports, mapped = _files()
    page = (_FOLDER / template).read_text(encoding="utf-8")
    for mark, text in {
        "@import_map@": mapped,
        "@preloads@": "".join(
            f'<link rel="modulepreload" href="{imports[name]}">\n'
            for name in sorted(_needed(first, sources))
        ),
        "@icon@": urls[_ICON],
        "@app_css@": urls[_STYLES],
        "@themes_css@": urls[_THEMES],
        "@uplot_js@": urls[_UPLOT[0]],
        "@uplot_css@": urls[_UPLOT[1]],
        "@main@": imports[main],
    }.items():
        page = page.replace(mark, text)
    return page.encode()


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    """Files below a folder, by path, in a fixed order."""
    found = []
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        else:
            found.append((prefix + entry.name, entry.read_bytes()))
    return found


def _needed(names: Iterable[str], sources: Mapping[str, bytes]) -> set[str]:
    """Names of modules, and of all that they import when they are loaded."""
    needed: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in needed:
            needed.add(name)
            text = sources[_VENDORED.get(name, f"{_OWN}{name}.js")].decode()
            left += _IMPORTED.findall(text) if name not in _VENDORED else []
    return needed


def _suffix(path: str) -> str:
    return path[path.rfind(".") :]


def _name(path: str, content: bytes) -> str:
    """Name in the URL: that of the file, with a digest of its content."""
    stem = path[: -len(_suffix(path))].replace("/", "-")
    return f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}{_suffix(path)}"


def _asset(path: str, content: bytes) -> Asset:
    smaller = len(content) >= _WORTH_COMPRESSING
    gzipped = gzip.compress(content, 9, mtime=0) if smaller else None
    return Asset(content, gzipped, f"{_TYPES[_suffix(path)]}; charset=utf-8")
