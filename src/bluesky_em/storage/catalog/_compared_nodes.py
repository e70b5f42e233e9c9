"""Nodes to which a run can be written as to Tiled's, and which compare instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import numpy as np
import pyarrow

from bluesky_em.files.results import RESULTS
from bluesky_em.files.tiled.health import check_health
from bluesky_em.files.tiled.node_metadata import as_json
from bluesky_em.files.tiled.results_container import is_published
from bluesky_em.files.tiled.row_map import KEY
from bluesky_em.files.tiled.table_rows import differing, is_same, read

Difference = tuple[str, str]
"""`lost`, `doubled` or `wrong`, and in words what differs."""
_IGNORED = {"notes"}
"""Metadata that depend on how documents came, not only on what they say."""
_LENGTH = 80  # characters of a value in a message


class ComparedNode:
    """A node that was created; its metadata are compared when all has been written.

    Args:
        path: of the node, which begins with the run's uid.
        actual: the node in Tiled; None if there is none.
        metadata: that it should have.
    """

    def __init__(self, path: str, actual: Any, metadata: Mapping[str, Any]):
        self.path = path
        self.uri = path
        self.name = path.partition("/")[2] or "the run"
        self.actual = actual
        self.metadata = dict(metadata)
        self._found: list[Difference] = []

    def patch_metadata(self, *, metadata_patch: Any, drop_revision: bool) -> None:
        """Replace entries of the metadata."""
        for each in metadata_patch:
            self.metadata[each["path"].removeprefix("/")] = each["value"]

    def update_metadata(self, *, metadata: Mapping[str, Any], drop_revision: bool) -> None:
        """Add entries to the metadata."""
        self.metadata |= metadata

    def close_stream(self) -> None:
        """Do nothing: there is no stream of messages."""

    def differences(self) -> Iterator[Difference]:
        """Yield what differs in this node."""
        if self.actual is None:
            yield "lost", f"Tiled does not have {self.name}"
            return
        yield from self._metadata_differences()
        yield from self._found

    def _metadata_differences(self) -> Iterator[Difference]:
        found = self.actual.item["attributes"]["metadata"] or {}
        expected = as_json(self.metadata)
        for key in sorted(expected.keys() | found.keys() - _IGNORED):
            if key not in _IGNORED and (where := _where(found.get(key), expected.get(key), key)):
                yield "wrong", f"the metadata of {self.name} differ in Tiled: {where}"


class ComparedContainer(ComparedNode):
    """A run or a stream."""

    def __init__(self, path: str, actual: Any, metadata: Mapping[str, Any]):
        super().__init__(path, actual, metadata)
        self.item = {"id": path.rpartition("/")[2]}
        self._children: dict[str, ComparedNode] = {}
        self._is_leftover: Callable[[str], bool] = lambda key: False

    @property
    def base(self) -> ComparedContainer:
        """This node: it has no other view."""
        return self

    def create_container(self, key: str, *, metadata: Any, **_: Any) -> ComparedContainer:
        """Create a run or a stream."""
        return self._add(key, ComparedContainer(*self._child(key), metadata))

    def create_appendable_table(
        self, key: str, *, schema: pyarrow.Schema, **_: Any
    ) -> ComparedTable:
        """Create a table."""
        return self._add(key, ComparedTable(*self._child(key), schema))

    def new(self, key: str, *, metadata: Any, data_sources: Any, **_: Any) -> ComparedFiles:
        """Create the array of some files."""
        node = self._add(key, ComparedFiles(*self._child(key), metadata))
        node.expect(data_sources[0].structure)
        return node

    def write_array(self, array: Any, *, key: str, metadata: Any, **_: Any) -> ComparedArray:
        """Create an array, and write its first rows."""
        node = self._add(key, ComparedArray(*self._child(key), array, metadata))
        node.patch(array, offset=(0,), extend=True)
        return node

    def write_ragged(self, array: Any, *, key: str, metadata: Any, **_: Any) -> ComparedRagged:
        """Create a ragged array, and write its first rows."""
        node = self._add(key, ComparedRagged(*self._child(key), array, metadata))
        node.patch(array, offset=0, extend=True)
        return node

    def tolerate(self, is_leftover: Callable[[str], bool]) -> None:
        """Set which children, by key, an attempt that was refused may have left."""
        self._is_leftover = is_leftover

    def differences(self) -> Iterator[Difference]:
        """Yield what differs in this node and below it."""
        if self.path:
            yield from super().differences()
        if self.actual is not None:
            for child in self._children.values():
                yield from child.differences()
            if self.path:
                yield from self._unexpected()

    def _unexpected(self) -> Iterator[Difference]:
        for key in sorted({*self.actual} - self._children.keys()):
            is_result = key == RESULTS and is_published(self.actual[key])  # of an earlier version
            if not is_result and not self._is_leftover(key):
                yield "wrong", f"{self.name} has {key} in Tiled, which is not in the journal"

    def _add(self, key: str, node: Any) -> Any:
        self._children[key] = node
        return node

    def _child(self, key: str) -> tuple[str, Any]:
        """Return path and actual node of a child."""
        path = f"{self.path}/{key}".lstrip("/")
        if self.actual is None:
            return path, None
        try:
            return path, getattr(self.actual[key], "base", None) or self.actual[key]
        except KeyError:
            return path, None


class ComparedTable(ComparedNode):
    """A table of events, which is read as a whole when all has been written."""

    def __init__(self, path: str, actual: Any, schema: pyarrow.Schema):
        super().__init__(path, actual, {})
        self._schema = schema if actual is None else actual.structure().arrow_schema_decoded
        self.columns = self._schema.names
        self._rows: list[pyarrow.Table] = []

    def structure(self) -> ComparedTable:
        """Return the structure, that is, the schema."""
        return self

    @property
    def arrow_schema_decoded(self) -> pyarrow.Schema:
        """The columns with their types."""
        return self._schema

    def append_partition(self, partition: int, rows: pyarrow.Table) -> None:
        """Add rows that Tiled should have."""
        self._rows.append(rows)

    def differences(self) -> Iterator[Difference]:
        """Yield missing, doubled and other rows; then of each column the first other value."""
        if self.actual is None:
            yield "lost", f"Tiled does not have {self.name}"
            return
        expected = pyarrow.concat_tables(self._rows)
        if {*expected.column_names} != {*self.actual.columns}:
            there = sorted(self.actual.columns)
            yield "wrong", f"{self.name} has the columns {there} in Tiled"
            return
        try:
            found = read(self.actual, expected.column_names)
        except httpx.HTTPStatusError as exc:
            check_health(self.actual)
            yield "lost", f"the rows of {self.name} cannot be read from Tiled: {exc}"
            return
        yield from self._compare(found, expected)

    def _compare(self, found: pyarrow.Table, expected: pyarrow.Table) -> Iterator[Difference]:
        if "seq_num" in expected.column_names:
            stream = self.path.split("/")[-2]
            yield from _compare_numbers(found["seq_num"], expected["seq_num"], stream)
        elif found.num_rows != expected.num_rows:
            kind = "lost" if found.num_rows < expected.num_rows else "doubled"
            yield kind, f"{self.name} has {found.num_rows} rows in Tiled, not {expected.num_rows}"
        if found.num_rows == expected.num_rows:
            for name, row in differing(found, expected):
                one, other = found[name][row].as_py(), expected[name][row].as_py()
                yield (
                    "wrong",
                    f"{name} in row {row} of {self.name} is {_short(one)} in Tiled, "
                    f"{_short(other)} in the journal",
                )


class ComparedArray(ComparedNode):
    """An array inside events, which is read in the parts in which it is written."""

    def __init__(self, path: str, actual: Any, first: Any, metadata: Mapping[str, Any]):
        super().__init__(path, actual, metadata)
        self.dtype = first.dtype if actual is None else actual.dtype
        self.shape = first.shape
        self._rows = 0

    def patch(self, array: Any, *, offset: Any, extend: bool) -> None:
        """Compare the next rows, unless others before them differ already."""
        start = offset[0] if isinstance(offset, tuple) else offset
        self._rows = start + len(array)
        self.shape = (self._rows, *self.shape[1:])
        if self.actual is None or self._found or self.actual.shape[0] < self._rows:
            return
        try:
            row = self._first_other(array, slice(start, self._rows))
        except httpx.HTTPStatusError as exc:
            check_health(self.actual)
            self._found.append(("lost", f"{self.name} cannot be read from Tiled: {exc}"))
            return
        if row is not None:
            what = f"{self.name} has other values in row {start + row} in Tiled than the journal"
            self._found.append(("wrong", what))

    def differences(self) -> Iterator[Difference]:
        """Yield what differs."""
        yield from super().differences()
        if self.actual is not None and (found := self.actual.shape[0]) != self._rows:
            kind = "lost" if found < self._rows else "doubled"
            yield kind, f"{self.name} has {found} rows in Tiled, events: {self._rows}"

    def _first_other(self, array: Any, rows: slice) -> int | None:
        found, expected = self.actual[rows], array.astype(self.dtype)
        if found.shape != expected.shape:
            return 0
        same = found == expected
        if expected.dtype.kind in "fc":
            same |= (found != found) & (expected != expected)
        other = ~same.reshape(len(array), -1).all(axis=1)
        return int(np.argmax(other)) if other.any() else None


class ComparedRagged(ComparedArray):
    """A ragged array inside events."""

    def _first_other(self, array: Any, rows: slice) -> int | None:
        pairs = zip(self.actual[rows].tolist(), array.tolist(), strict=True)
        return next((row for row, pair in enumerate(pairs) if not is_same(*pair)), None)


class ComparedFiles(ComparedNode):
    """An array of the data in files. The frames of our detectors are compared by `verify`."""

    def expect(self, structure: Any) -> None:
        """Set the structure that it should have."""
        self._structure = structure

    def differences(self) -> Iterator[Difference]:
        """Yield what differs."""
        yield from super().differences()
        if self.actual is None or KEY in self.metadata:
            return
        shape = tuple(self._structure.shape)
        if tuple(self.actual.shape) != shape:
            yield "wrong", f"{self.name} has the shape {self.actual.shape} in Tiled, not {shape}"


def _compare_numbers(found: Any, expected: Any, stream: str) -> Iterator[Difference]:
    there, wanted = Counter(found.to_pylist()), Counter(expected.to_pylist())
    for number in sorted(wanted.keys() | there.keys()):
        if there[number] < wanted[number]:
            yield "lost", f"event {number} of stream {stream} is not in Tiled"
        elif there[number] > wanted[number]:
            what = f"event {number} of stream {stream} is {there[number]} times in Tiled"
            yield "doubled", what


def _where(found: Any, expected: Any, path: str) -> str:
    """Describe where two values differ first; empty if they do not."""
    if isinstance(found, dict) and isinstance(expected, dict):
        pairs = [(key, found.get(key), expected.get(key)) for key in {**expected, **found}]
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        pairs = [(str(n), *each) for n, each in enumerate(zip(found, expected, strict=True))]
    elif found == expected and isinstance(found, bool) == isinstance(expected, bool):
        return ""
    else:
        return f"{path} is {_short(found)}, not {_short(expected)}"
    for key, one, other in pairs:
        if words := _where(one, other, f"{path}.{key}"):
            return words
    return ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}..."
