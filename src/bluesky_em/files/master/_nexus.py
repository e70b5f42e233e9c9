"""The default format: one NXentry with all that is known about a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from bluesky_em.documents import Document
from bluesky_em.frame import Frame

from ..document_values import to_array, to_json
from ..nexus import add_facts, iso, new_field, new_group
from ..run_documents import RunDocuments, StreamDocuments
from ._formats import CompleteRun
from ._frames import add_frames
from ._others import add_other

_EPOCH = "1970-01-01T00:00:00Z"


def write_nexus(run: CompleteRun, path: Path) -> str:
    """Write a run's NeXus file to `path`; it must be in the run's folder, whose files it links.

    Composed in memory and written at once: HDF5 cannot close a file that a full disk has torn.
    """
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        file.attrs["NX_class"] = "NXroot"
        file.attrs["creator"] = "bluesky-em"
        _add_run(new_group(file, "entry", "NXentry"), run, path.parent)
        file.attrs["default"] = "entry"
        file.flush()
        path.write_bytes(file.id.get_file_image())
    return ".nxs"


def _add_run(entry: h5py.Group, run: CompleteRun, folder: Path) -> None:
    add_facts(entry, run.documents.start)
    if run.documents.stop:
        new_field(entry, "end_time", iso(run.documents.stop["time"]))
    _add_documents(entry, run.documents)
    plottable: list[h5py.Group] = []
    for path, frames in groupby(run.frames, key=lambda frame: frame.path):
        if (folder / PurePosixPath(path).name).exists():
            plottable.append(add_frames(entry, list(frames)))
    for stream in run.documents.streams.values():
        frames = [frame for frame in run.frames if frame.stream == stream.name]
        events = _add_stream(entry, stream, frames)
        if "signal" in events.attrs:
            plottable.append(events)
    if run.documents.others:
        others = new_group(entry, "external", "NXcollection")
        for resource in run.documents.others:
            add_other(others, resource, folder)
    _add_failed(entry, run.manifest["failed"])
    if plottable:
        _make_default(entry, plottable[0])


def _add_documents(entry: h5py.Group, run: RunDocuments) -> None:
    group = new_group(entry, "bluesky", "NXcollection")
    for key in ("plan_name", "scan_id"):
        if key in run.start:
            new_field(group, key, to_array([run.start[key]])[0])
    if run.stop:
        new_field(group, "exit_status", to_array([run.stop["exit_status"]])[0])
        new_field(group, "stop", to_json(run.stop))
    new_field(group, "start", to_json(run.start))
    new_field(group, "descriptors", to_json(run.descriptors))


def _add_stream(entry: h5py.Group, stream: StreamDocuments, frames: Sequence[Frame]) -> h5py.Group:
    group = new_group(entry, stream.name, "NXcollection")
    configuration = new_group(group, "configuration", "NXcollection")
    for device, about in stream.configuration.items():
        _add_configuration(new_group(configuration, device, "NXcollection"), about)
    exposures = new_group(group, "exposures", "NXcollection")
    for detector in sorted({frame.detector for frame in frames}):
        metadata = [frame.metadata for frame in frames if frame.detector == detector]
        _add_exposures(new_group(exposures, detector, "NXcollection"), metadata)
    timestamps = new_group(group, "timestamps", "NXcollection")
    for key, times in stream.timestamps.items():
        _add_times(timestamps, key, times)
    return _add_events(group, stream)


def _add_configuration(group: h5py.Group, about: Document) -> None:
    for key, value in about.get("data", {}).items():
        units = about.get("data_keys", {}).get(key, {}).get("units")
        new_field(group, key, to_array([value])[0], str(units or ""))


def _add_exposures(group: h5py.Group, frames: Sequence[Mapping[str, Any]]) -> None:
    """Add the driver's metadata of each frame: one value where all are equal."""
    for key in dict.fromkeys(key for metadata in frames for key in metadata):
        values = [metadata.get(key) for metadata in frames]
        same = all(value == values[0] for value in values)
        new_field(group, key, to_array(values[:1])[0] if same else to_array(values))


def _add_events(parent: h5py.Group, stream: StreamDocuments) -> h5py.Group:
    """Add a stream's scalars over time; NXdata if any of them is a number."""
    group = new_group(parent, "events", "NXcollection")
    _add_times(group, "time", stream.time)
    new_field(group, "seq_num", np.asarray(stream.seq_num, dtype="<i8"))
    signals: list[str] = []
    for key, values in stream.data.items():
        array = to_array(values)
        name = new_field(group, key, array, stream.units(key))
        if array.dtype.kind in "iuf" and array.ndim == 1:
            signals.append(name)
    if signals and stream.time:
        group.attrs["NX_class"] = "NXdata"
        group.attrs["signal"] = signals[0]
        if signals[1:]:
            group.attrs["auxiliary_signals"] = signals[1:]
        group.attrs["axes"] = ["time"]
        group.attrs["time_indices"] = 0
    return group


def _add_times(group: h5py.Group, name: str, times: Sequence[float]) -> None:
    name = new_field(group, name, np.asarray(times, dtype="<f8"), "s")
    group[name].attrs["start"] = _EPOCH


def _add_failed(entry: h5py.Group, failed: Mapping[str, str]) -> None:
    """List the failed references, with reasons."""
    if failed:
        group = new_group(entry, "failed", "NXcollection")
        new_field(group, "reference", to_array(list(failed)))
        new_field(group, "reason", to_array(list(failed.values())))


def _make_default(entry: h5py.Group, group: h5py.Group) -> None:
    """Set the `default` attributes that lead a NeXus reader from the root to plottable data."""
    parent: Any = entry
    for name in str(group.name).split("/")[2:]:
        parent.attrs["default"] = name
        parent = parent[name]
