"""A complete stream, from the files in a storage folder or over HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from bluesky_em.axes import Axis, axes_of_array
from bluesky_em.files.document_values import column, to_json
from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.files.map_rows import MapRows
from bluesky_em.files.run_documents import RunDocuments
from bluesky_em.files.tiled.row_map import KEY, axes_at, common_facts, lengths, rows_taken
from bluesky_em.files.tiled.storable import storable
from bluesky_em.files.tiled.stream_keys import streams
from bluesky_em.files.tiled.values import as_stored, json_ready
from bluesky_em.frame import Frame

from ._dataset import Events, Frames, compose, unknown_axes
from ._frame_metadata import completed
from ._result_frames import take_results
from ._tiled_columns import read_columns


class FileArray:
    """The array in one of our files; the file is opened for each slice, so any thread may read."""

    def __init__(self, path: Path):
        self._path = path
        with FramesReader(path) as reader:
            self.shape, self.dtype = reader.shape, reader.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, slices: tuple[slice, ...]) -> np.ndarray:
        with FramesReader(self._path) as reader:
            return reader.read(slices)


def from_folder(
    root: Path, run: RunDocuments, frames: Iterable[Frame], stream: str
) -> xarray.Dataset:
    """Open a stream from the files in a storage folder.

    Args:
        root: the folder.
        run: its documents.
        frames: all frames of the run.
        stream: its name.

    Raises:
        LookupError: the run has no such stream.
    """
    _check(run.start["uid"], stream, run.streams)
    about = run.streams[stream]
    events = Events(
        time=about.time,
        seq_num=about.seq_num,
        columns={
            key: (_column(values, about.data_keys[key]), about.units(key))
            for key, values in about.data.items()
        },
    )
    ours = sorted((f for f in frames if f.stream == stream), key=lambda f: (f.path, f.row))
    files = [list(group) for _, group in groupby(ours, key=lambda frame: frame.path)]
    configuration = completed(about.configuration)
    events, results = take_results(events, run.start, configuration)
    return compose(
        events,
        [*(_from_file(root, group) for group in files), *results],
        _about_run(run.start, stream, configuration),
    )


def from_catalog(run: Any, uid: str, stream: str) -> xarray.Dataset:
    """Open a stream over HTTP.

    Args:
        run: the run's node in Tiled.
        uid: of the run.
        stream: its name.

    Raises:
        LookupError: the run has no such stream.
    """
    available = streams(run)
    _check(uid, stream, available)
    about, nodes = available[stream].metadata, dict(available[stream].base.items())
    arrays = {key: node for key, node in nodes.items() if KEY in node.metadata}
    configuration: dict[str, Any] = {}
    for descriptor in (about, *about.get("_config_updates", [])):
        configuration = {**descriptor.get("configuration", {}), **configuration}
    start = run.metadata["start"]
    events, results = take_results(read_columns(about, nodes), start, configuration)
    return compose(
        events,
        [*(_from_node(*named) for named in arrays.items()), *results],
        _about_run(start, stream, configuration),
    )


def _column(values: Iterable[Any], data_key: Mapping[str, Any]) -> np.ndarray:
    stored = as_stored(data_key)
    return column([stored(value) for value in values], storable(data_key))


def _from_file(root: Path, frames: Sequence[Frame]) -> Frames:
    first, array = frames[0], FileArray(root / frames[0].path)
    attrs = _common(frame.metadata for frame in frames)
    if first.update is not None:
        return _one_array(first.detector, array, first.scan, first.axes, attrs)
    return Frames(
        detector=first.detector,
        rows=array,
        axes=first.axes,
        blocks=[(frame.scan, frame.row, frame.count, frame.number) for frame in frames],
        rows_by_axes=[(frame.rows, frame.axes) for frame in frames],
        attrs=attrs,
    )


def _one_array(
    detector: str, array: Any, scan: Sequence[Axis], axes: Sequence[Axis], attrs: Mapping[str, Any]
) -> Frames:
    """Describe an array that frames have updated."""
    known = axes_of_array(scan, axes, array.ndim) or unknown_axes(array.shape)
    return Frames(
        detector=detector, rows=array, axes=known, blocks=[], rows_by_axes=[], attrs=attrs
    )


def _from_node(detector: str, array: Any) -> Frames:
    segments, attrs = (
        array.metadata[KEY]["segments"],
        _attributes(common_facts(array.metadata[KEY])),
    )
    axes = axes_at(segments, segments[0]["row"])
    if "update" in array.metadata[KEY]:
        scan = tuple(map(Axis.load, segments[0].get("scan", ())))
        return _one_array(detector, array, scan, axes, attrs)
    is_map = "points" in array.metadata[KEY]
    counts = lengths(segments, rows_taken(array) if is_map else array.shape[0])
    blocks = [
        (
            tuple(map(Axis.load, segment.get("scan", ()))),
            segment["row"], count, segment["number"],
        )
        for segment, count in zip(segments, counts, strict=True)
    ]  # fmt: skip
    rows_by_axes = [(range(row, row + rows), axes_at(segments, row)) for _, row, rows, _ in blocks]
    return Frames(
        detector=detector, rows=MapRows(array) if is_map else array, axes=axes, blocks=blocks,
        rows_by_axes=rows_by_axes, attrs=attrs,
    )  # fmt: skip


def _check(run: str, stream: str, available: Iterable[str]) -> None:
    """Check that a run has a stream.

    Raises:
        LookupError: it has not; the message lists its streams.
    """
    names = sorted(available)
    if stream not in names:
        raise LookupError(f"run {run} has no stream {stream!r}, only {', '.join(names) or 'none'}")


def _about_run(start: Mapping[str, Any], stream: str, configuration: Any) -> dict[str, Any]:
    """Return a Dataset's attributes, in types that every file format can store."""
    return {
        "run": start["uid"],
        "stream": stream,
        "start": to_json(_as_in_tiled(start)),
        "configuration": to_json(_as_in_tiled(configuration)),
    }


def _as_in_tiled(value: Any) -> Any:
    """Return metadata as Tiled keeps them: NaN is None, and what JSON cannot hold is text."""
    if isinstance(value, Mapping):
        return {str(key): _as_in_tiled(each) for key, each in value.items()}
    ready = json_ready(value)
    if isinstance(ready, list):
        return [_as_in_tiled(each) for each in ready]
    return None if isinstance(ready, float) and ready != ready else ready


def _common(metadata: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metadata that are equal for all frames; lists and mappings as JSON text."""
    first, *others = metadata
    return _attributes(
        {
            key: value
            for key, value in first.items()
            if all(other.get(key) == value for other in others)
        }
    )


def _attributes(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts as attributes; lists, mappings and None as JSON text."""
    return {
        key: value if isinstance(value, (str, int, float)) else to_json(value)
        for key, value in facts.items()
    }
