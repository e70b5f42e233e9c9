"""What runs inside DigitalMicrograph and AutoScript's interpreter: Python 3.7, few packages."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bluesky_em

PACKAGE = Path(bluesky_em.__file__).parent / "acquisition" / "instrument_pc"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
NEWER_THAN_37 = {"graphlib", "tomllib", "zoneinfo"}
ALLOWED = (sys.stdlib_module_names - NEWER_THAN_37) | {"numpy", "Pyro5", "msgpack"}


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
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("file", FILES)
def test_it_is_python_37(file: str):
    ast.parse((PACKAGE / file).read_text("utf-8"), file, feature_version=(3, 7))


@pytest.mark.parametrize("file", FILES)
def test_it_needs_only_numpy_pyro_and_msgpack(file: str):
    assert imported(file) <= ALLOWED | set(FILES)


def test_the_rule_sees_what_it_must():
    assert imported("server.py") >= {"Pyro5", "errno", "spool.py", "connections.py"}
    assert imported("gatan/driver.py") >= {"numpy", "exposure.py"}


def test_a_real_python_37_compiles_it():
    python = _python37()
    if python is None:
        pytest.skip("no Python 3.7 on this computer")
    code = (
        "import sys; [compile(open(f, encoding='utf-8').read(), f, 'exec') for f in sys.argv[1:]]"
    )
    files = [str(PACKAGE / file) for file in FILES]
    done = subprocess.run([python, "-c", code, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _python37() -> str | None:
    found = sorted(Path.home().glob(".pyenv/versions/3.7*/bin/python"))
    candidates = [*map(str, found), shutil.which("python3.7")]
    for python in filter(None, candidates):
        # pyenv's shims are there also for versions that are not
        if subprocess.run([python, "--version"], capture_output=True).returncode == 0:
            return python
    return None
