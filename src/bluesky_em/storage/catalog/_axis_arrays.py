"""The axes of our frames in Tiled: names of dimensions, and arrays that are their coordinates."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tiled.structures.array import ArrayStructure

from bluesky_em.axes import Axis
from bluesky_em.documents import DATASET
from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.files.tiled.values import address_name
from bluesky_em.frame import Frame

EVENT = "time"  # the dimension of a stream's events


@dataclass(frozen=True)
class _Named:
    """The axes of one array of frames."""

    names: tuple[str, ...]
    axes: tuple[Axis, ...]
    first: Frame


class AxisArrays:
    """Name the dimensions of arrays of frames, and register the axes beside them.

    A client that has never heard of this package reads a stream as one Dataset: an array `energy`
    with the dimension `energy`, beside `eels` with the dimensions `time` and `energy`, becomes the
    coordinate of its channels. Frames with the same axis share it; where a name stands for another
    axis already, or for a data key, the detector comes first: `haadf_x`.

    An axis that changes from frame to frame has no array: the row map has each of them.

    Args:
        root: the storage folder.
    """

    def __init__(self, root: Path):
        self._root = root
        self._known: dict[str, dict[str, Axis]] = {}
        self._named: dict[str, _Named] = {}
        self._registered: set[str] = set()
        self._dropped: set[str] = set()

    def name(
        self, key: str, first: Frame, axes: Sequence[Axis], data_keys: Collection[str]
    ) -> None:
        """Name the axes of an array, in the order in which the arrays of a run begin.

        Args:
            key: of the array, `<stream>/<detector>`.
            first: its first frame.
            axes: of the frame, or of all of the array.
            data_keys: of the stream; no axis has the name of one of them.
        """
        known, names = self._known.setdefault(first.stream, {}), []
        for axis in axes:
            taken = {*data_keys, *names, EVENT, "seq_num"}
            name = address_name(axis.name)
            if name in taken or known.get(name, axis) != axis:
                name = address_name(f"{first.detector}_{axis.name}")
            while name in taken or known.get(name, axis) != axis:
                name += "_"
            known[name] = axis
            names.append(name)
        self._named[key] = _Named(tuple(names), tuple(axes), first)

    def dims(self, key: str) -> tuple[str, ...]:
        """Return the names of an array's axes."""
        return self._named[key].names

    def register(self, key: str, stream: Any, source: Any, tags: list[str] | None) -> None:
        """Register the axes of an array; repeating it changes nothing.

        Args:
            key: of the array.
            stream: its node in Tiled.
            source: the array's data source, whose file has the axes.
            tags: who may read them.
        """
        named = self._named[key]
        done = self._registered | self._dropped
        missing = {
            name: axis
            for name, axis in zip(named.names, named.axes, strict=True)
            if f"{named.first.stream}/{name}" not in done
        }
        in_file = self._in_file(named.first) if missing else {}
        for name, axis in missing.items():
            # a file may have been made for another frame, if the first one was lost
            if np.array_equal(in_file.get(axis.name, ()), axis.values):
                stream.new(
                    key=name, structure_family=source.structure_family, specs=[],
                    data_sources=[_source_of(name, axis, source)], metadata={"units": axis.units},
                    access_tags=tags,
                )  # fmt: skip
                self._registered.add(f"{named.first.stream}/{name}")

    def drop(self, key: str, stream: Any) -> None:
        """Delete the axes of an array whose frames have several; repeating it changes nothing."""
        named = self._named[key]
        for name in named.names:
            path = f"{named.first.stream}/{name}"
            if path not in self._dropped:
                stream.delete(name)
                self._registered.discard(path)
                self._dropped.add(path)

    def _in_file(self, first: Frame) -> dict[str, np.ndarray]:
        """Return the axes in the file of an array; none if all its frames were lost."""
        try:
            with FramesReader(self._root / first.path) as reader:
                return {name: values for name, (values, _) in reader.axes().items()}
        except OSError:
            return {}


def _source_of(name: str, axis: Axis, frames: Any) -> Any:
    """Return the data source of an axis, from that of the frames in the same file."""
    dataset = f"{DATASET.rpartition('/')[0]}/{axis.name}"
    return replace(
        frames,
        structure=ArrayStructure.from_array(axis.values, dims=(name,)),
        parameters={**frames.parameters, "dataset": dataset},
        properties={},
    )
