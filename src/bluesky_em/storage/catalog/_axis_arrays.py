"""The axes of our frames in Tiled: names of dimensions, and arrays that are their coordinates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tiled.structures.array import ArrayStructure

from bluesky_em.axes import Axis
from bluesky_em.documents import DATASET
from bluesky_em.files.hdf5 import TAKEN, FramesReader, scan_names
from bluesky_em.files.tiled.values import address_name
from bluesky_em.frame import Frame

EVENT = "time"  # the dimension of a stream's events

SetSource = Callable[[Any, Any], None]
"""Called with a node and its data source."""


@dataclass
class _Named:
    """The axes of one array of frames."""

    names: tuple[str, ...]
    axes: tuple[Axis, ...]
    first: Frame
    mask: str = ""
    """name of the mask of a map"""
    passes: dict[int, tuple[Axis, ...]] = field(default_factory=dict[int, tuple[Axis, ...]])
    """axes (y, x) of each pass over the map, by its first row"""

    def values(self, name: str) -> np.ndarray:
        """Return the values of an axis: for a map, the lines of all passes."""
        if self.passes and name == self.names[0]:
            return np.concatenate([y.values for y, _ in self.passes.values()])
        return self.axes[self.names.index(name)].values


class AxisArrays:
    """Name the dimensions of arrays of frames, and register the axes beside them.

    A client that has never heard of this package reads a stream as one Dataset: an array `energy`
    with the dimension `energy`, beside `eels` with the dimensions `time` and `energy`, becomes the
    coordinate of its channels. Frames with the same axis share it; where a name stands for another
    axis already, or for a data key, the detector comes first: `haadf_x`. A map has `y` and `x` in
    front, and a mask `taken`: 1 where a point was taken, else 0.

    Where an axis changes from frame to frame, the dimension has another name, `energy_index`, and
    so no coordinate: the array `energy` is that of the first frame, and the row map has all.

    Args:
        root: the storage folder.
    """

    def __init__(self, root: Path):
        self._root = root
        self._known: dict[str, dict[str, Any]] = {}
        self._named: dict[str, _Named] = {}
        self._nodes: dict[str, tuple[str, Any, int]] = {}
        """by path: the key of the array that has registered it, its node, its length"""

    def name(
        self, key: str, first: Frame, axes: Sequence[Axis], data_keys: Collection[str]
    ) -> None:
        """Name the axes of an array, in the order in which the arrays of a run begin.

        Args:
            key: of the array, `<stream>/<detector>`.
            first: its first frame.
            axes: of the frame, or of all of an array that updates change.
            data_keys: of the stream; no axis has the name of one of them.
        """
        known = self._known.setdefault(first.stream, {})
        if first.points:
            scan = zip(first.scan, scan_names(first), strict=True)
            axes = *(replace(axis, name=name) for axis, name in scan), *axes
        names: list[str] = []
        for axis in axes:
            names.append(_free_name(axis.name, axis, first, known, {*data_keys, *names}))
            known[names[-1]] = axis
        self._named[key] = named = _Named(tuple(names), tuple(axes), first)
        if first.points:
            named.mask = _free_name(TAKEN, key, first, known, {*data_keys, *names})
            known[named.mask] = key

    def add(self, key: str, frame: Frame) -> None:
        """Add a frame: it may begin a pass over a map."""
        if frame.pass_rows is not None:
            self._named[key].passes.setdefault(frame.pass_rows.start, frame.scan)

    def dims(self, key: str, *, has_several: bool) -> tuple[str, ...]:
        """Return the names of an array's dimensions.

        Args:
            key: of the array.
            has_several: its frames have different axes.
        """
        named = self._named[key]
        columns = {x for _, x in named.passes.values()}
        changed = {
            *(named.names[2 if named.passes else 0 :] if has_several else ()),
            *(named.names[1:2] if len(columns) > 1 else ()),
        }
        return tuple(f"{name}_index" if name in changed else name for name in named.names)

    def register(
        self, key: str, stream: Any, source: Any, tags: list[str] | None, set_source: SetSource
    ) -> None:
        """Register the axes of an array; repeating it changes nothing.

        Args:
            key: of the array.
            stream: its node in Tiled.
            source: the array's data source, whose file has the axes.
            tags: who may read them.
            set_source: sends to Tiled that an axis has become longer.
        """
        named = self._named[key]
        new = {name: axis for name, axis in zip(named.names, named.axes, strict=True)
               if self._is_due(key, name)}  # fmt: skip
        in_file = self._in_file(named.first) if new else {}
        for name, axis in new.items():
            values = named.values(name)
            # a file may have been made for another frame, if the first one was lost
            if np.array_equal(in_file.get(axis.name, ())[: len(values)], values):
                structure = ArrayStructure.from_array(values, dims=(name,))
                own = _source_of(axis.name, structure, source)
                self._put(key, name, own, stream, tags, set_source, {"units": axis.units})
        if named.mask and self._is_due(key, named.mask):
            y, x = (named.values(name) for name in named.names[:2])
            mask = np.zeros((len(y), len(x)), "u1")
            structure = ArrayStructure.from_array(mask, dims=source.structure.dims[:2])
            own = _source_of(TAKEN, structure, source)
            self._put(key, named.mask, own, stream, tags, set_source, {})

    def _is_due(self, key: str, name: str) -> bool:
        """Return whether an axis, or a mask, is not in Tiled yet, or has become longer."""
        path, named = self._path(key, name), self._named[key]
        owner, _, length = self._nodes.get(path, (key, None, 0))
        own = named.names[0] if name == named.mask else name
        return owner == key and length < len(named.values(own))

    def _put(
        self, key: str, name: str, source: Any, stream: Any, tags: list[str] | None,
        set_source: SetSource, metadata: dict[str, Any],
    ) -> None:  # fmt: skip
        path = self._path(key, name)
        _, node, _ = self._nodes.get(path, (key, None, 0))
        if node is None:
            node = stream.new(
                key=name, structure_family=source.structure_family, specs=[],
                data_sources=[source], metadata=metadata, access_tags=tags,
            )  # fmt: skip
        else:
            set_source(node, source)
        self._nodes[path] = key, node, source.structure.shape[0]

    def _path(self, key: str, name: str) -> str:
        return f"{self._named[key].first.stream}/{name}"

    def _in_file(self, first: Frame) -> dict[str, np.ndarray]:
        """Return the axes in the file of an array; none if all its frames were lost."""
        try:
            with FramesReader(self._root / first.path) as reader:
                axes = reader.scan_axes() | reader.axes()
        except OSError:
            return {}
        return {name: values for name, (values, _) in axes.items()}


def _free_name(
    wanted: str, meaning: Any, first: Frame, known: dict[str, Any], taken: Collection[str]
) -> str:
    """Return the name of an axis: one that stands for nothing else in the stream."""
    taken = {*taken, EVENT, "seq_num"}
    name = address_name(wanted)
    if name in taken or known.get(name, meaning) != meaning:
        name = address_name(f"{first.detector}_{wanted}")
    while name in taken or known.get(name, meaning) != meaning:
        name += "_"
    return name


def _source_of(dataset: str, structure: ArrayStructure, frames: Any) -> Any:
    """Return the data source of a dataset in the same file as the frames."""
    path = f"{DATASET.rpartition('/')[0]}/{dataset}"
    parameters = {**frames.parameters, "dataset": path}
    return replace(frames, structure=structure, parameters=parameters, properties={})
