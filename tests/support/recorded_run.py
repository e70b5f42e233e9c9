"""A complete run with its files, as the writer has it, recorded without any process."""

import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from event_model import compose_run

from bluesky_em.axes import Axis
from bluesky_em.files.hdf5 import FramesFile
from bluesky_em.files.journal import Journal
from bluesky_em.files.layout import Layout
from bluesky_em.frame import Frame

ENERGY = Axis(name="energy", units="eV", offset=-50.0, scale=0.5, size=6)
SERVER = "PYRO:eels_server@gatan-pc:9091"


class Recorded:
    """One run, event by event; `close` stops it."""

    def __init__(self, root: Path, **metadata: Any):
        self.layout = Layout(root)
        self.layout.journal.mkdir(parents=True)
        self._bundle = compose_run(time=86400.0, metadata=metadata, validate=False)
        self.uid = self._bundle.start_doc["uid"]
        self.frames: list[Frame] = []
        self.failed: dict[str, str] = {}
        self.journal = Journal(self.layout.journal_of(self.uid))
        self._streams: dict[str, Any] = {}
        self.add("start", self._bundle.start_doc)

    @property
    def folder(self) -> Path:
        return self.layout.folder_of(self.uid, 86400.0)

    @property
    def manifest(self) -> dict[str, Any]:
        return {"run": self.uid, "failed": self.failed}

    def add(self, name: str, document: Any) -> None:
        self.journal.append(name, document)

    def event(self, stream: str = "primary", units: str = "", **data: Any) -> None:
        """Add an event whose values are in the document itself."""
        if stream not in self._streams:
            kind = {float: "number", np.ndarray: "array"}
            keys = {
                key: {
                    "source": "sim", "dtype": kind.get(type(value), "string"), "units": units,
                    "shape": list(np.shape(value)),
                }
                for key, value in data.items()
            }  # fmt: skip
            lamp = {"lamp-power": {"source": "sim", "dtype": "number", "shape": [], "units": "W"}}
            configuration = {
                "lamp": {"data": {"lamp-power": 5.0}, "timestamps": {}, "data_keys": lamp}
            }
            self._streams[stream] = self._bundle.compose_descriptor(
                name=stream, data_keys=keys, configuration=configuration
            )
            self.add("descriptor", self._streams[stream].descriptor_doc)
        event = self._streams[stream].compose_event(
            data=data, timestamps=dict.fromkeys(data, 86400.5), validate=False
        )
        self.add("event", event)

    def frame(self, detector: str = "eels", stream: str = "primary", **other: Any) -> Frame:
        """Write a frame, or several (`count`), to its file; all pixels are the frame's number."""
        before = [f for f in self.frames if (f.detector, f.stream) == (detector, stream)]
        row = sum(f.count for f in before)
        name = self.layout.frames_of(self.uid, 86400.0, detector)
        axes: tuple[Axis, ...] = other.pop("axes", (ENERGY,))
        lost: str = other.pop("lost", "")
        scan: tuple[Axis, ...] = other.pop("scan", ())
        if scan:
            other["metadata"] = {"scan": [asdict(axis) for axis in scan]}
        frame = Frame(
            reference=f"{self.uid}.{detector}/{row}", run=self.uid, stream=stream,
            detector=detector, number=row, row=row, server=SERVER,
            path=name.relative_to(self.layout.root).as_posix(),
            shape=tuple(axis.size for axis in axes), dtype=other.pop("dtype", "<f4"),
            checksum=0, axes=axes, ended=86401.0 + row, **other,
        )  # fmt: skip
        file = FramesFile(name, frame)
        for number in range(row, row + frame.count):
            file.extend(number + 1)
            if not lost:
                pixels = self.pixels(frame, number)
                checksum = zlib.crc32(pixels.tobytes())
                one = replace(frame, row=number, number=number, count=1, checksum=checksum)
                file.write(one, pixels)
        file.close()
        if lost:
            self.failed[frame.reference] = lost
        self.frames.append(frame)
        return frame

    @staticmethod
    def pixels(frame: Frame, number: int) -> np.ndarray:
        return np.full(frame.shape, number, frame.dtype)

    def close(self) -> None:
        self.add("stop", self._bundle.compose_stop(time=86410.0))
        self.journal.close()
