"""Find words that the house style replaces: `python -m tests.support.plain_english PATH ...`."""

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
RULES = tomllib.loads((ROOT / "tests" / "plain_english.toml").read_text("utf-8"))
ACCESS = re.compile(r"access|connections|credentials|keys|security", re.IGNORECASE)


def faults(path: Path) -> Iterator[str]:
    """Yield `file:line: word -> what to write` for each word to replace."""
    text = path.read_text("utf-8")
    rules = dict(RULES["words"])
    if ACCESS.search(path.name):
        rules |= RULES["access_control"]
    prose = _prose(text) if path.suffix == ".py" else [(1, text.lower())]
    for first, words in prose:
        for pattern, better in rules.items():
            spaced = pattern.replace(" ", r"\s+")  # a phrase may be broken over two lines
            for match in re.finditer(rf"\b({spaced})\b", words):
                line = first + words.count("\n", 0, match.start())
                yield f"{path}:{line}: {match[0]!r} -> {better}"
    if path.suffix == ".py":
        yield from _first_words(path, ast.parse(text))


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield comments, strings and the words of names, each with its line."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], token.string.lower()
        elif token.type == tokenize.NAME:
            yield token.start[0], token.string.replace("_", " ").strip()
        elif token.type == getattr(tokenize, "FSTRING_MIDDLE", None):  # from Python 3.12 on
            yield token.start[0], token.string.lower()


def _first_words(path: Path, module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        docstring = ast.get_docstring(node) or ""
        rules = dict(RULES["first_words"])
        if isinstance(node, ast.Module):
            rules |= RULES["module_first_words"]
        for pattern, better in rules.items():
            if match := re.match(rf"({pattern})\b", docstring):
                yield f"{path}:{getattr(node, 'lineno', 1)}: begins with {match[0]!r} -> {better}"


def files(*places: str) -> list[Path]:
    """Return the Python and Markdown files below these places."""
    found: set[Path] = set()
    for place in places:
        path = ROOT / place
        found |= {path} if path.is_file() else {*path.rglob("*.py"), *path.rglob("*.md")}
    return sorted(found)


if __name__ == "__main__":
    found = [fault for path in files(*sys.argv[1:]) for fault in faults(path)]
    print(*found, sep="\n")
    sys.exit(f"{len(found)} to replace" if found else 0)
