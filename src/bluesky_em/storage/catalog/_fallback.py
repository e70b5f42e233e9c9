"""The form in which a run is written after Tiled has refused it: columns as text, or left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Column = tuple[str, str]
"""A stream and a data key, as they are called in Tiled."""


class Fallback:
    """The last resort of a run: each refusal makes its next attempt simpler.

    First the columns that cannot be written become text, or those that are not simple scalars if it
    is not clear which these are; then all columns of the stream; at last only the frames of our
    detectors are left, with the events' numbers and times. The journal keeps everything.
    """

    def __init__(self) -> None:
        self.text: set[Column] = set()
        """columns that are JSON text, under another name; other packages' files are left out"""
        self.frames_only = False
        """whether only frames of our detectors are written"""
        self.why = ""
        """what Tiled said"""

    def __str__(self) -> str:
        if self.frames_only:
            return "with its frames only"
        return f"with {sorted(key for _, key in self.text)} as text"

    def dump(self) -> dict[str, Any]:
        """Return it as plain data, for the run's manifest; empty if it is not needed."""
        if not self.is_needed:
            return {}
        text = sorted([*column] for column in self.text)
        return {"text": text, "frames_only": self.frames_only, "why": self.why}

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> Fallback:
        """Create one from what `dump` returned."""
        fallback = cls()
        fallback.text = {(stream, key) for stream, key in dumped.get("text", [])}
        fallback.frames_only = dumped.get("frames_only", False)
        fallback.why = dumped.get("why", "")
        return fallback

    @property
    def is_needed(self) -> bool:
        """Whether Tiled has refused the run."""
        return bool(self.text) or self.frames_only

    def leaves_out(self, column: Column) -> bool:
        """Check whether the data of other packages' files in a column are left out."""
        return self.frames_only or column in self.text

    def may_have_left(self, stream: str, node: str) -> bool:
        """Check whether an attempt that was refused may have left a node in a stream."""
        is_table = node.startswith("internal")
        return is_table or self.frames_only or (stream, node) in self.text

    def simplify(
        self, exc: Exception, columns: Mapping[Column, Mapping[str, Any]], guilty: Iterable[Column]
    ) -> bool:
        """Simplify the next attempt; return False if nothing is left to try.

        Args:
            exc: the error.
            columns: the storable data keys of the stream that was being written; none if it was
                the run itself.
            guilty: those of them that are known not to be writable.
        """
        if self.frames_only:
            return False
        self.why = (str(exc) or repr(exc)).splitlines()[0]
        named = {column for column in columns if f"'{column[1]}'" in self.why}
        unusual = {column for column, key in columns.items() if _is_unusual(key)}
        for suspects in (set(guilty), named, unusual, set(columns)):
            if suspects - self.text:
                self.text |= suspects
                return True
        self.frames_only = True
        return True


def _is_unusual(data_key: Mapping[str, Any]) -> bool:
    """Check whether the values are arrays, files, or integers beyond 63 bits."""
    wide = data_key.get("dtype_numpy") == "<u8"
    return wide or data_key["dtype"] == "array" or "external" in data_key
