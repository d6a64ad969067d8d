"""The house: which module may import which, and what a module may look like."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.support.cases import every

# What each package may import beside itself and the words at the top of `gateway`: only packages
# that stand above it here.
ALLOWED = {
    ".": "",
    "settings": "",
    "tracing": "",
    "telemetry": "settings tracing",
    "filters/cel": "",
    "filters": "filters/cel",
    "scheduling": "filters",
    "formats": "",
    "wire": "formats",
    "access/credentials": "",
    "access/grants": "filters access/credentials",
    "access/keys": "filters access/credentials access/grants",
    "access/usage": "access/keys",
    "access/policy": "filters access/grants access/keys",
    "access/limits": "access/usage",
    "access": "access/credentials access/grants access/keys access/policy",
    "access/administration": (
        "scheduling access/credentials access/grants access/keys access/policy access tracing"
    ),
    "log": "filters access/policy",
    "looking": "settings filters/cel filters log",
    "ingest": "filters access/credentials access/keys log tracing",
    "ingest/otlp": "ingest",
    "ingest/mapping": "filters ingest",
    "ingest/sources/readers": "",
    "ingest/sources/vendors": "ingest/mapping ingest/sources/readers",
    "ingest/sources": (
        "filters access/grants ingest ingest/mapping ingest/sources/readers ingest/sources/vendors"
    ),
    "ingest/protocols": "ingest ingest/mapping ingest/sources",
    "streaming/live": (
        "filters/cel filters formats scheduling wire access/grants access/usage access/policy "
        "access/limits log looking"
    ),
    "streaming/consumers": "filters access/credentials",
    "streaming/health": "log",
    "streaming": (
        "filters formats scheduling wire access/grants access/keys access/policy access/limits "
        "access log streaming/live streaming/consumers streaming/health"
    ),
    "streaming/counts": (
        "filters scheduling access/grants access/policy log looking streaming/live streaming"
    ),
    "oversight/access_log": (
        "filters scheduling wire access/grants access/keys access/usage access/policy "
        "access/limits log ingest streaming/live"
    ),
    "oversight/detection": (
        "scheduling access/grants access/keys access/usage access/limits access ingest "
        "streaming/live oversight/access_log"
    ),
    "oversight": (
        "scheduling access/credentials access/keys access log ingest streaming/live "
        "streaming/consumers oversight/access_log oversight/detection"
    ),
    "oversight/review": (
        "filters scheduling access/grants access/keys access/policy log ingest "
        "oversight/access_log oversight/detection"
    ),
    "oversight/inventory": ("filters access/grants access/keys access/policy oversight/review"),
    "oversight/report": (
        "formats scheduling access/grants access/keys access/usage access/policy ingest log "
        "oversight/access_log oversight/detection oversight/review oversight/inventory"
    ),
    "fleet": (
        "filters scheduling wire access/keys access log ingest streaming/live oversight/access_log"
    ),
    "delivery/connect": "tracing",
    "delivery/files": "",
    "delivery/outlets": "delivery/connect delivery/files",
    "delivery": (
        "filters formats access/credentials access/grants access/keys access/administration log "
        "ingest streaming/consumers delivery/outlets"
    ),
    "declarations": (
        "filters scheduling access/credentials access/grants access/keys access/policy "
        "access/administration oversight/review delivery"
    ),
    "delivery/running": (
        "wire access/credentials access/keys access/usage access/policy access/limits access log "
        "streaming/live streaming/consumers streaming oversight/access_log oversight/detection "
        "delivery/outlets delivery tracing"
    ),
    "people": (
        "settings access/credentials access/grants access/keys access/usage access delivery/connect"
    ),
    "health": (
        "settings scheduling access/keys access/policy access/administration log "
        "oversight/access_log oversight/detection oversight/inventory fleet delivery/running"
    ),
    "adapters": "filters log tracing",
    "adapters/files": "settings access/credentials access/keys",
    "adapters/sqlite/provisioning": "access/grants access/keys",
    "adapters/sqlite": (
        "access/grants access/keys access/usage log streaming/consumers adapters adapters/files "
        "adapters/sqlite/provisioning"
    ),
    "adapters/sqlite/delivery": "delivery adapters/files adapters/sqlite",
    "adapters/postgres": (
        "access/grants access/keys access/usage log ingest ingest/sources streaming/consumers "
        "delivery adapters"
    ),
    "adapters/redis": "access/usage access/limits",
    "adapters/memory": "access/usage access/limits",
    "http/framework": "",
    "http/response": (
        "access/credentials access/grants access/keys access/usage access/policy access/limits "
        "oversight/detection oversight/review oversight/inventory delivery http/framework tracing"
    ),
    "http/pipelining": "access/keys",
    "http/connection": (
        "settings wire access/limits streaming/live http/framework http/response http/pipelining"
    ),
    "http/tls": "settings access/limits http/connection",
    "http/credentials": "access/credentials http/connection",
    "http/query": (
        "filters formats wire access/credentials access/grants access/keys access/policy log "
        "looking streaming/consumers streaming oversight/detection fleet"
    ),
    "http/request": (
        "settings filters formats scheduling wire access/credentials access/grants access/keys "
        "access/usage access/policy access/limits access access/administration log looking ingest "
        "ingest/sources people streaming/live streaming/consumers streaming/health streaming "
        "oversight/access_log oversight/detection oversight oversight/review delivery "
        "delivery/running http/response "
        "http/connection http/tls http/credentials http/query fleet"
    ),
    "http/pages": (
        "filters access/keys access/usage access/policy ingest log looking streaming/live "
        "streaming streaming/counts http/response http/query http/request tracing"
    ),
    "http/exports": (
        "wire access/usage streaming/live oversight/access_log http/response http/connection "
        "http/query http/request"
    ),
    "http/intake": (
        "access/keys access/usage access/policy log ingest oversight/detection http/response "
        "http/pipelining http/request"
    ),
    "http/openapi": (
        "formats access/grants access/keys access/usage access/administration log looking "
        "oversight/review oversight/report delivery declarations http/response http/query fleet "
        "health"
    ),
    "http/health": (
        "settings streaming/health oversight fleet health http/response http/request http/openapi"
    ),
    "http/console": (
        "filters access/credentials access/grants access/keys access/usage access/policy "
        "access access/administration people oversight/review http/response http/connection "
        "http/query http/request http/credentials http/openapi"
    ),
    "http/receivers": (
        "formats scheduling log ingest ingest/otlp ingest/mapping ingest/sources ingest/protocols "
        "http/response http/query http/request http/intake http/openapi"
    ),
    "http/keys": (
        "filters scheduling access/grants access/keys access/policy access/administration log "
        "looking oversight/detection oversight/review oversight/inventory http/response http/query "
        "http/request http/openapi"
    ),
    "http/declarations": (
        "access/credentials declarations fleet http/response http/query http/request http/openapi"
    ),
    "http/review": (
        "filters access/usage access/policy ingest oversight/access_log "
        "oversight/detection oversight/report http/response http/query http/request http/openapi "
        "http/keys"
    ),
    "http/viewer": (
        "access/credentials access/usage http/response http/connection http/query http/request "
        "http/credentials http/openapi http/console"
    ),
    "http/routes": (
        "filters formats wire access/credentials access/grants access/keys access/usage "
        "access/policy access/limits access/administration log looking ingest streaming/live "
        "streaming/consumers streaming oversight/access_log oversight/detection "
        "oversight/review delivery http/response http/connection http/query http/request "
        "http/exports http/pages http/intake http/receivers http/openapi http/console "
        "http/health http/keys http/declarations http/review http/viewer fleet"
    ),
    "http/metrics": (
        "wire looking oversight/detection oversight delivery/running http/response http/connection "
        "http/request http/routes"
    ),
    "http": (
        "http/response http/connection http/credentials http/query http/request http/intake "
        "http/openapi http/receivers http/routes"
    ),
    "runtime/process": "settings",
    "runtime": (
        "settings formats scheduling wire access/credentials access/grants access/keys "
        "access/usage access/limits access log looking ingest ingest/sources people "
        "streaming/live "
        "streaming/consumers streaming oversight/access_log oversight/detection oversight "
        "delivery/connect delivery/outlets delivery delivery/running adapters/files "
        "adapters/sqlite adapters/sqlite/delivery "
        "adapters/postgres adapters/redis adapters/memory http/framework http/connection http/tls "
        "http/request http/intake http/metrics http/health http runtime/process fleet telemetry"
    ),
    "cli/base": (
        "settings scheduling access/credentials access/keys access/administration "
        "log oversight adapters/files adapters/sqlite adapters/postgres runtime"
    ),
    "client/protocol": "formats ingest",
    "client": "settings ingest client/protocol",
    "cli/client": "client/protocol client",
    "cli/importing": (
        "settings log ingest ingest/sources adapters/files runtime client/protocol client cli/base "
        "cli/client"
    ),
    "cli/administration": (
        "settings scheduling access/credentials access/grants access/keys access/usage "
        "access/policy access/administration log oversight/access_log oversight/detection "
        "oversight/review oversight/report fleet delivery/connect delivery declarations "
        "delivery/running health "
        "adapters/files http/tls http/review runtime cli/base cli/client"
    ),
    "cli/secrets": "access/credentials declarations",
    "cli/applying": "cli/base cli/administration cli/secrets",
    "cli/review": "cli/base cli/administration",
    "cli/keys": (
        "settings access/grants access/keys oversight/access_log cli/base "
        "cli/administration cli/secrets"
    ),
    "cli/operation": "cli/base cli/administration",
    "cli": (
        "settings formats access/credentials access/grants access/keys log ingest ingest/sources "
        "oversight delivery health adapters adapters/files adapters/sqlite adapters/postgres "
        "http/tls "
        "http/request runtime/process runtime client/protocol client cli/base cli/client "
        "cli/administration"
    ),
}
MOST_MODULES = 14
# Adapters know no adapter but the files of the data folder.
SHARED_BY_ADAPTERS = {"adapters", "adapters/files"}
ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "gateway").rglob("*.py"))

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
# What those that use ports call them.
PORTS = {
    "log", "store", "key_store", "keys", "backend", "shared", "leases", "deliveries", "usage",
    "signals", "consumer_store",
}  # fmt: skip
# These lists only get shorter.
ASSIGNED_LISTENERS = {"gateway.http.routes.stream": {"connection.on_lost"}}
MOST_PARAMETERS = 7
MANY_PARAMETERS = {
    "gateway.access.keys.issuance.new_key",
    "gateway.scheduling.loop_work.LoopWork.__init__",
    "gateway.ingest.gateway_event.new_gateway_event",
    "gateway.ingest.marked.rejected_event",
    "gateway.oversight.access_log.history.read_history",
    "gateway.oversight.review.key_review.key_facts",
    "gateway.settings.kinds.setting",
    "gateway.streaming.live.subscription.Subscription.__init__",
}
ACTING = {"asyncio", "aiohttp", "asyncpg", "redis", "uvloop", "threading", "concurrent", "apsw"}
# What others than the stores may know of cursors.
COUNTING = {"count_behind", "distance", "advance", "earlier", "later"}
OF_CURSORS = COUNTING | {
    "format_cursor", "parse_cursor", "offset_in", "JSON_PREFIX", "IN_JSON", "Cursor",
}  # fmt: skip
# What positions in the log are called.
POSITIONS = {"offset", "head", "floor", "position", "cursor", "reached", "after", "until", "begin"}
NOT_POSITIONS = {
    # Bytes, numbers of places in a list, and seconds.
    "head + notice", "head + b'\\n'", "begin + 1", "begin + _PLAIN_AT_ONCE",
    "begin + _BATCH_EVENTS", "begin + PART_KEYS", "begin * 1000000",
    "max(key.created_at, begin)", "max(access.until, self._last.get(what, 0.0))",
}  # fmt: skip
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
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


def package_of(module: str) -> str:
    folder = MODULES[module].parent.relative_to(ROOT / "gateway")
    return "." if module == "gateway" else str(folder)


# Packages whose modules neither wait, nor touch a network, nor ask for the time ...
PURE_PACKAGES = (
    ".", "settings", "tracing", "filters/cel", "filters", "formats", "wire", "access/credentials",
    "access/grants", "access/keys", "access/usage", "access/policy", "access/limits", "access",
    "access/administration", "delivery", "log", "looking", "ingest", "ingest/otlp",
    "ingest/mapping",
    "ingest/sources/readers", "ingest/sources/vendors", "ingest/sources", "ingest/protocols",
    "streaming/consumers", "declarations",
    "oversight/access_log", "oversight/detection", "oversight", "oversight/review",
    "oversight/inventory", "oversight/report",
    "delivery/connect", "delivery/files", "delivery/outlets", "client/protocol",
)  # fmt: skip
# ... but for these. This list only gets shorter.
NOT_PURE = {
    "gateway.notifier", "gateway.tasks", "gateway.access.usage.meter",
    "gateway.ingest.writer", "gateway.oversight.access_log.access_log",
    "gateway.oversight.detection.anomaly_detector", "gateway.oversight.detection.minute_counts",
    "gateway.delivery.connect.counted_stream", "gateway.delivery.connect.http_client",
    "gateway.delivery.connect.lookup", "gateway.delivery.connect.stream_dialer",
    "gateway.delivery.outlets.file", "gateway.delivery.outlets.s3",
}  # fmt: skip
PURE = [
    module for module in MODULES if package_of(module) in PURE_PACKAGES and module not in NOT_PURE
]


def of_gateway(module: str) -> set[str]:
    """The modules of the gateway that a module imports, also for annotations only."""
    return {name for name in imported(tree_of(module)) if name in MODULES} - {module}


@every(module for module in MODULES if module != "gateway.__main__")
def test_packages_import_what_they_may_and_nothing_else(module: str) -> None:
    own = package_of(module)
    allowed = {own, ".", *ALLOWED[own].split()}
    others = {name for name in of_gateway(module) if package_of(name) not in allowed}
    assert not others, f"gateway/{own} may not import them"


def test_packages_import_only_packages_that_stand_above_them() -> None:
    order = list(ALLOWED)
    for place, name in enumerate(order):
        assert set(ALLOWED[name].split()) <= set(order[:place]), name


def test_no_more_is_allowed_than_is_used() -> None:
    for name, allowed in ALLOWED.items():
        modules = [module for module in MODULES if package_of(module) == name]
        used = {package_of(other) for module in modules for other in of_gateway(module)}
        assert set(allowed.split()) <= used, name


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({module: of_gateway(module) for module in MODULES}).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_adapters_know_no_adapter_and_are_known_to_those_who_compose() -> None:
    for name, allowed in ALLOWED.items():
        adapters = {one for one in allowed.split() if one.startswith("adapters")}
        if name.startswith("adapters"):
            # A folder within an adapter's is a part of it.
            parts = {one for one in adapters if one.startswith(f"{name}/")}
            assert adapters - parts <= {*SHARED_BY_ADAPTERS, name.rpartition("/")[0]}, name
        elif adapters:
            assert name.split("/")[0] in ("runtime", "cli"), name


def test_the_cursor_loop_knows_neither_streams_nor_the_hub() -> None:
    used = of_gateway("gateway.streaming.cursor_loop")
    streams = ("hub", "group", "groups", "subscription")
    assert not used & {f"gateway.streaming.live.{name}" for name in streams}
    assert "gateway.streaming.replay" not in used


def test_only_the_client_of_a_gateway_imports_httpx() -> None:
    users = {name for name in MODULES if "httpx" in imported(tree_of(name))}
    assert {package_of(user) for user in users} == {"client"}


def test_only_who_composes_knows_that_one_store_is_behind_the_ports_of_keys() -> None:
    whole = {
        module
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.ImportFrom) and node.module == "gateway.access.keys.key_store"
        if "KeyStore" in [alias.name for alias in node.names]
    }
    assert whole == {
        "gateway.runtime.stores",
        "gateway.http.request.context",
        "gateway.cli.base.stores",
        "gateway.cli.base.key_folder",
    }


def test_routes_import_no_routes_and_their_table_imports_all() -> None:
    routes = {module for module in MODULES if package_of(module) == "http/routes"}
    table = "gateway.http.routes.table"
    handlers = routes - {table, "gateway.http.routes"}
    assert of_gateway(table) & routes == handlers
    for module in handlers:
        assert not of_gateway(module) & routes, module


def test_folders_hold_few_modules() -> None:
    counts = Counter(package_of(module) for module in MODULES if not is_package(module))
    assert counts.keys() == ALLOWED.keys()
    assert not {name: count for name, count in counts.items() if count > MOST_MODULES}


def is_package(module: str) -> bool:
    return MODULES[module].name == "__init__.py"


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {file.parent for file in FILES}
    assert {folder for folder in folders if not (folder / "__init__.py").exists()} == set()


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


@every(module for module in PURE if module not in ("gateway.clock",))
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


@every(module for module in MODULES if not module.startswith("gateway.adapters."))
def test_nobody_asks_a_port_what_it_is_or_has(module: str) -> None:
    """What an adapter can do is a member of its port; none is told from another."""
    asked = {
        ast.unparse(node.args[0])
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("getattr", "hasattr", "isinstance", "type")
        and node.args
        and ast.unparse(node.args[0]).split(".")[-1].lstrip("_") in PORTS
    }
    assert not asked


@every(MODULES)
def test_listeners_are_given_and_not_assigned_from_outside(module: str) -> None:
    """Parts are wired when they are made, or by a method `on_x(listener)`."""
    targets = [
        target
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute) and ast.unparse(target.value) != "self"
    ]
    if module == "gateway.runtime.compose":
        assert {ast.unparse(target) for target in targets} == {"clock.began"}
    assigned = {ast.unparse(target) for target in targets if target.attr.startswith("on_")}
    assert assigned == ASSIGNED_LISTENERS.get(module, set())


def knows_cursors(module: str) -> bool:
    return module == "gateway.cursor" or module.startswith(("gateway.log.", "gateway.adapters."))


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


def operands_of(node: ast.AST) -> list[ast.expr]:
    """What is computed with, where a number is made of others."""
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    if isinstance(node, ast.AugAssign):
        return [node.target, node.value]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("max", "min", "abs", "range"):
        return node.args
    return []


@every(module for module in MODULES if not (knows_cursors(module) or package_of(module) == "wire"))
def test_only_the_log_counts_from_a_position(module: str) -> None:
    """Others compare positions, and count by the functions of `gateway.cursor`."""
    computed = {
        ast.unparse(node)
        for node in ast.walk(tree_of(module))
        for operand in operands_of(node)
        if ast.unparse(operand).split(".")[-1] in POSITIONS
    }
    assert computed <= NOT_POSITIONS


AIOHTTP_INTERNALS = "gateway.http.framework.aiohttp_internals"
MEETS_AIOHTTP = [
    module
    for module in MODULES
    if module != AIOHTTP_INTERNALS
    and (
        module.startswith("gateway.http.")
        or any(name.split(".")[0] == "aiohttp" for name in imported(tree_of(module)))
    )
]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@every(MEETS_AIOHTTP)
def test_private_attributes_of_aiohttp_are_touched_by_one_module(module: str) -> None:
    tree = tree_of(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aiohttp"):
            assert not [alias.name for alias in node.names if is_private(alias.name)]
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = ast.unparse(node.value)
            assert owner in ("self", "cls"), f"line {node.lineno}: {owner}.{node.attr}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr"):
            named = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            assert not [name for name in named if is_private(str(name))], f"line {node.lineno}"
    for definition in tree.body:
        if isinstance(definition, ast.ClassDef):
            theirs = private_names_of_aiohttp(module, definition.name)
            assert not theirs & private_names_in(definition), definition.name


def private_names_in(definition: ast.ClassDef) -> set[str]:
    """The attributes of `self` that a class uses, and the methods that it defines."""
    used = {node.attr for node in ast.walk(definition) if isinstance(node, ast.Attribute)}
    made = {node.name for node in definition.body if isinstance(node, FUNCTIONS)}
    return {name for name in used | made if is_private(name)}


def private_names_of_aiohttp(module: str, name: str) -> set[str]:
    """The private attributes that a class inherits from classes of aiohttp."""
    found = getattr(importlib.import_module(module), name)
    names: set[str] = set()
    for base in found.__mro__:
        if base.__module__.startswith("aiohttp"):
            names |= vars(base).keys()
            for method in vars(base).values():
                names |= set(getattr(getattr(method, "__code__", None), "co_names", ()))
    return {one for one in names if is_private(one)}


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
    elif name_of(file) == "gateway.client":
        # The one package that programs of others import.
        assert all(isinstance(node, ast.ImportFrom | ast.Assign) for node in rest)
    else:
        assert not rest


@every(FILES)
def test_files_are_small_and_say_what_they_are_for(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert file.stem not in ("utils", "util", "helpers", "helper", "common", "misc")
    assert ast.get_docstring(tree_of(name_of(file))), "a module begins with what it is for"


def functions_of(tree: ast.AST, name: str) -> Iterator[tuple[str, ast.arguments]]:
    """All functions and methods below a name, with their parameters."""
    for node in ast.iter_child_nodes(tree):
        inner = f"{name}.{node.name}" if hasattr(node, "name") else name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield inner, node.args
        yield from functions_of(node, inner)


def test_functions_take_few_parameters() -> None:
    """But for commands, whose parameters are what people type."""
    many = {
        name
        for module in MODULES
        if not module.startswith("gateway.cli.")
        for name, given in functions_of(tree_of(module), module)
        if sum(
            argument.arg not in ("self", "cls")
            for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)
        )
        > MOST_PARAMETERS
    }
    assert many == MANY_PARAMETERS


def test_no_two_public_classes_have_one_name() -> None:
    names = Counter(
        node.name
        for module in MODULES
        for node in tree_of(module).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_no_two_test_files_have_one_name() -> None:
    names = Counter(file.name for file in (ROOT / "tests").rglob("test_*.py"))
    twice = [name for name, files in names.items() if files > 1]
    assert not twice, "pytest imports a test file by its name alone, and would collect none at all"
