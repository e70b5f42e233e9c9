"""The arrays of our frames in Tiled, one for each detector in a stream."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from bluesky_em.files import acquisition_metadata
from bluesky_em.files.tiled.node_metadata import replace_entries
from bluesky_em.files.tiled.row_map import KEY, RowMap, common_facts
from bluesky_em.frame import Frame

from ._axis_arrays import EVENT, AxisArrays, SetSource
from ._map_arrays import MapConsolidator, MapRowMap
from ._plugins import consolidator_factory
from ._read_back import ReadBack
from ._updates import UpdateMap, UpdatesConsolidator


class FrameArrays:
    """Describe the arrays of a run's frames to Tiled, and read the first row of each back.

    An array's key is `<stream>/<detector>`.

    Args:
        root: the storage folder.
    """

    def __init__(self, root: Path):
        self.read_back = ReadBack(root)
        self._maps: dict[str, RowMap] = {}
        self._axes = AxisArrays(root)

    def __contains__(self, key: str) -> bool:
        return key in self._maps

    @property
    def detectors(self) -> set[str]:
        """The detectors whose frames are ours."""
        return {key.rpartition("/")[2] for key in self._maps}

    def add(self, frame: Frame, descriptor: int, data_keys: Collection[str]) -> None:
        """Add the rows of a frame, or of a block of frames.

        Args:
            frame: the frame.
            descriptor: the number of its descriptor in the stream, from 0.
            data_keys: of the stream.
        """
        rows = self._map_of(frame, data_keys)
        rows.add(frame, descriptor)
        self._axes.add(key_of(frame), frame)
        if not any(str(row) in rows.failed for row in frame.rows):
            self.read_back.add(key_of(frame), frame)

    def fail(self, frame: Frame, reason: str, data_keys: Collection[str]) -> None:
        """Record for readers that a frame's row has no data, and why."""
        self._map_of(frame, data_keys).fail(frame, reason)

    def consolidator(self, key: str, resource: Any, stream: Any) -> Any:
        """Return how files form the array; the shape of one that updates change comes from them.

        Args:
            key: of the array.
            resource: its stream resource.
            stream: the metadata of the stream's node.
        """
        rows, dims = self._maps[key], self._dims(key)
        if isinstance(rows, UpdateMap):
            return UpdatesConsolidator(resource, stream, rows, dims)
        if isinstance(rows, MapRowMap):
            return MapConsolidator(resource, stream, rows, dims)
        consolidator: Any = consolidator_factory(resource, stream)
        consolidator.dims = dims
        return consolidator

    def source(self, key: str, consolidator: Any) -> Any:
        """Return the data source of an array; it announces how large its row map will be.

        A follower of the array waits for a row map of this size.
        """
        consolidator.dims = self._dims(key)
        source = consolidator.get_data_source()
        source.properties = {**source.properties, **self._maps[key].size}
        return source

    def write(
        self, key: str, node: Any, consolidator: Any, set_source: Callable[[Any], None]
    ) -> None:
        """Write the new rows of an array, and describe them.

        Args:
            key: of the array.
            node: its node.
            consolidator: how its files form it.
            set_source: sends its data source to Tiled.
        """
        rows = self._maps[key]
        about = rows.dump() if rows.changed else None
        is_updated = isinstance(rows, UpdateMap)
        if about is not None and not is_updated:
            # before the rows: a client that sees a row must find its reference
            _describe(node, about)
        set_source(self.source(key, consolidator))
        if about is not None and is_updated:
            # after the array: an update that is counted must be readable
            _describe(node, about)
        self.read_back.check(key, node)

    def write_axes(
        self, key: str, stream: Any, source: Any, tags: list[str] | None, set_source: SetSource
    ) -> None:
        """Write the axes of an array beside it.

        Args:
            key: of the array.
            stream: the stream's node.
            source: the array's data source.
            tags: who may read the axes.
            set_source: sends a node's data source to Tiled.
        """
        self._axes.register(key, stream, source, tags, set_source)

    def conclude(self, nodes: dict[str, Any]) -> None:
        """Describe what has not been described yet, at the end of the run."""
        for key, rows in self._maps.items():
            if rows.is_behind and key in nodes:
                _describe(nodes[key], rows.dump())

    def _dims(self, key: str) -> tuple[str, ...]:
        """Return the names of an array's dimensions; rows that are events are the first one."""
        rows = self._maps[key]
        is_one = isinstance(rows, (UpdateMap, MapRowMap))
        has_several = rows.has_several_axes and not isinstance(rows, UpdateMap)
        return (*(() if is_one else (EVENT,)), *self._axes.dims(key, has_several=has_several))

    def _map_of(self, frame: Frame, data_keys: Collection[str]) -> RowMap:
        key = key_of(frame)
        if key not in self._maps:
            rows = self._maps[key] = _row_map(frame)
            axes = rows.axes if isinstance(rows, UpdateMap) else frame.axes
            self._axes.name(key, frame, axes, data_keys)
        return self._maps[key]


def _row_map(first: Frame) -> RowMap:
    if first.update is not None:
        return UpdateMap(first)
    return MapRowMap(first.points) if first.points else RowMap()


def key_of(frame: Frame) -> str:
    """Return the key of a frame's array."""
    return f"{frame.stream}/{frame.detector}"


def _describe(node: Any, about: dict[str, Any]) -> None:
    """Describe an array: its row map, and what quantification needs."""
    first = about["segments"][0]
    acquired = acquisition_metadata.compose(
        common_facts(about),
        is_spectrum=any(axis["name"] == "energy" for axis in first["axes"]),
        is_map="scan" in first,
    )
    replace_entries(node, **{KEY: about, acquisition_metadata.KEY: acquired})
