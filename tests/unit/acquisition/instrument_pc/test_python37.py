"""The rules for software that runs in the vendors' interpreters: Python 3.7, few packages."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.python37 import FILES, NEEDED, PACKAGE

NEWER_THAN_37 = {"graphlib", "tomllib", "zoneinfo"}
ALLOWED = (sys.stdlib_module_names - NEWER_THAN_37) | set(NEEDED)


def executed(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported."""
    for statement in body:
        yield statement
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            yield from executed(statement.orelse)
            continue
        for part in ("body", "orelse", "finalbody", "handlers"):
            yield from executed(getattr(statement, part, []))


def imported(file: str) -> set[str]:
    """What a file imports: top-level packages, and our own files by their path."""
    names: set[str] = set()
    for statement in executed(ast.parse((PACKAGE / file).read_text("utf-8")).body):
        if isinstance(statement, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom) and not statement.level:
            names.add(str(statement.module).partition(".")[0])
        elif isinstance(statement, ast.ImportFrom):
            folder = (PACKAGE / file).parents[statement.level - 1]
            modules = [statement.module] if statement.module else [a.name for a in statement.names]
            names |= {_file(folder, str(module)) for module in modules}
    return names


def _file(folder: Path, module: str) -> str:
    path = folder.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    path = path if path.exists() else folder / "__init__.py"  # a name that is defined there
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_python_37(file: str):
    ast.parse((PACKAGE / file).read_text("utf-8"), file, feature_version=(3, 7))


@pytest.mark.parametrize("file", FILES)
def test_a_file_needs_only_numpy_pyro_and_msgpack(file: str):
    assert imported(file) <= ALLOWED | set(FILES)


def test_imports_are_found_by_these_tests():
    assert imported("server.py") >= {"Pyro5", "errno", "spool.py", "connections.py"}
    assert imported("gatan/camera.py") >= {"numpy", "gatan/scan.py"}
    assert imported("__main__.py") >= {"argparse", "__init__.py"}
