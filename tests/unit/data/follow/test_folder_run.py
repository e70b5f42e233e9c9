"""A run is followed from journal and ledger to its end, whatever it lacks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bluesky_em import Data, UnknownReference
from bluesky_em.axes import Axis
from bluesky_em.data import Point
from bluesky_em.detector import _documents
from bluesky_em.files.journal import Journal
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.frame import Frame

RUN = "0b5c2d7e-1111-4222-8333-444455556666"
ENERGY = Axis(name="energy", units="eV", offset=0.0, scale=1.0, size=4)


class Folder:
    """A storage folder to which the test writes."""

    def __init__(self, root: Path):
        self.layout = Layout(root)
        self.layout.journal.mkdir()
        self.ledger = LedgerWriter(self.layout.ledger)
        self.journal = Journal(self.layout.journal_of(RUN))
        self.journal.append("start", {"uid": RUN, "time": 1.0})

    def describe(self, **external: str) -> None:
        keys = {k: {"external": e, "dtype": "array", "shape": [4]} for k, e in external.items()}
        self.journal.append("descriptor", {
            "uid": "d", "run_start": RUN, "time": 1.0, "name": "primary", "data_keys": keys,
        })  # fmt: skip

    def fly(self, detector: str, frames: int) -> None:
        """Fly a detector of ours; all its frames are stored."""
        header = {"shape": [frames, 4], "dtype": "<f4", "axes": [vars(ENERGY)], "metadata": {}}
        base = f"{RUN}.{detector}"
        self.journal.append("stream_resource", _documents.stream_resource(
            detector, detector, "file:///x.h5", "PYRO:x@y:1", detector, header,
            base=base, first=0, start=0, block=frames, frames=frames,
        ))  # fmt: skip
        datum = _documents.stream_datum(detector, {"start": 0, "stop": frames})
        seq_nums = {"start": 1, "stop": frames + 1}
        self.journal.append("stream_datum", {**datum, "descriptor": "d", "seq_nums": seq_nums})
        frame = Frame(
            reference=f"{base}/0", run=RUN, stream="primary", detector=detector, number=0, row=0,
            server="PYRO:x@y:1", path=f"data/{detector}.h5", shape=(4,), dtype="<f4", checksum=0,
            axes=(ENERGY,), ended=0.0, count=frames,
        )  # fmt: skip
        self.ledger.add_frames([frame])
        self.ledger.mark_stored([replace(frame, ended=2.0, checksum=7)])

    def stop(self) -> None:
        stop = {
            "uid": "s",
            "run_start": RUN,
            "time": 9.0,
            "exit_status": "success",
            "reason": "done",
        }
        self.journal.append("stop", stop)
        self.journal.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    yield folder
    folder.journal.close()
    folder.ledger.close()


@pytest.fixture
def data(tmp_path: Path, folder: Folder) -> Iterator[Data]:
    data = Data(storage=tmp_path)
    yield data
    data.close()


def follow(data: Data, **options: Any) -> tuple[list[Point], Any]:
    follower = data.follow(RUN, patience=10.0, **options)
    return list(follower), follower.end


def test_points_of_a_fly_scan_have_a_frame_of_each_detector(folder: Folder, data: Data) -> None:
    folder.describe(eels="STREAM:", adf="STREAM:")
    folder.fly("eels", 3)
    folder.fly("adf", 3)
    folder.stop()
    points, end = follow(data)
    assert [p.references for p in points] == [
        {"adf": f"{RUN}.adf/{n}", "eels": f"{RUN}.eels/{n}"} for n in range(3)
    ]
    assert (end.status, end.reason) == ("success", "done")


def test_frames_that_only_one_detector_has_come_at_the_end(folder: Folder, data: Data) -> None:
    folder.describe(eels="STREAM:", adf="STREAM:")
    folder.fly("eels", 3)
    folder.fly("adf", 2)
    folder.stop()
    points, end = follow(data)
    assert [sorted(p.references) for p in points] == [["adf", "eels"], ["adf", "eels"], ["eels"]]
    assert end.status == "success"


def test_other_packages_frames_are_not_waited_for(folder: Folder, data: Data) -> None:
    folder.describe(eels="STREAM:", blob="STREAM:")
    folder.fly("eels", 2)
    folder.journal.append("stream_resource", {"uid": "theirs", "data_key": "blob"})
    runs = data.follow(RUN, patience=10.0)
    assert [next(runs).references["eels"] for _ in range(2)] == [f"{RUN}.eels/{n}" for n in (0, 1)]
    runs.close()


def test_a_run_whose_process_is_gone_ends_as_abandoned(folder: Folder, data: Data) -> None:
    folder.describe(eels="STREAM:")
    folder.fly("eels", 2)
    folder.journal.close()
    points, end = follow(data)
    assert len(points) == 2 and end.status == "abandoned"


def test_a_damaged_journal_is_skipped(
    folder: Folder, data: Data, caplog: pytest.LogCaptureFixture
) -> None:
    (folder.layout.journal / "torn.msgpack").write_bytes(bytes(100))
    folder.stop()
    assert next(data.follow(last=5, patience=1.0)).run == RUN
    assert "a run is skipped" in caplog.text


def test_a_bookmark_in_a_run_that_is_gone_raises_an_error_that_says_so(
    data: Data, tmp_path: Path
) -> None:
    mark = tmp_path / "mark.json"
    mark.write_text('{"run": "gone", "done": {}, "ended": true}')
    with pytest.raises(UnknownReference, match="is in run gone, which is not here"):
        data.follow(bookmark=mark)
