from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from bluesky_em.axes import Axis
from bluesky_em.documents import DATASET, SPEC
from bluesky_em.files.hdf5 import FramesFile
from bluesky_em.files.hdf5.databroker_handler import FramesHandler
from bluesky_em.files.layout import Layout
from bluesky_em.frame import Frame

FRAME = Frame(
    reference="run.eels/0", run="run", stream="primary", detector="eels", number=0, row=0,
    server="", path="", shape=(2,), dtype="<u2", checksum=0, ended=0.0,
    axes=(Axis(name="energy", units="eV", offset=0.0, scale=1.0, size=2),),
)  # fmt: skip


def store(path: Path, *numbers: int) -> Path:
    """Write a file whose pixels are the numbers of the frames."""
    file = FramesFile(path, FRAME)
    for row, number in enumerate(numbers):
        file.write(replace(FRAME, number=number, row=row), np.full(2, number, "<u2"))
    file.close()
    return path


def test_a_frame_is_found_by_its_number(tmp_path: Path):
    path = store(tmp_path / "eels.h5", 0, 3, 2)
    handler = FramesHandler(str(path), dataset=DATASET, swmr=True, server="", detector="eels")
    frames = [handler(number=number, checksum=0, axes=[]) for number in (0, 2, 3)]
    assert [frame.tolist() for frame in frames] == [[0, 0], [2, 2], [3, 3]]


def test_a_frame_of_the_second_stream_is_found_in_its_file(tmp_path: Path):
    layout = Layout(tmp_path)
    path = store(layout.frames_of("run", 0.0, "eels"), 0, 2)
    store(layout.frames_of("run", 0.0, "eels", "dark"), 1, 3)
    handler = FramesHandler(str(path))
    assert [handler(number=number).tolist()[0] for number in range(4)] == [0, 1, 2, 3]


def test_a_missing_frame_is_named_with_the_files_that_were_searched(tmp_path: Path):
    path = store(tmp_path / "eels.h5", 0)
    with pytest.raises(LookupError, match=r"no frame with number 7 in \['.*eels.h5'\]"):
        FramesHandler(str(path))(number=7)


def test_databroker_finds_the_handler_by_its_entry_point():
    (point,) = entry_points(group="databroker.handlers", name=SPEC)
    assert point.load() is FramesHandler
    assert SPEC in FramesHandler.specs


def test_the_frames_of_another_detector_are_never_returned(tmp_path: Path):
    layout = Layout(tmp_path)
    path = store(layout.frames_of("run", 0.0, "eels"), 0)
    store(layout.frames_of("run", 0.0, "eels-dark"), 0, 1)
    with pytest.raises(LookupError):
        FramesHandler(str(path))(number=1)
