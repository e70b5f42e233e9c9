"""The nodes of one stream in Tiled as they grow: tables of events, and arrays."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
import pyarrow
import stamina

from bluesky_em.errors import TiledFailed
from bluesky_em.files.map_rows import MapRows
from bluesky_em.files.tiled.row_map import lengths, row_of

from .._tiled_connection import ask_until
from ._tiled_events import CLOSED

ARROW = "application/vnd.apache.arrow.file"
ANNOUNCED_TIMEOUT = 10.0  # seconds from a row's announcement until it can be read
REFUSED = (httpx.HTTPStatusError, TiledFailed)  # by a server that has not stored the row yet
KNOWN_ROWS_LIMIT = 10_000  # newest rows that are recognized when they are announced again

Row = dict[str, Any]


def read_rows(client: Any) -> list[Row]:
    """Read all rows of a table's node, with the values as they were written."""
    return _decode(_get(client, client.item["links"]["full"], {}, ARROW))


class Table:
    """An event table: its rows, once each, in order.

    Tiled announces rows before it has stored them, and does so once, even if storing fails later.
    So rows are identified by number and time, and if a number is missing the table is read.

    Args:
        client: of its node.
    """

    def __init__(self, client: Any):
        self._client = client
        self.columns = set(client.columns)
        self.count = 0
        """number of rows known so far"""
        self._rows: deque[Row] = deque()
        self._first = 0
        self._known: dict[tuple[Any, Any], None] = {}
        self._last = 0
        self._last_key: tuple[Any, Any] | None = None

    def row(self, index: int) -> Row:
        """Return a row, and forget those before it."""
        while self._first < index:
            self._rows.popleft()
            self._first += 1
        return self._rows[0]

    def update(self, message: Mapping[str, Any] | None) -> None:
        """Add the rows of a message; read the table if some may be missing."""
        if message is CLOSED:
            return
        if message is None or not message.get("payload"):
            self._read()
            return
        rows = _decode(message["payload"])
        if rows and rows[0]["seq_num"] > self._last + 1:
            self._read()
        for row in rows:
            if _key(row) not in self._known:
                self._add(row)

    def _read(self) -> None:
        stored = read_rows(self._client)
        if 0 < self.count <= len(stored) and _key(stored[self.count - 1]) != self._last_key:
            # a repeated number hid a missing row: take all rows that were not returned from here
            self._rows, self.count = deque(), self._first
        for row in stored[self.count :]:
            self._add(row)

    def _add(self, row: Row) -> None:
        self._rows.append(row)
        self._last_key = _key(row)
        self._known[self._last_key] = None
        if len(self._known) > KNOWN_ROWS_LIMIT:
            del self._known[next(iter(self._known))]
        self._last = row["seq_num"]
        self.count += 1


class SideTable:
    """A table of more columns of the same events, without their numbers and times.

    Args:
        client: of its node.
    """

    def __init__(self, client: Any):
        self._client = client
        self.columns = set(client.columns)
        self._rows: list[Row] = []
        self._announced = 0
        self._patience = 0.0
        self.update(None)

    @property
    def count(self) -> int:
        """Number of its rows; the table is read if more were announced."""
        if len(self._rows) < self._announced:
            self._read()
            if time.monotonic() > self._patience:  # they were counted twice, or never stored
                self._announced = len(self._rows)
        return len(self._rows)

    def row(self, index: int) -> Row:
        """Return a row."""
        return self._rows[index]

    def update(self, message: Mapping[str, Any] | None) -> None:
        """Count the rows of a message; without one, read the table."""
        if message is CLOSED:
            return
        if message is None or not message.get("payload"):
            self._read()
        else:
            self._announced += len(_decode(message["payload"]))
            self._patience = time.monotonic() + ANNOUNCED_TIMEOUT

    def _read(self) -> None:
        self._rows = read_rows(self._client)
        self._announced = max(self._announced, len(self._rows))


class Array:
    """An array that grows along its first axis, or that updates change.

    Args:
        client: of its node, with data sources.
        key: of our metadata in the node's metadata.
        patience: s that reading waits for a server that is away.
    """

    def __init__(self, client: Any, key: str, patience: float):
        self._client = client
        self._patience = patience
        self._key = key
        self.about: Mapping[str, Any] = {}
        """our metadata: `segments`, `failed`, perhaps `update`; empty for other packages' arrays"""
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype("u1")
        self._announced: Mapping[str, int] = {}
        self._load(client)

    @property
    def count(self) -> int:
        """Number of its points."""
        if self._is_behind():
            self.update(None)
        if self._is_behind():
            return 0
        if "update" in self.about:
            return self.about["update"]["count"]
        if "points" in self.about:
            return sum(lengths(self.about["segments"], self._announced["rows"]))
        return self.shape[0]

    def row(self, index: int) -> int:
        """Return the row of a point, which counts the frames that were taken."""
        return row_of(self.about["segments"], index) if "points" in self.about else index

    @property
    def rows(self) -> Any:
        """The array as rows of frames, also where it is a map of lines."""
        return MapRows(self) if "points" in self.about else self

    def describe(self, metadata: Mapping[str, Any]) -> None:
        """Take the node's metadata from a message, unless they are older than the known ones."""
        about = metadata.get(self._key, {})
        if all(len(about.get(part, ())) >= len(known) for part, known in self._parts.items()):
            self.about = about

    def update(self, message: Mapping[str, Any] | None) -> None:
        """Take its size from a message; read the node if messages may be missing."""
        if message is None:
            self._load(self._client.refresh())
        elif message["type"] == "array-ref":
            self._announced = message["data_source"]["properties"]
            self.shape = tuple(message["shape"])
        elif message["type"] == "array-data" and message.get("offset"):
            self.shape = (message["offset"][0] + message["shape"][0], *self.shape[1:])

    def __getitem__(self, index: int | tuple[slice, ...]) -> np.ndarray:
        """Read a row, or a part, over HTTP; wait for a server that is away."""
        whole = index if isinstance(index, tuple) else (slice(index, index + 1),)
        parts = whole[:-1] if whole[-1] == slice(None) else whole  # all of the last dimension
        wanted = ",".join(f"{part.start}:{part.stop}" for part in parts)
        shape = [part.stop - part.start for part in parts] + list(self.shape[len(parts) :])
        link = self._client.item["links"]["full"]
        get = stamina.retry(on=REFUSED, timeout=min(ANNOUNCED_TIMEOUT, self._patience))(_get)
        data = ask_until(
            time.monotonic() + self._patience,
            lambda: get(self._client, link, {"slice": wanted}, "application/octet-stream"),
            on=(ConnectionError,),
        )
        values = np.frombuffer(data, self.dtype).reshape(shape)
        return values if isinstance(index, tuple) else values[0]

    def _load(self, client: Any) -> None:
        structure = client.structure()
        self.shape = tuple(structure.shape)
        self.dtype = structure.data_type.to_numpy_dtype()
        self._announced = client.data_sources()[0].properties
        self.about = client.metadata.get(self._key, {})

    @property
    def _parts(self) -> dict[str, Any]:
        return {part: self.about.get(part, ()) for part in ("segments", "failed", "facts")}

    def _is_behind(self) -> bool:
        """Return whether our metadata do not describe the frames in the last rows yet."""
        return any(self._announced.get(part, 0) > len(known) for part, known in self._parts.items())


class RaggedArray:
    """An array of rows of different lengths; a row is written before its event.

    It has none for a moment when a new writer or a new connection begins: they write it again.

    Args:
        client: of its node.
    """

    def __init__(self, client: Any):
        self._client = client

    @property
    def count(self) -> float:
        """Number of its points: as many as there are events."""
        return math.inf

    @stamina.retry(on=(*REFUSED, IndexError), timeout=ANNOUNCED_TIMEOUT)
    def __getitem__(self, index: int) -> Any:
        """Read a row over HTTP, as nested lists."""
        return self._client.refresh().read(slice(index, index + 1)).tolist()[0]


def _key(row: Row) -> tuple[Any, Any]:
    """Return what identifies a row: after a pause its number may be used again."""
    return row["seq_num"], row["time"]


def _get(client: Any, link: str, params: dict[str, str], media_type: str) -> bytes:
    from tiled.client.utils import handle_error  # seconds of imports

    http = client.context.http_client
    response = http.get(link, params=params, headers={"Accept": media_type})
    handle_error(response)
    return response.read()


def _decode(data: bytes) -> list[Row]:
    return pyarrow.ipc.open_file(data).read_all().to_pylist()
