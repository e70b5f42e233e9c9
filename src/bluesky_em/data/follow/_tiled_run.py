"""Runs that are followed through Tiled, from any PC.

The catalog is the complete record. Earlier points are read from it, and so are later ones whenever
messages may be missing. So a follower may begin at any time, whatever a live cache still keeps.
"""

from __future__ import annotations

import logging
import math
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from bluesky_em.axes import Axis
from bluesky_em.files import result_columns
from bluesky_em.files.document_values import as_described
from bluesky_em.files.results import RESULTS
from bluesky_em.files.tiled import results_container
from bluesky_em.files.tiled.address import plain
from bluesky_em.files.tiled.row_map import KEY, axes_at, read_update, reference_at
from bluesky_em.files.tiled.stream_keys import StreamKeys, streams

from .._frame_metadata import metadata_in_tiled
from .._stored_frame import StoredFrame
from .._superseded import superseded
from ._point import End, Point, Values, follow_each_other, reference_of, values_of
from ._tiled_events import CLOSED, TiledEvent, TiledEvents
from ._tiled_nodes import Array, RaggedArray, SideTable, Table

logger = logging.getLogger(__name__)

REREAD_INTERVAL = 5.0  # seconds without messages until the catalog is read again


class TiledRun:
    """One run in Tiled as it grows.

    Args:
        client: the catalog, with data sources.
        run: its uid; it may begin later.
        streams: to follow; None: all.
        patience: s that reading a frame waits for a server that is away.
    """

    def __init__(self, client: Any, run: str, streams: tuple[str, ...] | None, patience: float):
        self.run = run
        self.patience = patience
        self.start: Mapping[str, Any] | None = None
        """its start document; None until the run is in Tiled"""
        self.end: End | None = None
        """how it ended; None until all its points have been returned"""
        self._client = client
        self._wanted = streams
        self._streams: dict[str, _Stream] = {}
        self._metadata: Mapping[str, Any] = {}
        self._events = TiledEvents(client.context.api_key)
        self._handlers: dict[str, Any] = {}
        self._pending: deque[TiledEvent] = deque()
        self._ready: list[Point] = []
        self._last_read = time.monotonic()
        self.subscribe_run()

    def subscribe_run(self) -> None:
        """Wait for the messages of the run."""
        self.subscribe(f"{self._client.uri.rstrip('/')}/{self.run}", self.update, from_start=True)

    def find(self) -> Any:
        """Return the run's node.

        Raises:
            KeyError: it does not exist (yet).
        """
        node = results_container.find_run(self._client, self.run).base
        self.subscribe(node.uri, self.update, from_start=True)  # a run of results is elsewhere
        return node

    def streams_in(self, node: Any) -> Mapping[str, Any]:
        """Return the nodes of the run's streams, by name."""
        return streams(node)

    def subscribe(self, uri: str, handler: Any, *, from_start: bool = False) -> None:
        """Call `handler` with each message of a node."""
        if uri not in self._handlers:
            self._handlers[uri] = handler
            self._events.subscribe(uri, from_start=from_start)

    def collect(self, timeout: float) -> list[Point]:
        """Return the points that have become ready, in order; wait up to `timeout` s for messages.

        Raises:
            httpx.HTTPError: Tiled does not answer, or refuses; the next call continues, and no
                point is lost.
        """
        self._pending.extend(self._events.wait(0.0 if self._pending else timeout))
        self._handle_pending()
        if self._may_grow() and time.monotonic() - self._last_read > REREAD_INTERVAL:
            self.update(None)
        for stream in self._streams.values():
            self._ready.extend(stream.points())
        if self._ended and self.end is None:
            self._finish()
        points, self._ready = self._ready, []
        return points

    def read(self, points: Sequence[Point], detector: str) -> np.ndarray:
        """Read the frames of points of one stream, shape `(points, *frame)`, in one request."""
        array = self._streams[points[0].stream].arrays.get(detector)
        if array is None or not (array.about or follow_each_other(points)):
            return values_of(points, detector)
        first, last = array.row(points[0].index), array.row(points[-1].index)
        is_block = follow_each_other(points) and last - first == len(points) - 1
        if "update" in array.about or not is_block:
            return np.stack([point.open(detector).read() for point in points])
        return array.rows[(slice(first, last + 1),)]

    def axes(self, point: Point, detector: str) -> tuple[Axis, ...]:
        """Return the axes of a point's frame, or of its value in a run of results."""
        if detector not in point.references:
            return result_columns.load(point.data[result_columns.AXES])
        array = self._streams[point.stream].arrays[detector]
        return axes_at(array.about["segments"], array.row(point.index))

    def scan(self, point: Point, detector: str) -> tuple[Axis, ...]:
        """Return the axes (y, x) of the map that a point's frame belongs to; empty if none."""
        array = self._streams[point.stream].arrays[detector]
        segments, row = array.about["segments"], array.row(point.index)
        segment = segments[bisect_right(segments, row, key=itemgetter("row")) - 1]
        return tuple(map(Axis.load, segment.get("scan", ())))

    def close(self) -> None:
        """Close the connections; closing twice is harmless."""
        self._events.close()

    def _may_grow(self) -> bool:
        """Return whether more may come; results may come after the run's end."""
        return self.end is None or bool(set(self._wanted or ()) - self._streams.keys())

    @property
    def _ended(self) -> bool:
        return "stop" in self._metadata or bool(self._metadata.get(KEY, {}).get("abandoned"))

    def _handle_pending(self) -> None:
        already_read: set[str] = set()
        while self._pending:
            uri, message = self._pending[0]
            if message is not None or uri not in already_read:
                self._handlers[uri](message)
            if message is None:
                already_read.add(uri)
            self._pending.popleft()

    def update(self, message: Mapping[str, Any] | None) -> None:
        """Read the run's node, unless a message shows that there is nothing new.

        A message about the node itself, or whose content the server has forgotten, names no child.
        """
        if message is not None and message is not CLOSED and message.get("key") in self._streams:
            return
        self._last_read = time.monotonic()
        try:
            node = self.find()
        except KeyError:
            return  # it has not begun
        self.start = node.metadata.get("start")
        for name, child in self.streams_in(node).items():
            wanted = name != RESULTS if self._wanted is None else name in self._wanted
            if wanted and name not in self._streams and _is_stream(child):
                self._streams[name] = stream = _Stream(self, name, plain(child))
                self.subscribe(stream.uri, stream.update, from_start=True)
        self._metadata = node.metadata  # last: at its end a run is read once, with all its streams

    def _finish(self) -> None:
        """Read the remaining points, and count those that are missing."""
        events: Mapping[str, int] = self._metadata.get(KEY, {}).get("events", {})
        missing: dict[str, int] = {}
        for name, stream in self._streams.items():
            if stream.returned != events.get(name):
                stream.read_all()
                self._ready.extend(stream.points(ended=True))
            if (lacking := events.get(name, 0) - stream.returned) > 0:
                missing[name] = lacking
                logger.warning(
                    "the last %d points of %s/%s are not in Tiled", lacking, self.run, name
                )
        stop = self._metadata.get("stop", {})
        self.end = End(
            status=stop.get("exit_status", "abandoned"), reason=stop.get("reason") or "",
            missing=missing,
        )  # fmt: skip


class _Stream:
    """One stream: its points, once all their parts are in Tiled.

    Args:
        run: the stream's run.
        name: of the stream.
        node: its container in Tiled.
    """

    def __init__(self, run: TiledRun, name: str, node: Any):
        self.name = name
        self.uri: str = node.uri
        self.returned = 0
        self.arrays: dict[str, Array] = {}
        self._run = run
        self._node = node
        self._keys = StreamKeys.of(node.metadata)
        self._tables: dict[str, Table | SideTable] = {}
        self._ragged: dict[str, RaggedArray] = {}
        self._others: set[str] = set()

    def update(self, message: Mapping[str, Any] | None) -> None:
        """Add the nodes that were created in the stream, or take their new metadata."""
        if message is CLOSED:
            return
        if message is None or message.get("key") not in self._known:
            self._find()
        elif message["type"] == "container-child-metadata-updated":
            if message["key"] in self.arrays:
                self.arrays[message["key"]].describe(message["metadata"])

    def read_all(self) -> None:
        """Read all nodes of the stream."""
        self._find()
        for node in [*self._tables.values(), *self.arrays.values()]:
            node.update(None)

    def points(self, *, ended: bool = False) -> Iterator[Point]:
        """Yield the next points; with `ended`, also those of which a part never came."""
        parts = [*self._tables.values(), *self.arrays.values()]
        if not parts or not (ended or self._is_whole()):
            return
        stop = (max if ended else min)(part.count for part in parts)
        while self.returned < stop:
            point = self._point(self.returned)
            self.returned += 1
            yield point

    def _find(self) -> None:
        self._keys = StreamKeys.of(self._node.refresh().metadata)  # a later descriptor adds keys
        for key, child in self._node.items():
            family = child.item["attributes"]["structure_family"]
            if key in self._known:
                continue
            if family == "table":
                kind = Table if "seq_num" in child.columns else SideTable
                node = self._tables[key] = kind(child)
            elif family == "array" and key in self._keys.data_keys:
                node = self.arrays[key] = Array(child, KEY, self._run.patience)
            else:  # the growth of ragged arrays is not announced; the others are not of events
                if family == "ragged" and key in self._keys.internal:
                    self._ragged[key] = RaggedArray(child)
                self._others.add(key)
                continue
            self._run.subscribe(child.uri, node.update)

    def _is_whole(self) -> bool:
        """Return whether the stream has all nodes that its descriptor names."""
        columns = {column for table in self._tables.values() for column in table.columns}
        found = columns | self.arrays.keys() | self._others
        return found >= self._keys.data_keys.keys()

    @property
    def _known(self) -> set[str]:
        return {*self._tables, *self.arrays, *self._others}

    def _point(self, index: int) -> Point:
        row: dict[str, Any] = {}
        for table in self._tables.values():
            row |= table.row(index) if index < table.count else {}
        arrays = {key: array for key, array in self.arrays.items() if index < array.count}
        ours = {
            key: (array.about, array.row(index)) for key, array in arrays.items() if array.about
        }
        references = {
            key: reference_at(about["segments"], key, row) for key, (about, row) in ours.items()
        }
        failed = {
            key: about["failed"][str(row)]
            for key, (about, row) in ours.items()
            if str(row) in about["failed"]
        }
        return Point(
            run=self._run.run,
            stream=self.name,
            index=index,
            seq_num=row.get("seq_num", index + 1),
            time=row.get("time", math.nan),
            data=self._values(index, row),
            references=references,
            failed=failed,
            _open=lambda detector: self._open(detector, index, references, failed),
        )

    def _values(self, index: int, row: Mapping[str, Any]) -> Values:
        """Return the values of an event; arrays of their own are read when they are used."""
        values: dict[str, Any] = {}
        separate: dict[str, Any] = {}
        for column, about in self._keys.internal.items():
            key, array = self._keys.keys[column], self._ragged.get(column, self.arrays.get(column))
            if index < self._keys.since[column]:
                continue
            if column in row:
                values[key] = as_described(self._keys.value(column, row[column]), about)
            elif array is not None and index < array.count:
                separate[key] = lambda array=array, about=about: as_described(array[index], about)
        return Values(values, separate)

    def _open(
        self, detector: str, index: int, references: Mapping[str, str], failed: Mapping[str, str]
    ) -> StoredFrame:
        reference = reference_of(detector, references, failed)
        array = self.arrays[detector]
        row, rows = array.row(index), array.rows
        axes = axes_at(array.about["segments"], row)
        update = array.about.get("update")
        values: np.ndarray | None = None
        if update is not None:  # now: the next update may overwrite it
            try:
                values = read_update(array, row, axes, update)
            except LookupError as exc:
                raise superseded(reference, update["mode"], self.name) from exc
        return StoredFrame(
            reference=reference,
            axes=axes,
            metadata=metadata_in_tiled(
                detector, row, array.about, self._run.start, self._node.metadata
            ),
            _read=lambda: rows[row] if values is None else values,
        )


def _is_stream(node: Any) -> bool:
    return "BlueskyEventStream" in {spec.name for spec in node.specs}
