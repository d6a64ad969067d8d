"""The house: which module may import which, and what a module may look like."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.cases import every

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "gateway").rglob("*.py"))

# The first entry that a module's name begins with counts.
LAYERS = [
    ("gateway.runtime.process.compute_process", 5),
    ("gateway.runtime.process.collector", 5),
    ("gateway.runtime.process.event_loop", 5),
    ("gateway.runtime.process.listening", 4),
    ("gateway.runtime.process.memory", 5),
    ("gateway.runtime.process.threads", 5),
    ("gateway.oversight.review.explain", 1),
    ("gateway.oversight.review.access_query", 1),
    ("gateway.oversight.review.document", 1),
    ("gateway.oversight.review.document_text", 1),
    ("gateway.oversight.review.sentences", 1),
    ("gateway.oversight.review.grant_use", 1),
    ("gateway.oversight.review.simulation", 1),
    ("gateway.oversight.review.own_record", 1),
    ("gateway.oversight.review.key_review", 3),
    ("gateway.oversight.detection.baseline", 1),
    ("gateway.oversight.detection.usage_profile", 1),
    ("gateway.oversight.detection.signals", 1),
    ("gateway.oversight.detection.finding", 1),
    ("gateway.oversight.detection.habits", 1),
    ("gateway.oversight.detection.findings", 3),
    ("gateway.oversight.detection.anomaly_detector", 3),
    ("gateway.oversight.detection.profile_store", 3),
    ("gateway.oversight.detection.volumes", 3),
    ("gateway.oversight.detection.minutes", 3),
    ("gateway.oversight.detection.operators", 3),
    ("gateway.oversight.detection.stored_defects", 3),
    ("gateway.oversight.access_log.access_log", 3),
    ("gateway.oversight.access_log.access_entry", 3),
    ("gateway.oversight.access_log.recorded_query", 1),
    ("gateway.oversight.access_log.past_use", 1),
    ("gateway.oversight.access_log.reach", 1),
    ("gateway.oversight.access_log.history", 3),
    ("gateway.ingest.sources.cloudtrail", 1),
    ("gateway.ingest.sources.formats", 1),
    ("gateway.ingest.sources.github", 1),
    ("gateway.ingest.sources.identity", 1),
    ("gateway.ingest.sources.kubernetes", 1),
    ("gateway.ingest.sources.lines", 1),
    ("gateway.ingest.sources.moments", 1),
    ("gateway.ingest.sources.native", 1),
    ("gateway.ingest.sources.okta", 1),
    ("gateway.ingest.sources.row_mapping", 2),
    ("gateway.access.limits.limits", 2),
    ("gateway.access.limits.buckets", 2),
    ("gateway.access.limits.delivery_limits", 2),
    ("gateway.access.limits.ports", 2),
    ("gateway.access.limits.work", 3),
    ("gateway.access.limits.place", 2),
    ("gateway.access.usage.access", 1),
    ("gateway.access.usage.meter", 2),
    ("gateway.access.usage.windows", 2),
    ("gateway.access.keys.key", 1),
    ("gateway.access.keys.key_limits", 1),
    ("gateway.access.keys.lifecycle", 1),
    ("gateway.access.keys.issuance", 1),
    ("gateway.access.keys.descent", 1),
    ("gateway.access.keys.rotation_chain", 3),
    ("gateway.access.keys.operator", 1),
    ("gateway.access.keys.change", 1),
    ("gateway.access.keys.stored_grant", 1),
    ("gateway.access.keys.unreadable", 1),
    ("gateway.access.keys.key_store", 2),
    ("gateway.runtime.process.logs", 0),
    ("gateway.cli.keys", 6),
    ("gateway.cli.importing", 6),
    ("gateway.cli.client", 6),
    ("gateway.cli.base", 6),
    ("gateway.runtime.retention", 3),
    ("gateway.runtime.select_backend", 2),
    ("gateway.runtime.stored_keys", 2),
    ("gateway.runtime.process", 0),
    ("gateway.http.app", 4),
    ("gateway.http.routes", 4),
    ("gateway.http.openapi", 4),
    ("gateway.http.metrics", 4),
    ("gateway.http.request", 4),
    ("gateway.http.query", 4),
    ("gateway.http.connection", 4),
    ("gateway.http.response", 4),
    ("gateway.adapters.memory", 2),
    ("gateway.adapters.redis", 2),
    ("gateway.adapters.postgres", 2),
    ("gateway.adapters.sqlite", 2),
    ("gateway.adapters.files", 2),
    ("gateway.adapters.sql_conditions", 2),
    ("gateway.adapters.row_reader", 2),
    ("gateway.oversight.review", 1),
    ("gateway.oversight.expiry", 1),
    ("gateway.oversight.key_events", 3),
    ("gateway.oversight.clock_notes", 2),
    ("gateway.oversight.clock_watch", 3),
    ("gateway.oversight.detection", 1),
    ("gateway.oversight.access_log", 1),
    ("gateway.streaming.choosing", 3),
    ("gateway.streaming.replay_cache", 3),
    ("gateway.streaming.gate", 3),
    ("gateway.streaming.enforcement", 3),
    ("gateway.streaming.replay", 3),
    ("gateway.streaming.tail", 3),
    ("gateway.streaming.wakeups", 3),
    ("gateway.streaming.live", 3),
    ("gateway.ingest.sources", 1),
    ("gateway.ingest.gateway_event", 1),
    ("gateway.log.ports", 2),
    ("gateway.log.lookback_bounds", 3),
    ("gateway.log.gap", 3),
    ("gateway.log.identity", 2),
    ("gateway.log.recent_events", 2),
    ("gateway.access.keyring", 3),
    ("gateway.access.pepper_watch", 3),
    ("gateway.access.proven_tokens", 3),
    ("gateway.access.limits", 2),
    ("gateway.access.policy", 1),
    ("gateway.access.usage", 1),
    ("gateway.access.keys", 1),
    ("gateway.access.grants", 1),
    ("gateway.access.credentials", 1),
    ("gateway.filters.alphabet", 1),
    ("gateway.filters.expression", 1),
    ("gateway.filters.index", 1),
    ("gateway.filters.overlap", 1),
    ("gateway.filters.pattern", 1),
    ("gateway.filters.scope", 1),
    ("gateway.filters.cel", 1),
    ("gateway.runtime.stores", 5),
    ("gateway.runtime.worker", 5),
    ("gateway.runtime.compose", 5),
    ("gateway.runtime.supervisor", 5),
    ("gateway.http", 4),
    ("gateway.adapters", 2),
    ("gateway.oversight", 1),
    ("gateway.streaming", 3),
    ("gateway.log", 2),
    ("gateway.access", 1),
    ("gateway.wire", 1),
    ("gateway.filters", 1),
    ("gateway.notifier", 3),
    ("gateway.sanitize", 0),
    ("gateway.__main__", 6),
    ("gateway.cli", 6),
    ("gateway.runtime", 5),
    ("gateway.tasks", 2),
    ("gateway.ingest", 1),
    ("gateway.budgets", 0),
    ("gateway.errors", 0),
    ("gateway.event", 0),
    ("gateway.cursor", 0),
    ("gateway.clock", 0),
    ("gateway.network", 0),
    ("gateway.json_members", 0),
    ("gateway.trusted_clock", 0),
    ("gateway.settings", 0),
]
# The part of `ingest` that stores stands above the stores, like `live`.
STORING = 3
UNPLACED = 7
# Who may start tasks: supervised ones, plain ones of commands, and parts of a call that its caller
# waits for. This list only gets shorter.
STARTS_TASKS = {
    "gateway.runtime.background": {"create_task"},
    "gateway.tasks": {"create_task"},
    "gateway.streaming.enforcement": {"ensure_future"},
    "gateway.adapters.redis.link": {"ensure_future"},
    # They do nothing by themselves: whoever asks is told of each failure.
    "gateway.adapters.sqlite.thread": {"Thread"},
}
ACTING = {"asyncio", "aiohttp", "asyncpg", "redis", "uvloop", "threading", "concurrent", "apsw"}
# What others than the stores may know of cursors.
OF_CURSORS = {"format_cursor", "parse_cursor", "JSON_PREFIX", "IN_JSON"}
INSIDES = re.compile(r"%020d|:020d?|^020d?$|\\d\{20\}|\[0-9\]\{20\}")


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(file): file for file in FILES}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules named by every import in the tree, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def loaded(tree: ast.Module) -> Iterator[str]:
    """The same without what is imported for annotations only."""
    for node in tree.body:
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from imported(node)


@cache
def layer_of(module: str) -> int:
    if module == "gateway":
        return 0
    if module.startswith("gateway.ingest.") and any(
        name.startswith(("gateway.store", "gateway.log.")) for name in imported(tree_of(module))
    ):
        return STORING
    for prefix, layer in LAYERS:
        if module == prefix or module.startswith(prefix + "."):
            return layer
    return UNPLACED


PURE = [module for module in MODULES if layer_of(module) <= 1]


@every(MODULES)
def test_imports_go_downwards_only(module: str) -> None:
    own = layer_of(module)
    upwards = {
        name
        for name in imported(tree_of(module))
        if name.split(".")[0] == "gateway" and layer_of(name) > own
    }
    assert not upwards, f"{module} is of layer {own}"


def test_the_storing_part_of_ingest_is_small() -> None:
    ingest = [module for module in MODULES if module.startswith("gateway.ingest.")]
    assert layer_of("gateway.ingest.writer") == STORING
    assert layer_of("gateway.ingest.decode") == 1
    assert sum(layer_of(module) == STORING for module in ingest) <= 2


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        module: {name for name in loaded(tree_of(module)) if name in MODULES and name != module}
        for module in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


@every(PURE)
def test_pure_modules_neither_wait_nor_touch_a_network(module: str) -> None:
    tree = tree_of(module)
    acting = {name for name in imported(tree) if name.split(".")[0] in ACTING}
    if module == "gateway.clock":
        assert acting == {"asyncio"}
        [sleep] = [
            node
            for outer in tree.body
            if isinstance(outer, ast.ClassDef) and outer.name == "SystemClock"
            for node in outer.body
            if isinstance(node, ast.AsyncFunctionDef) and node.name == "sleep"
        ]
        whole = [name for name in imported(tree) if name == "asyncio"]
        assert whole == [name for name in imported(sleep) if name == "asyncio"]
    else:
        assert not acting


@every(module for module in PURE if module not in ("gateway.clock", "gateway.runtime.process.logs"))
def test_pure_modules_take_the_time_as_an_argument(module: str) -> None:
    asked = {
        ast.unparse(node.func) for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call)
    }
    assert not asked & {
        "time.time", "time.monotonic", "time.time_ns", "time.monotonic_ns", "time.perf_counter",
        "datetime.now", "datetime.utcnow", "date.today", "datetime.today", "SystemClock",
    }  # fmt: skip


@every(MODULES)
def test_background_work_is_started_by_its_one_module(module: str) -> None:
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call)
    }
    starting = called & {"create_task", "ensure_future", "TaskGroup", "Thread", "Timer"}
    assert starting == STARTS_TASKS.get(module, set())


def knows_cursors(module: str) -> bool:
    return module == "gateway.cursor" or module.startswith(
        ("gateway.store.", "gateway.log.", "gateway.adapters.")
    )


@every(module for module in MODULES if not knows_cursors(module))
def test_only_the_stores_know_what_is_inside_a_cursor(module: str) -> None:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom) and node.module == "gateway.cursor":
            assert {alias.name for alias in node.names} <= OF_CURSORS
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            assert not INSIDES.search(text), f"line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            twenty = any(isinstance(arg, ast.Constant) and arg.value == 20 for arg in node.args)
            assert not (node.func.attr == "zfill" and twenty), f"line {node.lineno}"


@every(file for file in FILES if file.name == "__init__.py")
def test_packages_hold_a_docstring_and_nothing_else(file: Path) -> None:
    docstring, *rest = ast.parse(file.read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)
    assert isinstance(docstring.value, ast.Constant)
    assert isinstance(docstring.value.value, str)
    if name_of(file) == "gateway":
        [version] = rest
        assert isinstance(version, ast.Assign)
        assert ast.unparse(version.targets[0]) == "__version__"
    else:
        assert not rest


@every(FILES)
def test_files_are_small_and_say_what_they_are_for(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert file.stem not in ("utils", "util", "helpers", "helper", "common", "misc")
    assert ast.get_docstring(tree_of(name_of(file))), "a module begins with what it is for"


def test_every_package_is_one_and_has_a_layer() -> None:
    folders = {file.parent for file in FILES}
    assert {folder for folder in folders if not (folder / "__init__.py").exists()} == set()
    unplaced = [module for module in MODULES if layer_of(module) == UNPLACED]
    assert not unplaced, "give them a layer in the design and here"


def test_no_two_test_files_have_one_name() -> None:
    names = Counter(file.name for file in (ROOT / "tests").rglob("test_*.py"))
    twice = [name for name, files in names.items() if files > 1]
    assert not twice, "pytest imports a test file by its name alone, and would collect none at all"
