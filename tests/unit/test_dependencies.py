"""Every package that is imported is a dependency of the project, and not only of another one."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import bluesky_em

SOURCE = Path(bluesky_em.__file__).parent
OF_THE_INSTRUMENT = {"DigitalMicrograph", "autoscript_tem_microscope_client"}  # not on any registry
PYTHON_37 = {"tomli"}  # Python's own tomllib is newer than DigitalMicrograph's Python


def imported() -> Iterator[str]:
    """Yield the name of each top-level module that is imported anywhere."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield str(node.module).partition(".")[0]


def test_each_imported_package_is_named_in_the_projects_own_dependencies():
    names = {re.split(r"[^\w.-]", each)[0].lower() for each in requires("bluesky-em") or ()}
    others = {*imported()} - sys.stdlib_module_names - OF_THE_INSTRUMENT - PYTHON_37
    distributions = packages_distributions()
    assert {
        module: distributions.get(module, ["not installed"])
        for module in others - {"bluesky_em"}
        if not names & {name.lower() for name in distributions.get(module, [])}
    } == {}


def test_one_module_alone_uses_what_is_private_in_bluesky_tiled_plugins():
    users = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                if node.module.startswith("bluesky_tiled_plugins."):  # the package itself is public
                    users.add(path.relative_to(SOURCE).as_posix())
    assert users == {"storage/catalog/_plugins.py"}
