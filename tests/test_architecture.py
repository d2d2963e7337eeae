"""The house keeps its shape: who may import whom, and which doors there are to a model and to the log.

The tables come from ``docs/architecture.md``. Every module is read, imports inside functions and under
``TYPE_CHECKING`` included.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src"
ANYTHING = frozenset({"bedside"})
WIRING = ("bedside.server", "bedside.vault", "bedside.site", "bedside.listen")
"""Joins concrete parts, and so may know them all. Nothing but the command line and themselves knows them."""

ARROWS: Mapping[str, frozenset[str]] = {
    "bedside.core": frozenset(),
    "bedside.runtimes": frozenset({"bedside.core"}),
    "bedside.identity": frozenset({"bedside.core"}),
    "bedside.audit": frozenset({"bedside.core"}),
    "bedside.storage": frozenset({"bedside.core"}),
    "bedside.clinical": frozenset({"bedside.knowledge", "bedside.runtimes.base", "bedside.core"}),
    "bedside.gateway": frozenset(
        {"bedside.clinical", "bedside.identity", "bedside.audit", "bedside.runtimes.base", "bedside.core"}
    ),
    "bedside.api": frozenset({"bedside.gateway", "bedside.clinical", "bedside.identity", "bedside.core"}),
    "bedside.models": frozenset({"bedside.runtimes", "bedside.storage", "bedside.audit", "bedside.core"}),
    "bedside.operations": frozenset({"bedside.runtimes", "bedside.storage", "bedside.audit", "bedside.core"}),
    "bedside.cli": ANYTHING,
    "bedside.__main__": ANYTHING,
    **dict.fromkeys(WIRING, ANYTHING),
}
ALONE: Mapping[str, frozenset[str]] = {"bedside.audit.verify": frozenset({"bedside.core"})}
"""Modules that may not even import their own package: the verifier works on a copied log, without the rest."""

LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "aiohttp": ("bedside.runtimes", "bedside.cli.demo"),
    "alembic": ("bedside.storage",),
    "argon2": ("bedside.identity.passwords",),
    "cryptography": ("bedside.storage.keys", "bedside.identity.tokens", "bedside.audit.verify", "bedside.vault"),
    "cyclopts": ("bedside.cli",),
    "jwt": ("bedside.identity.tokens",),
    "psutil": ("bedside.operations.hardware",),
    "pydantic": ("bedside.api", "bedside.core"),
    "pydantic_core": ("bedside.api", "bedside.core", "bedside.runtimes"),
    "rich": ("bedside.cli",),
    "sqlalchemy": ("bedside.storage",),
    "starlette": ("bedside.api", "bedside.listen", "bedside.server"),
    "structlog": ("bedside.api.middleware", "bedside.operations.logs"),
    "uvicorn": ("bedside.listen",),
    "uvloop": ("bedside.listen",),
    "xllamacpp": ("bedside.runtimes.engine_child",),
    "yarl": ("bedside.runtimes",),
}
"""Which library may be used where. One that has no row may be used nowhere."""

LAZY = {("bedside.audit.verify", "cryptography"), ("bedside.runtimes.engine_child", "xllamacpp")}
"""Imported inside a function only."""

LOGGING = ("bedside.operations.logs",)
PRINTING = ("bedside.cli",)
RECORDING = ("bedside.gateway", *WIRING)
RUNNING = "bedside.gateway.handle"
GENERATING = "bedside.clinical.run"


@dataclass(frozen=True)
class Import:
    """One imported module; ``name`` is what was taken out of it, ``lazy`` that it stands in a function."""

    target: str
    name: str | None
    lazy: bool
    line: int


def is_within(module: str, names: Iterable[str]) -> bool:
    """Whether the module is one of the names or lies below one."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


def modules() -> dict[str, Path]:
    """Every module of the program by its dotted name."""
    found = {}
    for path in sorted((SRC / "bedside").rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(module: str, tree: ast.AST, *, lazy: bool = False) -> Iterator[Import]:
    """What the source imports; ``from package import module`` counts as the module."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, None, lazy, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if MODULES.get(module, Path()).name == "__init__.py" else module.rpartition(".")[0]
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                is_module = whole in MODULES
                yield Import(whole if is_module else base, None if is_module else alias.name, lazy, node.lineno)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(module, node, lazy=lazy or inside)


def breaches(module: str, source: str) -> list[str]:
    """Everything in ``source`` that the tables do not allow a module of this name, in words."""
    tree = ast.parse(source)
    found = [problem for each in imports(module, tree) for problem in _import_problems(module, each)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found += _call_problems(module, node)
        elif isinstance(node, ast.ExceptHandler):
            found += _handler_problems(node)
    return [f"{module}: {problem}" for problem in found]


def _import_problems(module: str, each: Import) -> Iterator[str]:
    library = each.target.partition(".")[0]
    if library == "bedside":
        yield from _arrow_problems(module, each)
    elif library in ("logging", "importlib") and library == each.target:
        if library == "importlib" or not is_within(module, LOGGING):
            yield f"line {each.line} imports {library}"
    elif library not in sys.stdlib_module_names:
        if not is_within(module, LIBRARIES.get(library, ())):
            yield f"line {each.line} uses the library {library}"
        elif (module, library) in LAZY and not each.lazy:
            yield f"line {each.line} imports {library} outside a function"


def _arrow_problems(module: str, each: Import) -> Iterator[str]:
    own = next(name for name in sorted(ARROWS, key=len, reverse=True) if is_within(module, (name,)))
    allowed = ALONE.get(module) or ARROWS[own] | {own}
    # The package itself holds the version and nothing else.
    if each.target != "bedside" and not is_within(each.target, allowed):
        yield f"line {each.line} imports {each.target}"
    if each.target == GENERATING and each.name in (None, "run") and module != RUNNING:
        yield f"line {each.line} reaches the models past {RUNNING}"
    if each.target == "bedside.audit.log" and each.name in (None, "AuditLog") and not is_within(module, RECORDING):
        yield f"line {each.line} reaches the audit log"


def _call_problems(module: str, call: ast.Call) -> Iterator[str]:
    called = ast.unparse(call.func)
    receiver, _, method = called.rpartition(".")
    if method == "generate" and receiver != "Ed25519PrivateKey" and module != GENERATING:
        yield f"line {call.lineno} asks a model: {called}"
    writes = method == "append" and receiver.lower().rpartition(".")[2].strip("_") in ("audit", "audit_log", "auditlog")
    if writes and not is_within(module, RECORDING):
        yield f"line {call.lineno} writes to the audit log: {called}"
    if called == "print" and not is_within(module, PRINTING):
        yield f"line {call.lineno} prints"
    if called == "__import__":
        yield f"line {call.lineno} imports behind the table's back"
    if method == "suppress" and {ast.unparse(kind) for kind in call.args} & {"Exception", "BaseException"}:
        yield f"line {call.lineno} swallows every error"


def _handler_problems(handler: ast.ExceptHandler) -> Iterator[str]:
    caught = ast.unparse(handler.type) if handler.type else "everything"
    silent = all(isinstance(step, ast.Pass | ast.Continue) or _is_ellipsis(step) for step in handler.body)
    if caught == "everything" or (silent and caught in ("Exception", "BaseException")):
        yield f"line {handler.lineno} swallows every error"


def _is_ellipsis(step: ast.stmt) -> bool:
    return isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant) and step.value.value is Ellipsis


@pytest.mark.parametrize("module", [name for name in MODULES if name != "bedside"])
def test_a_module_keeps_to_the_tables(module: str) -> None:
    """docs/architecture.md, "Who may import whom"."""
    assert breaches(module, MODULES[module].read_text(encoding="utf-8")) == []


def test_every_part_of_the_house_has_a_row() -> None:
    """A new folder or file beside the others can't go unwatched."""
    parts = {".".join(name.split(".")[:2]) for name in MODULES} - {"bedside"}
    assert parts == set(ARROWS)


def test_every_library_that_is_allowed_is_used() -> None:
    """A row nobody needs would hide the day it is needed wrongly."""
    used = {
        each.target.partition(".")[0]
        for name, path in MODULES.items()
        for each in imports(name, ast.parse(path.read_text(encoding="utf-8")))
    }
    assert set(LIBRARIES) - used == set()


@pytest.mark.parametrize(
    ("module", "source", "named"),
    [
        ("bedside.core.errors", "from bedside.audit.events import Kind", "bedside.audit.events"),
        ("bedside.core.chat", "import aiohttp", "aiohttp"),
        ("bedside.identity.accounts", "from bedside.storage.accounts import SqlAccounts", "bedside.storage.accounts"),
        ("bedside.identity.accounts", "def f():\n    import bedside.audit.log", "bedside.audit.log"),
        (
            "bedside.storage.keys",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from bedside.identity import tokens",
            "bedside.identity.tokens",
        ),
        ("bedside.runtimes.pool", "from ..audit.log import AuditLog", "bedside.audit.log"),
        ("bedside.clinical.run", "from bedside.runtimes import pool", "bedside.runtimes.pool"),
        ("bedside.api.work", "from bedside.clinical.run import run", "past bedside.gateway.handle"),
        ("bedside.api.work", "from bedside.runtimes.base import Runtime", "bedside.runtimes.base"),
        ("bedside.gateway.use", "from bedside.server import build", "bedside.server"),
        ("bedside.audit.verify", "from bedside.audit.events import Kind", "bedside.audit.events"),
        ("bedside.audit.verify", "import cryptography.exceptions", "outside a function"),
        ("bedside.runtimes.embedded", "def f():\n    import xllamacpp", "xllamacpp"),
        ("bedside.cli.users", "import a_library_nobody_chose", "a_library_nobody_chose"),
        ("bedside.cli.demo", "from bedside.clinical.run import run", "past bedside.gateway.handle"),
        ("bedside.cli.users", "from bedside.audit.log import AuditLog", "reaches the audit log"),
        ("bedside.api.rest", "async def f(rt): return [e async for e in rt.generate(1)]", "asks a model"),
        ("bedside.cli.users", "async def f(vault): await vault.audit.append(1)", "writes to the audit log"),
        ("bedside.gateway.handle", "print('a prompt')", "prints"),
        ("bedside.gateway.handle", "import logging", "logging"),
        ("bedside.gateway.handle", "import structlog", "structlog"),
        ("bedside.models.pull", "import importlib", "importlib"),
        ("bedside.models.pull", "__import__('bedside.api')", "behind the table's back"),
        ("bedside.models.pull", "try:\n    f()\nexcept Exception:\n    pass", "swallows"),
        ("bedside.models.pull", "try:\n    f()\nexcept:\n    raise", "swallows"),
        ("bedside.models.pull", "from contextlib import suppress\nwith suppress(Exception):\n    f()", "swallows"),
    ],
)
def test_a_planted_breach_is_named(module: str, source: str, named: str) -> None:
    """The checker itself: every rule notices what it is there for."""
    assert any(named in problem for problem in breaches(module, source))
