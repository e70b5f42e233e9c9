from typing import Any

from bluesky_em.documents import ReferenceTracker
from bluesky_em.storage.run_frames import HandedOut, RunFrames, handed_out

SERVER = "PYRO:eels_server@gatan-pc:9091"
RESOURCE = {
    "uid": "r", "spec": "HDF5", "root": "/", "resource_path": "eels.h5",
    "resource_kwargs": {"server": SERVER, "detector": "eels"},
}  # fmt: skip
DATUM = {"datum_id": "run.eels/4", "resource": "r", "datum_kwargs": {}}
SCAN = {
    "uid": "s", "data_key": "eels",
    "parameters": {
        "server": SERVER, "detector": "eels", "base": "run.eels", "first": 2, "start": 0,
        "block": 4, "frames": 10, "dtype": "<f4", "axes": [], "metadata": {},
    },
}  # fmt: skip


def tracker_of(*documents: tuple[str, Any]) -> ReferenceTracker:
    tracker = ReferenceTracker()
    for name, document in documents:
        tracker.learn(name, document)
    return tracker


def spans(tracker: ReferenceTracker, name: str, document: Any) -> list[tuple[int, int]]:
    return [(each.first, each.stop) for each in handed_out("run", tracker, name, document)]


def test_a_frame_is_handed_out_with_its_event_not_with_its_datum() -> None:
    tracker = tracker_of(("resource", RESOURCE), ("datum", DATUM))
    assert spans(tracker, "datum", DATUM) == []
    event = {"data": {"eels": "run.eels/4", "motor": 1.0}}
    assert list(handed_out("run", tracker, "event", event)) == [
        HandedOut(base="run.eels", run="run", server=SERVER, first=4, stop=5)
    ]


def test_frames_of_an_incomplete_block_are_left_out_but_for_the_last_block() -> None:
    tracker = tracker_of(("stream_resource", SCAN))

    def datum(stop: int) -> dict[str, Any]:
        return {"stream_resource": "s", "indices": {"start": 0, "stop": stop}}

    assert [spans(tracker, "stream_datum", datum(stop)) for stop in (3, 4, 9, 10)] == [
        [(2, 2)], [(2, 6)], [(2, 10)], [(2, 12)],
    ]  # fmt: skip


def test_a_detectors_frames_are_counted_together() -> None:
    frames = RunFrames()
    for first, stop in ((2, 4), (4, 7), (7, 7)):
        frames.add(HandedOut(base="run.eels", run="run", server=SERVER, first=first, stop=stop))
    assert frames.all() == [HandedOut(base="run.eels", run="run", server=SERVER, first=2, stop=7)]
    frames.forget("run.eels")
    assert frames.all() == []
