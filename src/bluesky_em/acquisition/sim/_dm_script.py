"""A DM-Script interpreter, just large enough for the scripts that the driver sends.

Statements are calls and assignments, with literals, names, and calls as arguments; ``a.f(b)``
means ``f(a, b)``, as in DigitalMicrograph. Anything else is an error; so is an unknown
function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Functions = Mapping[str, Callable[..., Any]]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)
      | "(?P<string>[^"]*)"
      | (?P<name>[A-Za-z_]\w*)
      | (?P<mark>[().,=])
    )""",
    re.VERBOSE,
)
_TYPES = {"number", "string", "TagGroup", "image"}


class ScriptError(RuntimeError):
    """The error of DigitalMicrograph for a script that it cannot run."""


def run(script: str, functions: Functions) -> None:
    """Run a script; its statements are separated by ``;`` or newlines."""
    variables: dict[str, Any] = {}
    for text in re.split(r'[;\n](?=(?:[^"]*"[^"]*")*[^"]*$)', script):
        if text.strip():
            _Statement(text.strip(), functions, variables).run()


class _Statement:
    """One statement, read from left to right."""

    def __init__(self, text: str, functions: Functions, variables: dict[str, Any]) -> None:
        self._text, self._functions, self._variables = text, functions, variables
        self._tokens = self._tokenize()

    def run(self) -> None:
        if len(self._tokens) > 2 and self._tokens[0][1] in _TYPES and self._kind(1) == "name":
            self._tokens.pop(0)
        if self._kind(0) == "name" and self._is_mark(1, "="):
            name = self._tokens.pop(0)[1]
            self._tokens.pop(0)
            self._variables[name] = self._expression()
        else:
            self._expression()
        if self._tokens:
            raise self._error(f"unexpected '{self._tokens[0][1]}'")

    def _tokenize(self) -> list[tuple[str, str]]:
        tokens, at = [], 0
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None:
                raise self._error(f"unexpected '{self._text[at:].strip()[:1]}'")
            kind = match.lastgroup or "mark"
            tokens.append((kind, match.group(kind)))
            at = match.end()
        return tokens

    def _expression(self) -> Any:
        value = self._term()
        while self._is_mark(0, "."):
            self._tokens.pop(0)
            value = self._call(self._take("name"), value)
        return value

    def _term(self) -> Any:
        if not self._tokens:
            raise self._error("the statement ends too early")
        kind, text = self._tokens.pop(0)
        if kind == "number":
            return float(text)
        if kind == "string":
            return text
        if kind == "name" and self._is_mark(0, "("):
            return self._call(text)
        if kind == "name" and text in self._variables:
            return self._variables[text]
        raise self._error(f"the variable '{text}' has not been declared")

    def _call(self, name: str, *first: Any) -> Any:
        arguments = [*first, *self._arguments()]
        if name not in self._functions:
            raise self._error(f"the function '{name}' is not known")
        try:
            return self._functions[name](*arguments)
        except TypeError as exc:
            raise self._error(f"cannot find a function '{name}' with these arguments") from exc

    def _arguments(self) -> list[Any]:
        self._take("mark", "(")
        arguments = []
        while not self._is_mark(0, ")"):
            arguments.append(self._expression())
            if not self._is_mark(0, ")"):
                self._take("mark", ",")
        self._take("mark", ")")
        return arguments

    def _take(self, kind: str, text: str | None = None) -> str:
        if self._kind(0) != kind or (text is not None and self._tokens[0][1] != text):
            raise self._error(f"'{text or kind}' expected")
        return self._tokens.pop(0)[1]

    def _kind(self, index: int) -> str | None:
        return self._tokens[index][0] if index < len(self._tokens) else None

    def _is_mark(self, index: int, text: str) -> bool:
        return index < len(self._tokens) and self._tokens[index] == ("mark", text)

    def _error(self, reason: str) -> ScriptError:
        return ScriptError(f"Script error: {reason}, in: {self._text}")
