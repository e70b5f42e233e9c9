from typing import Any

import pytest
from event_model import (
    DocumentNames,
    compose_run,
    pack_datum_page,
    pack_event_page,
    schema_validators,
)

from bluesky_em import Reference
from bluesky_em.detector._documents import data_key, datum, resource, stream_resource
from bluesky_em.documents import (
    ReferenceTracker,
    RunOf,
    check,
    datums,
    events,
    is_ours,
    references,
)

SERVER = "PYRO:eels_server@gatan-pc:9091"
HEADER: dict[str, Any] = {
    "shape": [4],
    "dtype": "<f4",
    "checksum": 7,
    "axes": [{"name": "energy", "units": "eV", "offset": 0.0, "scale": 1.0, "size": 4}],
    "metadata": {"exposure": 0.1},
    "started": 1.0,
    "ended": 2.0,
}


def a_resource() -> dict[str, Any]:
    return resource("run.eels", "/data", "eels.h5", SERVER, "eels", HEADER)


def a_datum(number: int = 0) -> dict[str, Any]:
    return datum(Reference(run="run", detector="eels", number=number), HEADER)


def a_run() -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Return a run's start, and one document of each type that belongs to it."""
    run = compose_run()
    key = data_key("eels", SERVER, [4], "<f4", ["energy"])
    described = run.compose_descriptor(name="primary", data_keys={"eels": key})
    ours = a_resource() | {"uid": f"resource of {run.start_doc['uid']}"}
    datum_doc = a_datum() | {"resource": ours["uid"]}
    event = described.compose_event(
        data={"eels": datum_doc["datum_id"]}, timestamps={"eels": 2.0}, filled={"eels": False}
    )
    stream = run.compose_stream_resource(
        mimetype="application/x-hdf5", uri="file://localhost/x.h5", data_key="eels", parameters={}
    )
    stream_datum = stream.compose_stream_datum(
        indices={"start": 0, "stop": 1}, seq_nums={"start": 1, "stop": 2},
        descriptor=described.descriptor_doc,
    )  # fmt: skip
    return run.start_doc, [
        ("descriptor", described.descriptor_doc),
        ("resource", ours | {"run_start": run.start_doc["uid"]}),
        ("datum", datum_doc),
        ("datum_page", pack_datum_page(datum_doc)),
        ("event", event),
        ("event_page", pack_event_page(event)),
        ("stream_resource", stream.stream_resource_doc),
        ("stream_datum", stream_datum),
        ("stop", run.compose_stop()),
    ]


@pytest.mark.parametrize(("name", "doc"), [("resource", a_resource()), ("datum", a_datum())])
def test_composed_documents_validate_against_event_model(name: str, doc: dict[str, Any]):
    schema_validators[DocumentNames[name]].validate(doc)


def test_our_data_key_makes_a_valid_descriptor():
    key = data_key("eels", SERVER, [4], "<f4", ["energy"])
    composed = compose_run().compose_descriptor(name="primary", data_keys={"eels": key})
    schema_validators[DocumentNames.descriptor].validate(composed.descriptor_doc)
    assert key["source"] == f"{SERVER}#eels"
    assert (key["external"], key["dtype_numpy"], key["shape"]) == ("FILESTORE:", "<f4", [4])


def test_the_id_of_a_datum_is_its_reference_and_its_kwargs_describe_the_frame():
    doc = a_datum(17)
    assert doc["datum_id"] == "run.eels/17"
    assert doc["datum_kwargs"]["number"] == 17
    assert doc["datum_kwargs"]["checksum"] == 7
    assert doc["datum_kwargs"]["axes"] == HEADER["axes"]


def test_each_document_is_new_so_that_changing_one_changes_no_other():
    a_datum()["datum_kwargs"]["axes"][0]["scale"] = 99.0
    a_resource()["resource_kwargs"]["chunk_shape"].append(99)
    assert a_datum()["datum_kwargs"]["axes"][0]["scale"] == 1.0
    assert a_resource()["resource_kwargs"]["chunk_shape"] == [1, 4]


def test_a_resource_is_ours_only_with_spec_server_and_detector():
    assert is_ours(a_resource())
    assert not is_ours(a_resource() | {"spec": "AD_HDF5"})
    assert not is_ours(a_resource() | {"resource_kwargs": {"dataset": "/entry/data/data"}})
    assert not is_ours({"spec": "HDF5"})


def test_pages_are_unpacked_and_other_documents_hold_no_events_or_datums():
    _, documents = a_run()
    by_name = dict(documents)
    assert list(datums("datum_page", by_name["datum_page"])) == [by_name["datum"]]
    (event,) = events("event_page", by_name["event_page"])
    assert event["data"] == by_name["event"]["data"]
    assert not list(events("descriptor", by_name["descriptor"]))
    assert not list(datums("event", by_name["event"]))


def test_every_document_of_two_interleaved_runs_is_assigned_to_its_run():
    (one, of_one), (two, of_two) = a_run(), a_run()
    run_of = RunOf()
    assert (run_of("start", one), run_of("start", two)) == (one["uid"], two["uid"])
    for (name, mine), (_, other) in zip(of_one, of_two, strict=True):
        assert run_of(name, mine) == one["uid"], name
        assert run_of(name, other) == two["uid"], name
        run_of.learn(name, mine, one["uid"])
        run_of.learn(name, other, two["uid"])


def test_a_document_of_an_unknown_run_belongs_to_no_run():
    _, documents = a_run()
    by_name = dict(documents)
    for name in ("event", "event_page", "datum", "datum_page", "stream_datum"):
        assert RunOf()(name, by_name[name]) is None, name
    assert RunOf()("resource", a_resource()) is None


def test_a_forgotten_run_is_unknown_and_the_other_one_stays():
    (one, of_one), (two, of_two) = a_run(), a_run()
    run_of = RunOf()
    for start, documents in ((one, of_one), (two, of_two)):
        for name, doc in documents:
            run_of.learn(name, doc, start["uid"])
    run_of.forget(one["uid"])
    run_of.forget(one["uid"])
    for name in ("event", "datum", "stream_datum"):
        assert run_of(name, dict(of_one)[name]) is None, name
        assert run_of(name, dict(of_two)[name]) == two["uid"], name


@pytest.mark.parametrize("update, said", [
    ("replace", "has 'replace' as 'update'; give a mapping"),
    ({"mode": "append", "shape": [4], "dtype": "<f4"}, "give one of add_slice, replace"),
    ({"mode": "add", "shape": [None, 4], "dtype": "<f4"}, "leave 'update' out"),
])  # fmt: skip
def test_a_fly_scan_that_declares_an_unknown_mode_is_refused(update: Any, said: str):
    header = HEADER | {"shape": [1, 4]}
    document = stream_resource(
        "uid", "eels", "file:///x.h5", SERVER, "eels", header, base="run.eels", first=0, start=0,
        block=1, frames=9, update=update,
    )  # fmt: skip
    with pytest.raises(ValueError, match=said):
        check("stream_resource", document)


def an_event(**data: Any) -> dict[str, Any]:
    return {"descriptor": "d", "data": data, "timestamps": dict.fromkeys(data, 0.0)}


def tracker_of(*documents: tuple[str, Any]) -> ReferenceTracker:
    tracker = ReferenceTracker()
    for name, document in documents:
        tracker.learn(name, document)
    return tracker


def test_a_tracker_finds_our_references_in_an_event_and_no_other_values():
    theirs = a_datum(1) | {"resource": "theirs", "datum_id": "theirs/0"}
    tracker = tracker_of(("resource", a_resource()), ("datum", a_datum()), ("datum", theirs))
    event = an_event(eels="run.eels/0", blob="theirs/0", beam=1.0, label="text", image=[1])
    ((same, found),) = tracker.events("event", event)
    assert same is event and found == {"eels": "run.eels/0"}
    assert tracker.datum("run.eels/0") == a_datum()
    assert tracker.resource(a_datum()) == a_resource()
    assert [datum["datum_id"] for datum in tracker.unused()] == ["run.eels/0"]
    assert tracker.awaits("theirs/0") and not tracker.awaits("text")


def test_a_reference_is_handed_out_once():
    tracker = tracker_of(("resource", a_resource()))
    tracker.hand_out("datum", a_datum(0))
    tracker.hand_out("datum_page", pack_datum_page(a_datum(2), a_datum(3)))
    with pytest.raises(ValueError, match=r"handed out 'run\.eels/3'.*each device its own name"):
        tracker.hand_out("datum", a_datum(3))
    with pytest.raises(ValueError, match="datum_id of a datum document is wrong: 'x'"):
        tracker.hand_out("datum", a_datum() | {"datum_id": "x"})
    theirs = a_datum() | {"resource": "theirs"}
    tracker.hand_out("datum", theirs)
    tracker.hand_out("datum", theirs)


def test_a_reference_belongs_to_one_event():
    tracker = tracker_of(("resource", a_resource()), ("datum", a_datum()))
    event = an_event(eels="run.eels/0")
    tracker.learn("event", event)
    assert [found for _, found in tracker.events("event", event)] == [{}]
    assert not tracker.awaits("run.eels/0") and tracker.unused() == []


def test_a_tracker_recognizes_only_resources_of_ours():
    tracker = ReferenceTracker()
    assert tracker.learn("resource", a_resource())
    assert not tracker.learn("resource", a_resource() | {"spec": "AD_HDF5"})
    assert not tracker.learn("stream_resource", {"uid": "theirs", "data_key": "blob"})
    assert tracker.fly_scan_frames("stream_datum", {"stream_resource": "theirs"}) is None


def test_a_stream_datum_names_the_frames_of_its_fly_scan():
    scan = stream_resource(
        "scan", "eels", "file:///x.h5", SERVER, "eels", HEADER | {"shape": [5, 4]},
        base="run.eels", first=100, start=20, block=5, frames=50,
    )  # fmt: skip
    datum_doc = {"stream_resource": "scan", "indices": {"start": 30, "stop": 33}}
    tracker = ReferenceTracker()
    assert tracker.learn("stream_resource", scan)
    frames = tracker.fly_scan_frames("stream_datum", datum_doc)
    assert frames is not None
    assert (frames.base, frames.numbers) == ("run.eels", range(110, 113))
    assert frames.references == ["run.eels/110", "run.eels/111", "run.eels/112"]
    assert tracker.handed_out("stream_datum", datum_doc, last=True) == ["run.eels/112"]
    empty = datum_doc | {"indices": {"start": 30, "stop": 30}}
    assert tracker.handed_out("stream_datum", empty, last=True) == []
    documents = [("stream_resource", scan), ("stream_datum", datum_doc)]
    assert references(documents) == frames.references
    assert references(documents, last=True) == ["run.eels/112"]


@pytest.mark.parametrize("pages", [False, True])
def test_the_references_of_a_run_are_listed_from_datums_and_datum_pages(pages: bool):
    datum_doc: Any = a_datum()
    handed_out = ("datum_page", pack_datum_page(datum_doc)) if pages else ("datum", datum_doc)
    assert references([("resource", a_resource()), handed_out]) == ["run.eels/0"]
