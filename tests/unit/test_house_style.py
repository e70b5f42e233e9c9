"""The size of what a reader has to take in at once, and what the root of the package shows."""

import ast
from pathlib import Path
from statistics import median

import bluesky_em

PACKAGE = Path(bluesky_em.__file__).parent
NODES = [
    (path.relative_to(PACKAGE), node)
    for path in PACKAGE.rglob("*.py")
    for node in ast.walk(ast.parse(path.read_text("utf-8")))
]


def lengths(kind: type | tuple[type, ...]) -> dict[str, int]:
    return {
        f"{path}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1  # type: ignore
        for path, node in NODES
        if isinstance(node, kind)
    }


def test_no_class_is_longer_than_300_lines() -> None:
    assert {name: n for name, n in lengths(ast.ClassDef).items() if n > 300} == {}


def test_no_function_is_longer_than_60_lines_and_half_have_eight_or_fewer() -> None:
    functions = lengths((ast.FunctionDef, ast.AsyncFunctionDef))
    assert {name: n for name, n in functions.items() if n > 60} == {}
    assert median(functions.values()) <= 8


def test_the_root_shows_the_way_of_a_frame_and_little_else() -> None:
    shown = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert shown >= {"acquisition", "detector", "storage", "files", "data", "analysis", "app"}
    assert len(shown) <= 20
