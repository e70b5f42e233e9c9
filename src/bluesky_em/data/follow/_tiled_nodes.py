"""The nodes of one stream in Tiled as they grow: tables of events, and arrays."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
import pyarrow
import stamina

from ._tiled_events import CLOSED

ARROW = "application/vnd.apache.arrow.file"
UNSETTLED = 10.0  # seconds in which a row that was announced must be there
SEEN = 10_000  # rows, the newest, that are known when they come again

Row = dict[str, Any]


class Table:
    """An event table: its rows, once each, in order.

    Tiled announces rows before it has them, perhaps in vain, and tells of each only once: so a row
    is known by its number and time, and where a number is left out the table is read.

    Args:
        client: of its node.
    """

    def __init__(self, client: Any):
        self._client = client
        self.columns = set(client.columns)
        self.count = 0
        """rows known so far"""
        self._rows: deque[Row] = deque()
        self._first = 0
        self._seen: dict[tuple[Any, Any], None] = {}
        self._last = 0
        self._last_key: tuple[Any, Any] | None = None

    def row(self, index: int) -> Row:
        """Give a row, and forget those before it."""
        while self._first < index:
            self._rows.popleft()
            self._first += 1
        return self._rows[0]

    def hear(self, message: Mapping[str, Any] | None) -> None:
        """Take in rows that were appended; read the table if some were missed."""
        if message is CLOSED:
            return
        if message is None or not message.get("payload"):
            self._look()
            return
        rows = _decode(message["payload"])
        if rows and rows[0]["seq_num"] > self._last + 1:
            self._look()
        for row in rows:
            if _key(row) not in self._seen:
                self._add(row)

    def _look(self) -> None:
        there = _decode(_get(self._client, self._client.item["links"]["full"], {}, ARROW))
        if 0 < self.count <= len(there) and _key(there[self.count - 1]) != self._last_key:
            # one was missed, which its number did not tell: those not given are as they are there
            self._rows, self.count = deque(), self._first
        for row in there[self.count :]:
            self._add(row)

    def _add(self, row: Row) -> None:
        self._rows.append(row)
        self._last_key = _key(row)
        self._seen[self._last_key] = None
        if len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]
        self._last = row["seq_num"]
        self.count += 1


class Array:
    """An array that grows along its first axis, or that updates change.

    Args:
        client: of its node, with data sources.
        key: what our metadata are under, in its metadata.
        patience: s that whoever reads values waits for a server that is away.
    """

    def __init__(self, client: Any, key: str, patience: float):
        self._client = client
        self._patience = patience
        self._key = key
        self.about: Mapping[str, Any] = {}
        """our metadata: `segments`, `failed`, perhaps `update`; empty for other packages' arrays"""
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype("u1")
        self._promised: Mapping[str, int] = {}
        self._take(client)

    @property
    def count(self) -> int:
        """How many points it has."""
        if self._is_untold():
            self.hear(None)
        if self._is_untold():
            return 0
        return self.about["update"]["count"] if "update" in self.about else self.shape[0]

    def describe(self, metadata: Mapping[str, Any]) -> None:
        """Take in its node's metadata, unless they are older than what is known."""
        about = metadata.get(self._key, {})
        if all(len(about.get(part, ())) >= len(known) for part, known in self._parts.items()):
            self.about = about

    def hear(self, message: Mapping[str, Any] | None) -> None:
        """Take in how far it has grown; ask, if that may have been missed."""
        if message is None:
            self._take(self._client.refresh())
        elif message["type"] == "array-ref":
            self._promised = message["data_source"]["properties"]
            self.shape = tuple(message["shape"])
        elif message["type"] == "array-data" and message.get("offset"):
            self.shape = (message["offset"][0] + message["shape"][0], *self.shape[1:])

    def __getitem__(self, index: int | tuple[slice, ...]) -> np.ndarray:
        """Read a row, or a part, over HTTP; a server that is away is waited for."""
        parts = index if isinstance(index, tuple) else (slice(index, index + 1),)
        asked = ",".join(f"{part.start}:{part.stop}" for part in parts)
        shape = [part.stop - part.start for part in parts] + list(self.shape[len(parts) :])
        link = self._client.item["links"]["full"]
        get = stamina.retry(on=httpx.TransportError, attempts=None, timeout=self._patience)(
            _get_settled
        )
        data = get(self._client, link, {"slice": asked}, "application/octet-stream")
        values = np.frombuffer(data, self.dtype).reshape(shape)
        return values if isinstance(index, tuple) else values[0]

    def _take(self, client: Any) -> None:
        structure = client.structure()
        self.shape = tuple(structure.shape)
        self.dtype = structure.data_type.to_numpy_dtype()
        self._promised = client.data_sources()[0].properties
        self.about = client.metadata.get(self._key, {})

    @property
    def _parts(self) -> dict[str, Any]:
        return {part: self.about.get(part, ()) for part in ("segments", "failed")}

    def _is_untold(self) -> bool:
        """Tell whether our metadata do not say yet which frames are in the last rows."""
        return any(self._promised.get(part, 0) > len(told) for part, told in self._parts.items())


def _key(row: Row) -> tuple[Any, Any]:
    """Give what tells a row from all others: after a pause a number may come again."""
    return row["seq_num"], row["time"]


def _get(client: Any, link: str, params: dict[str, str], media_type: str) -> bytes:
    from tiled.client.utils import handle_error  # seconds of imports

    http = client.context.http_client
    response = http.get(link, params=params, headers={"Accept": media_type})
    handle_error(response)
    return response.read()


_get_settled = stamina.retry(on=httpx.HTTPStatusError, timeout=UNSETTLED)(_get)


def _decode(data: bytes) -> list[Row]:
    return pyarrow.ipc.open_file(data).read_all().to_pylist()
