"""The shape of the code: which part may know which, read from the sources.

Each rule is a function from sources to violations; it is tried on the whole code, and on snippets that break it.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Source:
    """A Python file: its path from the project's root, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def package(self) -> str:
        """The package that a relative import in this file begins at."""
        return ".".join(PurePosixPath(self.path).parts[:-1])

    @cached_property
    def imports(self) -> frozenset[str]:
        """Every module that it may import, wherever the statement stands, by its full name.

        ``from a import b`` gives ``a.b``: ``b`` may be a module.
        """
        return frozenset(name for node in ast.walk(self.tree) for name in self._imported(node))

    def _imported(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = self.package.split(".")[: -(node.level - 1) or None] if node.level else []
            module = ".".join([*start, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "import_module",
            "importlib.import_module",
            "__import__",
        ):
            yield from (str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant))

    def functions(self) -> Iterator[tuple[str, ast.AST]]:
        """Every node with the name of the innermost function that it stands in."""
        waiting: list[tuple[str, ast.AST]] = [("", self.tree)]
        while waiting:
            name, node = waiting.pop()
            yield name, node
            inner = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else name
            waiting.extend((inner, child) for child in ast.iter_child_nodes(node))


def within(name: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of these packages or below one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def sources(*folders: str) -> list[Source]:
    files = (file for folder in folders for file in sorted((ROOT / folder).rglob("*.py")))
    return [Source(file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")) for file in files]


PRODUCT = sources("graphql_api", "runners")
EVERYTHING = [*PRODUCT, *sources("tests")]
OURS = ("graphql_api", "runners", "tests")

Rule = Callable[[Source], Iterable[str]]


# --- the rules


def runners_know_only_the_domain(source: Source) -> Iterator[str]:
    """Runners could serve another API: of this one they know the records and the ports."""
    if source.path.startswith("runners/"):
        yield from (
            name
            for name in source.imports
            if within(name, ["graphql_api", "tests"]) and not within(name, ["graphql_api.domain"])
        )


def only_app_knows_the_runners(source: Source) -> Iterator[str]:
    """Everything is put together in one place."""
    if source.path.startswith("graphql_api/") and source.path != "graphql_api/app.py":
        yield from (name for name in source.imports if within(name, ["runners", "tests"]))


def only_app_knows_the_adapters(source: Source) -> Iterator[str]:
    """Which database is used is decided in one place; everyone else is handed ports."""
    if not source.path.startswith("graphql_api/adapters/") and source.path != "graphql_api/app.py":
        yield from (name for name in source.imports if within(name, ["graphql_api.adapters"]))


#: For each package, what it may import of ours. What is not named here is free.
MAY_KNOW = {
    "graphql_api/domain/": ["graphql_api.domain"],
    "graphql_api/service/": ["graphql_api.domain", "graphql_api.service"],
    "graphql_api/schema/": ["graphql_api.domain", "graphql_api.service", "graphql_api.schema"],
    "graphql_api/transport/": [f"graphql_api.{part}" for part in ("domain", "service", "schema", "transport")],
    "graphql_api/adapters/": ["graphql_api.domain", "graphql_api.adapters"],
    "graphql_api/settings.py": ["graphql_api.domain"],
    "graphql_api/tokens.py": ["graphql_api.domain", "graphql_api.settings"],
    "graphql_api/cli/client.py": ["graphql_api.domain"],
    "graphql_api/cli/commands.py": ["graphql_api.cli", "graphql_api.domain"],
    "graphql_api/cli/demo.py": ["graphql_api.cli", "graphql_api.domain"],
    "graphql_api/cli/display.py": ["graphql_api.cli", "graphql_api.domain"],
    "graphql_api/cli/following.py": ["graphql_api.cli.client", "graphql_api.domain"],
    "graphql_api/cli/terminal.py": [],
    "graphql_api/cli/wording.py": ["graphql_api.cli.terminal", "graphql_api.domain"],
    "runners/supervisor.py": [],
    "runners/process.py": [],
    "runners/modules/": [],
}  # fmt: skip


def imports_point_one_way(source: Source) -> Iterator[str]:
    """transport → schema → service → domain ← adapters; supervisor and process stand alone."""
    for part, known in MAY_KNOW.items():
        if source.path.startswith(part):
            yield from (name for name in source.imports if within(name, OURS) and not within(name, known))


def supervisor_and_process_need_nothing_but_python(source: Source) -> Iterator[str]:
    """The supervisor is started with ``-IS``, where no installed package can be found."""
    if source.path in ("runners/supervisor.py", "runners/process.py"):
        yield from (name for name in source.imports if name.partition(".")[0] not in sys.stdlib_module_names)


#: What would bring input, output or a framework into the domain. Of third parties it may know YAML.
IMPURE = ("asyncio", "concurrent", "http", "io", "multiprocessing", "os", "pathlib", "selectors", "signal", "socket",
          "sqlite3", "ssl", "subprocess", "tempfile", "threading", "urllib")  # fmt: skip


def the_domain_is_pure(source: Source) -> Iterator[str]:
    """No input or output, no driver, no framework."""
    if source.path.startswith("graphql_api/domain/"):
        for name in source.imports:
            top = name.partition(".")[0]
            if top in IMPURE or not (top in sys.stdlib_module_names or top in ("graphql_api", "yaml", "runners")):
                yield name


#: Where a driver may be imported.
DRIVERS = {
    "motor": "graphql_api/adapters/mongo/database.py",
    "pymongo": "graphql_api/adapters/mongo/",
    "bson": "graphql_api/adapters/mongo/",
    "sqlite3": "graphql_api/adapters/sqlite/",
}


def a_driver_is_known_to_its_adapter_only(source: Source) -> Iterator[str]:
    """Another driver is a change in one place."""
    for name in source.imports:
        place = DRIVERS.get(name.partition(".")[0])
        if place and not source.path.startswith(place):
            yield name


#: What other programs' variables these read, which are no settings.
READS_THE_ENVIRONMENT = ("graphql_api/settings.py", "runners/modules/", "runners/supervisor.py")
_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}


def only_settings_reads_the_environment(source: Source) -> Iterator[str]:
    """What can be set stands in one table."""
    if source.path.startswith(READS_THE_ENVIRONMENT):
        return
    for _, node in source.functions():
        if isinstance(node, ast.Attribute) and node.attr in _ENVIRONMENT and ast.unparse(node.value) == "os":
            yield ast.unparse(node)
    yield from source.imports & {f"os.{name}" for name in _ENVIRONMENT}


#: The boundaries at which anything may have gone wrong, and what they do about it. One that raises again needs none.
BOUNDARIES = {
    (
        "graphql_api/schema/plain.py",
        "execute_field",
    ): "leaves the value to graphql-core, which finds and tells the same",
    (
        "graphql_api/schema/plain.py",
        "complete_value",
    ): "leaves the value to graphql-core, which finds and tells the same",
    (
        "graphql_api/transport/fanout.py",
        "answers",
    ): "logs it; the subscriber is told, masked, why its subscription ends",
    (
        "graphql_api/transport/fanout.py",
        "_tell",
    ): "logs it; all whom it tells are told, masked, why their subscriptions end",
    (
        "graphql_api/transport/websocket.py",
        "_carry_out",
    ): "logs it; the client is told, masked: its other operations go on",
    ("runners/worker.py", "_carry_out"): "logs it and records that the deployment failed",
    ("runners/worker.py", "_persist"): "logs it and tries again: one update's trouble is not the others'",
    ("runners/worker.py", "_next_queued"): "logs it; the queue is read again after a pause",
    ("runners/worker.py", "_expected"): "logs it: a record that can't be read is not the others' trouble",
    ("runners/lease.py", "_renew"): "logs it and renews again: without that nothing would ever be started again",
    ("runners/patience.py", "insistently"): "logs it; another way is tried, then all again: nobody else would do it",
    ("runners/requests.py", "_open"): "logs it; what is asked is read again after a pause",
    ("runners/requests.py", "_try"): "logs it and tries again: one request's trouble is not the others'",
    ("runners/recovery.py", "_of_run"): "logs it: one record that can't be read is not the others' trouble",
    ("runners/recovery.py", "_readable"): "logs it: one record that can't be read is not the others' trouble",
    ("runners/retention.py", "keep_tidy"): "logs it; the next round does what this one left",
    ("runners/supervisor.py", "fork_supervisor"): "writes it to its log; the child must not live on",
    ("runners/supervisor.py", "main"): "writes it to the file that the service reads",
    ("runners/supervisor.py", "become_command"): "tells the parent through a pipe; the child must not live on",
}


def everything_is_caught_at_boundaries_only(source: Source) -> Iterator[str]:
    """Whoever catches everything hides defects, unless it is the place where they are recorded."""
    for function, node in source.functions():
        if isinstance(node, ast.ExceptHandler) and _catches_everything(node.type):
            raises_again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if not raises_again and (source.path, function) not in BOUNDARIES:
                yield f"{function or 'the module'}, line {node.lineno}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("suppress", "contextlib.suppress"):
            yield from (
                f"{function or 'the module'}, line {node.lineno}" for _ in filter(_catches_everything, node.args)
            )


def _catches_everything(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    names = {ast.unparse(node) for node in ([*caught.elts] if isinstance(caught, ast.Tuple) else [caught])}
    return bool(names & {"Exception", "BaseException", "builtins.Exception", "builtins.BaseException"})


_NO_SUBJECT = re.compile(r"_*(utils?|utilities|helpers?|commons?|base|bases|misc|shared|stuff|tools?)")


def every_module_has_a_subject(source: Source) -> Iterator[str]:
    """A name like a drawer's says nothing of what is in it."""
    for part in PurePosixPath(source.path).with_suffix("").parts:
        if _NO_SUBJECT.fullmatch(part.lower()):
            yield part


_LATER = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b(?!.*#\d+)", re.IGNORECASE)


def what_is_left_to_do_has_an_issue(source: Source) -> Iterator[str]:
    """A remark in the code is forgotten, an issue is not."""
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        is_prose = token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.endswith('"""'))
        if is_prose and _LATER.search(token.string):
            yield f"line {token.start[0]}"


def nothing_is_replaced_by_its_path(source: Source) -> Iterator[str]:
    """A collaborator is handed in: a patch that is needed is a parameter that is missing."""
    if source.path.startswith("tests/"):
        yield from (name for name in source.imports if within(name, ["unittest.mock", "mock", "pytest_mock"]))
        for _, node in source.functions():
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("monkeypatch.setattr", "monkeypatch.delattr"):
                yield f"line {node.lineno}"


@dataclass(frozen=True)
class Case:
    """A snippet at a path, and how many violations a rule finds in it."""

    path: str
    text: str
    violations: int = 1


RULES: dict[Rule, tuple[list[Source], list[Case]]] = {
    runners_know_only_the_domain: (
        PRODUCT,
        [
            Case("runners/worker.py", "from graphql_api.service.updates import Updates"),
            Case("runners/worker.py", "import graphql_api.settings as s"),
            Case("runners/worker.py", "def f():\n    from graphql_api import app"),
            Case("runners/toolchain/go.py", "from graphql_api.domainx import y"),
            Case("runners/worker.py", "from tests.builders import STACK"),
            Case("runners/worker.py", "importlib.import_module('graphql_api.schema')"),
            Case("runners/worker.py", "import graphql_api.domain\nfrom graphql_api.domain.errors import X", 0),
            Case("runners/worker.py", "from . import runs\nfrom .runs import Run\nimport runners.runs", 0),
            Case("runners/worker.py", "'''import graphql_api.app'''", 0),
            Case("graphql_api/app.py", "import graphql_api.service", 0),
        ],
    ),
    only_app_knows_the_runners: (
        PRODUCT,
        [
            Case("graphql_api/cli/front.py", "from runners import toolchain"),
            Case("graphql_api/schema/mutations.py", "import runners.worker"),
            Case("graphql_api/cli/demo.py", "if TYPE_CHECKING:\n    from runners.worker import Worker"),
            Case("graphql_api/app.py", "from runners.worker import Worker", 0),
            Case("graphql_api/cli/front.py", "import runnersx", 0),
        ],
    ),
    only_app_knows_the_adapters: (
        PRODUCT,
        [
            Case("graphql_api/cli/front.py", "from graphql_api.adapters import open_backends"),
            Case("graphql_api/service/watch.py", "from ..adapters.in_process import InProcessWakeups"),
            Case("runners/worker.py", "from graphql_api import adapters"),
            Case("graphql_api/adapters/sqlite/database.py", "from graphql_api.adapters import stored", 0),
            Case("graphql_api/app.py", "from graphql_api.adapters import open_backends", 0),
        ],
    ),
    imports_point_one_way: (
        PRODUCT,
        [
            Case("graphql_api/domain/records.py", "from graphql_api.service import watch"),
            Case("graphql_api/domain/records.py", "from graphql_api import settings"),
            Case("graphql_api/domain/records.py", "from ..settings import Settings"),
            Case("graphql_api/domain/records.py", "import runners"),
            Case("graphql_api/domain/records.py", "from . import errors\nfrom .errors import X", 0),
            Case("graphql_api/service/watch.py", "from graphql_api.adapters.in_process import X"),
            Case("graphql_api/service/watch.py", "from graphql_api.schema import x"),
            Case("graphql_api/service/watch.py", "from graphql_api.transport import x"),
            Case("graphql_api/service/watch.py", "from runners.worker import Worker"),
            Case("graphql_api/service/watch.py", "from graphql_api.settings import Settings"),
            Case("graphql_api/service/watch.py", "from graphql_api.service import updates", 0),
            Case("graphql_api/schema/__init__.py", "from graphql_api.adapters import x"),
            Case("graphql_api/schema/context.py", "from graphql_api.transport.guard import Access"),
            Case("graphql_api/schema/context.py", "from graphql_api.service.updates import Updates", 0),
            Case("graphql_api/transport/endpoint.py", "from graphql_api.app import open_app"),
            Case("graphql_api/transport/endpoint.py", "from graphql_api.schema import schema", 0),
            Case("graphql_api/adapters/sqlite/database.py", "from graphql_api.service import watch"),
            Case("graphql_api/adapters/sqlite/database.py", "from graphql_api.settings import Settings"),
            Case("graphql_api/cli/demo.py", "from graphql_api.app import open_app"),
            Case("runners/supervisor.py", "from runners import process"),
            Case("runners/process.py", "from graphql_api.domain.records import StackUpdate"),
            Case("runners/modules/x/generate.py", "import runners"),
        ],
    ),
    supervisor_and_process_need_nothing_but_python: (
        PRODUCT,
        [
            Case("runners/supervisor.py", "import yaml"),
            Case("runners/process.py", "from pydantic import BaseModel"),
            Case("runners/supervisor.py", "from runners.process import x"),
            Case("runners/supervisor.py", "import os.path, json\nfrom collections.abc import Mapping", 0),
            Case("runners/engine.py", "import pydantic", 0),
        ],
    ),
    the_domain_is_pure: (
        PRODUCT,
        [
            *(Case("graphql_api/domain/x.py", f"import {name}") for name in ("asyncio", "sqlite3", "motor", "os.path")),
            *(Case("graphql_api/domain/x.py", f"from {name} import y") for name in ("starlette.routing", "strawberry")),
            Case("graphql_api/domain/x.py", "import pydantic, subprocess", 2),
            Case("graphql_api/domain/x.py", "import yaml, re, json\nfrom datetime import datetime", 0),
            Case("graphql_api/service/x.py", "import asyncio", 0),
        ],
    ),
    a_driver_is_known_to_its_adapter_only: (
        PRODUCT,
        [
            Case("graphql_api/app.py", "from motor.motor_asyncio import AsyncIOMotorClient"),
            Case("graphql_api/adapters/__init__.py", "import pymongo"),
            Case("graphql_api/adapters/stored.py", "from bson import ObjectId"),
            Case("graphql_api/adapters/mongo/database.py", "import sqlite3"),
            Case("graphql_api/domain/records.py", "def f():\n    import sqlite3"),
            Case("runners/worker.py", "__import__('bson')"),
            Case("graphql_api/adapters/mongo/documents.py", "import bson, motor, pymongo.errors", 1),
            Case("graphql_api/adapters/sqlite/database.py", "import sqlite3", 0),
        ],
    ),
    only_settings_reads_the_environment: (
        PRODUCT,
        [
            Case("runners/toolchain/go.py", "import os\npath = os.environ['PATH']"),
            Case("graphql_api/app.py", "import os\nos.getenv('PATH')"),
            Case("graphql_api/app.py", "from os import environ"),
            Case("graphql_api/app.py", "from os import getenv as g"),
            Case("graphql_api/app.py", "def f(environ=os.environb): ..."),
            Case("graphql_api/settings.py", "import os\nos.environ", 0),
            Case("runners/modules/x/generate.py", "os.environ", 0),
            Case("graphql_api/app.py", "settings.environment\nos.path", 0),
        ],
    ),
    everything_is_caught_at_boundaries_only: (
        PRODUCT,
        [
            Case("graphql_api/app.py", "try: ...\nexcept: pass"),
            Case("graphql_api/app.py", "try: ...\nexcept Exception: pass"),
            Case("graphql_api/app.py", "try: ...\nexcept BaseException as error: raise X from error"),
            Case("graphql_api/app.py", "try: ...\nexcept (ValueError, Exception): pass"),
            Case("graphql_api/app.py", "def _carry_out():\n    try: ...\n    except Exception: pass"),
            Case("runners/worker.py", "def other():\n    try: ...\n    except Exception: pass"),
            Case("runners/worker.py", "with contextlib.suppress(Exception): ..."),
            Case("runners/worker.py", "async def _carry_out():\n    try: ...\n    except Exception: pass", 0),
            Case("graphql_api/app.py", "try: ...\nexcept BaseException:\n    close()\n    raise", 0),
            Case("graphql_api/app.py", "try: ...\nexcept (ValueError, OSError): pass\nwith suppress(OSError): ...", 0),
        ],
    ),
    every_module_has_a_subject: (
        EVERYTHING,
        [
            *(Case(f"runners/{name}.py", "") for name in ("utils", "helpers", "common", "base", "_util", "Misc")),
            Case("graphql_api/utils/text.py", ""),
            Case("tests/helpers.py", ""),
            Case("runners/toolchain/cli.py", "", 0),
            Case("tests/unit/test_engine.py", "", 0),
            Case("graphql_api/database.py", "", 0),
        ],
    ),
    what_is_left_to_do_has_an_issue: (
        EVERYTHING,
        [
            Case("runners/x.py", "x = 1  # TODO: later"),
            Case("runners/x.py", "# fixme"),
            Case("runners/x.py", '"""XXX think again."""'),
            Case("runners/x.py", "x = 1  # TODO(#12): later\n# FIXME later, see #3", 0),
            Case("runners/x.py", "todo = 'TODO'\n# methods, hacks, todos", 0),
        ],
    ),
    nothing_is_replaced_by_its_path: (
        EVERYTHING,
        [
            Case("tests/unit/test_x.py", "from unittest import mock"),
            Case("tests/unit/test_x.py", "from unittest.mock import patch"),
            Case("tests/unit/test_x.py", "monkeypatch.setattr('runners.runs.POLL', 1)"),
            Case("tests/unit/test_x.py", "import unittest\nmonkeypatch.chdir(tmp_path)", 0),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_code_keeps_the_rule(rule: Rule) -> None:
    """No source breaks it."""
    broken = [f"{source.path}: {violation}" for source in RULES[rule][0] for violation in rule(source)]

    assert not broken, f"{rule.__doc__}\n" + "\n".join(broken)


@pytest.mark.parametrize(
    ("rule", "case"),
    [
        pytest.param(rule, case, id=f"{rule.__name__}-{number}")
        for rule, (_, cases) in RULES.items()
        for number, case in enumerate(cases)
    ],
)
def test_a_rule_finds_what_breaks_it_and_nothing_else(rule: Rule, case: Case) -> None:
    """A rule that can't be broken protects nothing."""
    assert len(list(rule(Source(case.path, case.text)))) == case.violations


def test_the_rules_are_about_the_code_that_is_there() -> None:
    """Paths that a rule names exist: a file that moved takes its rule along."""
    paths = {source.path for source in PRODUCT}
    functions = {(source.path, name) for source in PRODUCT for name, _ in source.functions()}
    named = {*MAY_KNOW, *READS_THE_ENVIRONMENT, *DRIVERS.values(), "graphql_api/app.py"}

    assert not {name for name in named if not any(path.startswith(name) for path in paths)}
    assert not BOUNDARIES.keys() - functions
    assert len(PRODUCT) > 30


def test_boundaries_that_catch_nothing_are_not_listed() -> None:
    """The list of boundaries is as short as it can be."""
    catching = {
        (source.path, name)
        for source in PRODUCT
        for name, node in source.functions()
        if isinstance(node, ast.ExceptHandler) and _catches_everything(node.type)
    }

    assert BOUNDARIES.keys() <= catching


@pytest.mark.parametrize("package", ["graphql_api", "runners"])
def test_importing_the_package_loads_nothing_else(package: str) -> None:
    """The map of the package costs nothing, and has no effect."""
    script = f"import sys; before = set(sys.modules); import {package}; print(*sorted(set(sys.modules) - before))"

    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)

    assert found.stdout.split() == [package]


def test_the_domain_loads_no_framework() -> None:
    """Also by way of others nothing heavy comes in: records and manifests can be used by any program."""
    script = "import sys, graphql_api.domain.ports, graphql_api.domain.manifest; print(*sys.modules)"

    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, env={})

    loaded = {name.partition(".")[0] for name in found.stdout.split()}
    assert not loaded & {"asyncio", "sqlite3", "motor", "pymongo", "starlette", "strawberry", "pydantic", "graphql"}
