from pathlib import Path
from typing import Any

import pytest
from event_model import compose_run, pack_datum_page, pack_event_page

from bluesky_em import Reference
from bluesky_em.axes import Axis
from bluesky_em.detector._documents import data_key, datum, resource, stream_datum, stream_resource
from bluesky_em.files.layout import Layout
from bluesky_em.storage.writer._frame_finder import FrameFinder

SERVER = "PYRO:eels_server@gatan-pc:9091"
Documents = list[tuple[str, Any]]


class Run:
    """Composes the documents of a run with our detectors."""

    def __init__(self, layout: Layout):
        self.layout = layout
        bundle = compose_run(time=86400.0)
        self.start = bundle.start_doc
        self.uid = self.start["uid"]
        self.documents: Documents = [("start", self.start)]
        self._run = bundle
        self._descriptors: dict[str, Any] = {}
        self._numbers: dict[str, int] = {}
        self._fly_scan_stops: dict[str, int] = {}

    def shot(self, *detectors: str, stream: str = "primary", pages: bool = False) -> list[str]:
        """Add one event of some detectors; return its references."""
        for name in detectors:
            if name not in self._numbers:
                self._numbers[name] = 0
                ours = resource(f"{name} {self.uid}", "/", "x.h5", SERVER, name, _header(0))
                self.documents.append(("resource", {**ours, "run_start": self.uid}))
        if stream not in self._descriptors:
            keys = {name: data_key(name, SERVER, [4], "<f4", ["energy"]) for name in detectors}
            keys["t"] = {"source": "clock", "dtype": "string", "shape": []}
            self._descriptors[stream] = self._run.compose_descriptor(name=stream, data_keys=keys)
            self.documents.append(("descriptor", self._descriptors[stream].descriptor_doc))
        data = {name: self._datum(name, pages) for name in detectors}
        event = self._descriptors[stream].compose_event(
            data={**data, "t": "now"},
            timestamps=dict.fromkeys([*data, "t"], 0.0),
            filled=dict.fromkeys(data, False),
        )
        self._add("event_page", pack_event_page(event)) if pages else self._add("event", event)
        return list(data.values())

    def fly_scan(self, name: str, *stops: int, frames: int, block: int, first: int = 0) -> None:
        """Add a fly scan whose documents end at indices `stops`, in a separate stream."""
        stream = f"map {name}"
        if stream not in self._descriptors:
            key = data_key(name, SERVER, [4], "<f4", ["energy"], flown=True)
            self._descriptors[stream] = self._run.compose_descriptor(
                name=stream, data_keys={name: key}
            )
            self._add("descriptor", self._descriptors[stream].descriptor_doc)
        uid, header = f"fly scan {len(self.documents)}", _header(0) | {"shape": [block, 4]}
        base, start = f"{self.uid}.{name}", self._fly_scan_stops.get(name, 0)
        scan = stream_resource(
            uid, name, "file:///x.h5", SERVER, name, header,
            base=base, first=first, start=start, block=block, frames=frames,
        )  # fmt: skip
        self._add("stream_resource", scan)
        for stop in stops:
            document = stream_datum(uid, {"start": start, "stop": stop})
            document["descriptor"] = self._descriptors[stream].descriptor_doc["uid"]
            self._add("stream_datum", document)
            start = self._fly_scan_stops[name] = stop

    def _datum(self, name: str, pages: bool) -> str:
        number = self._numbers[name]
        self._numbers[name] += 1
        reference = Reference(run=self.uid, detector=name, number=number)
        doc = {**datum(reference, _header(number)), "resource": f"{name} {self.uid}"}
        self._add("datum_page", pack_datum_page(doc)) if pages else self._add("datum", doc)
        return str(reference)

    def _add(self, name: str, document: Any) -> None:
        self.documents.append((name, document))

    def frames(self) -> list[Any]:
        finder = FrameFinder(self.layout)
        return [frame for name, doc in self.documents for frame in finder(name, doc)]


def _header(number: int) -> dict[str, Any]:
    axis = {"name": "energy", "units": "eV", "offset": float(number), "scale": 1.0, "size": 4}
    return {
        "shape": [4], "dtype": "<f4", "checksum": 100 + number, "axes": [axis],
        "metadata": {"exposure": 0.1}, "started": 1.0, "ended": 2.0 + number,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(Layout(tmp_path))


def test_an_event_completes_its_frame_with_everything_that_the_writer_needs(run: Run):
    (reference,) = run.shot("eels")
    (frame,) = run.frames()
    assert frame.reference == reference
    assert (frame.run, frame.stream, frame.detector) == (run.uid, "primary", "eels")
    assert (frame.server, frame.dtype, frame.shape) == (SERVER, "<f4", (4,))
    assert (frame.checksum, frame.ended) == (100, 2.0)
    assert frame.axes == (Axis(name="energy", units="eV", offset=0.0, scale=1.0, size=4),)
    assert frame.metadata == {"exposure": 0.1}
    assert frame.path == f"data/1970/01/02/{run.uid}/eels.h5"


def test_a_datum_alone_is_not_a_frame_yet(run: Run):
    run.shot("eels")
    finder = FrameFinder(run.layout)
    found = [finder(name, doc) for name, doc in run.documents]
    assert [len(frames) for frames in found] == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("pages", [False, True])
def test_the_row_is_the_number_of_the_event_minus_one(run: Run, pages: bool):
    for _ in range(5):
        run.shot("eels", pages=pages)
    assert [(frame.row, frame.number) for frame in run.frames()] == [(n, n) for n in range(5)]


def test_two_detectors_in_one_event_give_two_frames_in_two_files(run: Run):
    references = run.shot("eels", "haadf")
    frames = run.frames()
    assert {frame.reference for frame in frames} == set(references)
    assert len({frame.path for frame in frames}) == 2
    assert [frame.row for frame in frames] == [0, 0]


def test_a_second_stream_of_a_detector_has_its_own_file(run: Run):
    run.shot("eels", stream="dark")
    run.shot("eels")
    run.shot("eels", stream="dark")
    dark, primary, again = run.frames()
    assert dark.path.endswith("/eels.h5")
    assert primary.path != dark.path == again.path
    assert [frame.row for frame in (dark, primary, again)] == [0, 0, 1]
    assert [frame.number for frame in (dark, primary, again)] == [0, 1, 2]


def test_the_same_documents_twice_give_the_same_frames(run: Run):
    run.shot("eels", "haadf")
    run.shot("eels", stream="dark")
    once, twice = run.frames(), run.frames()
    assert once == twice
    assert len(once) == 3


def test_an_event_with_a_repeated_seq_num_after_a_pause_gets_its_own_row(run: Run):
    run.shot("eels")
    run.shot("eels")
    events = [document for name, document in run.documents if name == "event"]
    events[1]["seq_num"] = events[0]["seq_num"]
    assert [frame.row for frame in run.frames()] == [0, 1]


def test_a_resource_emitted_again_after_a_pause_changes_nothing(run: Run):
    run.shot("eels")
    run.documents += [doc for doc in run.documents if doc[0] == "resource"]
    run.shot("eels")
    assert [frame.row for frame in run.frames()] == [0, 1]


def test_the_number_of_an_interrupted_point_is_skipped_and_its_row_is_used(run: Run):
    run.shot("eels")
    run._numbers["eels"] += 1  # exposed, but the RunEngine dropped the point
    run.shot("eels")
    assert [(frame.row, frame.number) for frame in run.frames()] == [(0, 0), (1, 2)]


def test_resources_of_other_packages_are_ignored(run: Run):
    run.shot("eels")
    theirs = [
        (name, {**doc, "spec": "AD_HDF5"}) if name == "resource" else (name, doc)
        for name, doc in run.documents
    ]
    finder = FrameFinder(run.layout)
    assert not [frame for name, doc in theirs for frame in finder(name, doc)]


def test_hostile_stream_names_stay_in_the_runs_folder(run: Run):
    for stream in ("primary", "../../../y", "/etc/passwd", ".."):
        run.shot("eels", stream=stream)
    frames = run.frames()
    assert len({frame.path for frame in frames}) == 4
    for frame in frames:
        path = (run.layout.root / frame.path).resolve()
        assert path.parent == run.layout.frames_of(run.uid, 86400.0, "eels").parent.resolve()


def test_no_detector_shares_a_file_with_a_stream_of_another_detector(run: Run):
    run.shot("eels", "eels-dark")
    run.shot("eels", stream="dark")
    one, two, three = (frame.path for frame in run.frames())
    assert len({one, two, three}) == 3


def test_a_fly_scan_is_found_block_by_block_whatever_its_documents_cover(run: Run):
    run.fly_scan("eels", 7, 30, 45, frames=45, block=10)
    frames = run.frames()
    assert [(f.number, f.row, f.count) for f in frames] == [
        (0, 0, 10), (10, 10, 10), (20, 20, 10), (30, 30, 10), (40, 40, 5)
    ]  # fmt: skip
    assert frames[1].reference == f"{run.uid}.eels/10"
    assert {f.path for f in frames} == {frames[0].path} and frames[0].flown
    assert frames[0].shape == (4,) and frames[0].axes[0].units == "eV"


def test_the_rest_of_a_fly_scan_that_ended_early_comes_last_or_before_the_next_one(run: Run):
    run.fly_scan("eels", 13, frames=100, block=10)
    run.fly_scan("eels", 33, frames=20, block=20, first=100)
    finder = FrameFinder(run.layout)
    frames = [frame for name, doc in run.documents for frame in finder(name, doc)]
    assert [(f.number, f.row, f.count) for f in frames] == [(0, 0, 10), (10, 10, 3), (100, 13, 20)]
    run.fly_scan("eels", 38, frames=50, block=10, first=120)
    for name, doc in run.documents[-2:]:
        assert finder(name, doc) == []
    assert [(f.number, f.row, f.count) for f in finder.tails()] == [(120, 33, 5)]
    assert finder.tails() == []
