"""Documents of a run, as any other consumer of Bluesky documents reads them."""

import asyncio
import copy
import json
import subprocess
import sys
import uuid
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.utils import MsgGenerator
from bluesky_tiled_plugins import TiledWriter
from event_model import DocumentNames, Filler, schema_validators
from tiled.client import from_uri

from bluesky_em import Data
from bluesky_em.app.session import Session
from bluesky_em.files import journal_reader
from bluesky_em.files.hdf5.databroker_handler import FramesHandler
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.gatan import Spectrometer
from bluesky_em.plan_stubs import per_shot, per_step
from bluesky_em.reference import run_of


@pytest.fixture(scope="module")
def run(session: Session) -> tuple[str, list[str]]:
    """A line scan that is complete: its uid and references."""
    plan = session.plans["line_scan"](
        session.devices["eels"], session.devices["microscope"], points=5, exposure=0.001
    )
    references = session.RE(plan).plan_result
    uid = run_of(references[0])
    session.data.wait(uid)
    return uid, references


def documents_of(session: Session, uid: str) -> list[tuple[str, dict[str, Any]]]:
    return journal_reader.read(session.storage.layout.journal_of(uid))


def test_every_document_validates_against_event_model(session: Session, run) -> None:
    documents = documents_of(session, run[0])
    for name, document in documents:
        schema_validators[DocumentNames[name]].validate(document)
    assert [name for name, _ in documents] == [
        "start", "descriptor", "resource", "datum", "event", *["datum", "event"] * 4, "stop",
    ]  # fmt: skip


def test_the_event_has_the_reference_and_the_descriptor_has_the_configuration(
    session: Session, run
) -> None:
    documents = documents_of(session, run[0])
    events = [document for name, document in documents if name == "event"]
    assert [event["data"]["eels"] for event in events] == run[1]
    (descriptor,) = [document for name, document in documents if name == "descriptor"]
    configuration = descriptor["configuration"]["eels"]["data"]
    assert configuration["eels-exposure"] == 0.001
    assert {"eels-frames", "eels-energy_offset", "eels-dispersion", "eels-aperture"} < set(
        configuration
    )


def test_replaying_the_journal_into_a_plain_tiled_writer_gives_the_same_run(
    session: Session, tiled: TiledAddress, run
) -> None:
    catalog = from_uri(tiled.uri, api_key=tiled.writer_key)
    elsewhere = catalog.create_container(f"replayed-{uuid.uuid4()}")
    writer = TiledWriter(elsewhere)
    for name, document in documents_of(session, run[0]):
        writer(name, copy.deepcopy(document))
    ours, theirs = catalog[run[0]], elsewhere[run[0]]
    assert ours.metadata["start"] == theirs.metadata["start"]
    assert ours.metadata["stop"] == theirs.metadata["stop"]
    assert list(ours) == list(theirs)
    ours_data, theirs_data = ours["primary"].read(), theirs["primary"].read()
    assert set(ours_data) == set(theirs_data)
    for key in ours_data:
        np.testing.assert_array_equal(ours_data[key], theirs_data[key])
    catalog.context.close()


def test_databroker_opens_the_run(tiled: TiledAddress, run) -> None:
    # in a separate process: databroker changes every Tiled client of its process
    script = (
        "from databroker import Broker; from tiled.client import from_uri\n"
        f"header = Broker(from_uri({tiled.uri!r}, api_key={tiled.api_key!r}))[{run[0]!r}]\n"
        "print(header.start['plan_name'], len(header.table()), "
        "[frame.shape for frame in header.data('eels')])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == f"line_scan 5 {[(2048,)] * 5}", done.stderr


def test_databrokers_mongodb_catalog_fills_the_frames_of_a_step_scan(session: Session, run) -> None:
    journal = session.storage.layout.journal_of(run[0])
    script = [sys.executable, "-W", "ignore", "-m", "tests.support.mongo_databroker", str(journal)]
    done = subprocess.run(script, capture_output=True, text=True)
    expected = [
        document["datum_kwargs"]["checksum"]
        for name, document in documents_of(session, run[0])
        if name == "datum"
    ]
    assert json.loads(done.stdout or "[]") == expected and len(expected) == 5, done.stderr


def test_an_event_model_filler_reads_the_frames_with_our_handler(session: Session, run) -> None:
    filler = Filler({"HDF5": FramesHandler}, inplace=False)
    filled = [
        document["data"]["eels"]
        for name, document in (filler(n, d) for n, d in documents_of(session, run[0]))
        if name == "event"
    ]
    for frame, reference in zip(filled, run[1], strict=True):
        np.testing.assert_array_equal(frame, session.data.open(reference).read())


def test_two_streams_of_one_detector_each_get_their_own_frames(
    session: Session, http: Data
) -> None:
    eels = session.devices["eels"]

    def plan() -> MsgGenerator[list[str]]:
        yield from bps.stage(eels)
        yield from bps.open_run()
        references = []
        for stream in ("primary", "dark", "primary", "dark", "dark"):
            references += yield from per_shot([eels], stream)
        yield from bps.close_run()
        yield from bps.unstage(eels)
        return references

    references = session.RE(plan()).plan_result
    uid = run_of(references[0])
    session.data.wait(uid)
    run = session.data.catalog[uid]
    assert run["primary/eels"].shape == (2, 2048)
    assert run["dark/eels"].shape == (3, 2048)
    for reference in references:
        np.testing.assert_array_equal(
            session.data.open(reference).read(), http.open(reference).read()
        )
    np.testing.assert_array_equal(run["dark/eels"][2], http.open(references[4]).read())


def test_runs_that_are_open_at_the_same_time_keep_their_frames_separate(
    session: Session, http: Data
) -> None:
    eels, haadf = session.devices["eels"], session.devices["haadf"]

    def plan() -> MsgGenerator[list[str]]:
        from bluesky.preprocessors import set_run_key_wrapper as in_run

        yield from in_run(bps.open_run(), "a")
        yield from in_run(bps.open_run(), "b")
        references = []
        for _ in range(3):
            references += yield from in_run(per_shot([eels]), "a")
            references += yield from in_run(per_shot([haadf]), "b")
        yield from in_run(bps.close_run(), "a")
        yield from in_run(bps.close_run(), "b")
        return references

    result = session.RE(plan())
    for uid in result.run_start_uids:
        session.data.wait(uid)
    a, b = (session.data.catalog[uid] for uid in result.run_start_uids)
    assert a["primary/eels"].shape[0] == b["primary/haadf"].shape[0] == 3
    assert len({run_of(reference) for reference in result.plan_result}) == 6
    last = session.data.open(result.plan_result[4])
    np.testing.assert_array_equal(last.read(), a["primary/eels"][2])


def test_a_stock_scan_uses_our_per_step_and_moves_only_what_must_move(session: Session) -> None:
    eels, microscope = session.devices["eels"], session.devices["microscope"]
    plan = bp.grid_scan(
        [eels], microscope.beam_y, 0.2, 0.4, 2, microscope.beam_x, 0.1, 0.3, 3, per_step=per_step
    )
    moved: list[str] = []
    session.RE.msg_hook = lambda message: moved.extend(
        [message.obj.name] if message.command == "set" else []
    )
    try:
        session.RE(bps.mv(eels.exposure, 0.001))
        (uid,) = session.RE(plan).run_start_uids
    finally:
        session.RE.msg_hook = None
    session.data.wait(uid)
    run = session.data.catalog[uid]["primary"].read()
    np.testing.assert_allclose(run["microscope-beam_x"], [0.1, 0.2, 0.3] * 2, atol=0.02)
    np.testing.assert_allclose(run["microscope-beam_y"], [0.2] * 3 + [0.4] * 3, atol=0.02)
    assert moved.count("microscope-beam_y") == 2
    assert session.data.catalog[uid]["primary/eels"].shape == (6, 2048)


def test_a_second_device_of_the_same_name_is_refused_and_the_frames_of_the_first_are_whole(
    session: Session,
) -> None:
    first = session.devices["eels"]
    paths = session.storage.path_provider
    second = Spectrometer(first.uri, path_provider=paths, name="eels")
    asyncio.run_coroutine_threadsafe(second.connect(), session.RE.loop).result(60)

    @bpp.stage_decorator([first, second])
    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        yield from per_shot([first], "one")
        yield from per_shot([second], "two")

    uids: list[str] = []
    token = session.RE.subscribe(lambda _, start: uids.append(start["uid"]), "start")
    # a FailedStatus while the spool holds the frame, and Storage's ValueError afterwards
    with pytest.raises(Exception) as refused:
        session.RE(plan())
    session.RE.unsubscribe(token)
    assert "its own name" in f"{refused.value} {refused.value.__cause__}"
    session.data.wait(uids[0])
    total = next(
        document["data"]["eels-total"]
        for name, document in documents_of(session, uids[0])
        if name == "event"
    )
    (frame,) = session.data.catalog[uids[0]]["one/eels"].read()
    assert frame.sum(dtype=float) == pytest.approx(total, rel=1e-4)
