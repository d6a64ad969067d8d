"""The files of the console: whole, unmodified where they are of others, under a strict policy."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re

from gateway.http.console.assets import console
from tests.support.vendor import DECLARED, FOLDER, digest

PAGE = console().page.decode()
OWN = FOLDER.parent / "own"
IMPORT = re.compile(
    r'^(?:import|export) [^;]*? from "([^"]+)";$|\bimport\("([^"]+)"\)', re.MULTILINE
)
LAYERS = ("api", "state", "parts", "pages")


def import_map() -> dict[str, str]:
    text = PAGE.partition('<script type="importmap">')[2].partition("</script>")[0]
    found: dict[str, str] = json.loads(text)["imports"]
    return found


def test_libraries_are_as_their_archives_have_them_with_their_licences() -> None:
    declared = {
        file["as"]: file["sha256"] for one in DECLARED.values() for file in one["files"].values()
    }
    there = {
        str(path.relative_to(FOLDER)): digest(path.read_bytes())
        for path in FOLDER.rglob("*")
        if path.is_file() and path.name != "vendor.toml"
    }
    assert there == declared
    assert {f"{name}/LICENSE" for name in DECLARED} <= declared.keys()


def test_the_policy_allows_the_import_map_and_no_other_script_of_the_page() -> None:
    policy = dict(one.split(" ", 1) for one in console().policy.split("; "))
    text = PAGE.partition('<script type="importmap">')[2].partition("</script>")[0]
    wanted = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'sha256-{wanted}'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in console().policy
    inline = re.findall(r"<script(?![^>]*\bsrc=)[^>]*>", PAGE)
    assert inline == ['<script type="importmap">']
    assert not re.search(r"\son\w+=|style=", PAGE)


def test_the_page_loads_its_own_files_only_and_all_are_there() -> None:
    loaded = re.findall(r'(?:href|src)="([^"]+)"', PAGE)
    urls = {url for url in loaded if url != "/openapi.json"} | {*import_map().values()}
    assert {url.removeprefix("/console/") for url in urls} <= console().assets.keys()
    assert all(url.startswith("/console/") for url in urls)


def test_the_import_map_comes_before_whatever_loads_a_module() -> None:
    """Browsers ignore one that comes later, at times."""
    loading = [PAGE.index('rel="modulepreload"'), PAGE.index('type="module"')]
    assert PAGE.index('type="importmap"') < min(loading)


def test_the_name_of_a_file_tells_its_content() -> None:
    for name, asset in console().assets.items():
        assert hashlib.sha256(asset.content).hexdigest()[:12] in name
        if asset.gzipped is not None:
            assert gzip.decompress(asset.gzipped) == asset.content


def test_modules_import_each_other_by_names_that_the_page_knows_and_one_way() -> None:
    known = import_map()
    for path in OWN.rglob("*.js"):
        own = path.relative_to(OWN).parts[0]
        for found in IMPORT.finditer(path.read_text()):
            name = found[1] or found[2]
            assert name in known, (path, name)
            layer = name.partition("/")[0]
            if own in LAYERS and layer in LAYERS:
                assert LAYERS.index(layer) <= LAYERS.index(own), (path, name)


def test_own_modules_are_small_and_say_what_they_are_for() -> None:
    for path in OWN.rglob("*.js"):
        lines = path.read_text().splitlines()
        assert len(lines) <= 400, path
        assert lines[0].startswith("// "), path


def test_content_never_becomes_markup_nor_code() -> None:
    """Trusted Types refuse it in browsers that have them; these are the others."""
    never = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    )
    for path in OWN.rglob("*.js"):
        assert never.search(path.read_text()) is None, path


def test_a_first_visit_takes_little() -> None:
    loaded = {
        url.removeprefix("/console/")
        for url in re.findall(r'(?:href|src)="(/console/[^"]+)"', PAGE)
    }
    sizes = {
        name: len(asset.gzipped or asset.content)
        for name, asset in console().assets.items()
        if name in loaded
    }
    vendored = sum(size for name, size in sizes.items() if name.startswith("vendor-"))
    assert any("own-pages-live" in name for name in loaded)
    assert sum(sizes.values()) + len(gzip.compress(console().page)) <= 90_000
    assert vendored <= 32_000


def test_other_pages_are_loaded_when_they_are_gone_to() -> None:
    text = (OWN / "pages" / "all.js").read_text()
    loaded = re.findall(r'import\("(pages/[a-z_]+)"\)', text)
    assert len(loaded) == text.count("needs: [")
    assert {*loaded} <= import_map().keys()
