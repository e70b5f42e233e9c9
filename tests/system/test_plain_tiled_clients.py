"""Spectra, images and maps as a Tiled client reads them that does not know this package."""

import copy
import uuid
from collections.abc import Iterator
from threading import Thread
from typing import Any

import bluesky.preprocessors as bpp
import numpy as np
import pytest
import xarray
from bluesky.utils import MsgGenerator, RunEngineInterrupted
from bluesky_tiled_plugins import TiledWriter
from ophyd_async.core import TriggerInfo
from tiled.client import from_uri

from bluesky_em import MapInfo
from bluesky_em.app.session import Session
from bluesky_em.files import journal_reader
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.plan_stubs import beam_on, fly, per_shot


@pytest.fixture
def catalog(session: Session, tiled: TiledAddress) -> Iterator[Any]:
    """The catalog, by a key that may also write."""
    client = from_uri(tiled.uri, api_key=tiled.writer_key)
    yield client
    client.context.close()


def run_plan(session: Session, plan: MsgGenerator[Any], *detectors: Any) -> str:
    """Run stubs in a run of its own, with the beam on; return its uid once it is complete."""
    decorated = bpp.stage_wrapper(bpp.run_wrapper(plan), detectors)
    (uid,) = session.RE(beam_on(decorated, session.devices["microscope"])).run_start_uids
    session.data.wait(uid)
    return uid


def findings(session: Session, uid: str) -> list[str]:
    """Return what `verify` finds wrong in a run."""
    from bluesky_em.files.ledger import Ledger
    from bluesky_em.storage.upkeep.audit import audit_run

    layout = session.storage.layout
    ledger = Ledger(layout.ledger)
    try:
        return [str(each) for each in audit_run(layout, ledger, uid, session.data.catalog)]
    finally:
        ledger.close()


def replayed(session: Session, catalog: Any, uid: str, stream: str) -> xarray.Dataset:
    """Write a run's journal with a plain TiledWriter, and read the stream."""
    elsewhere = catalog.create_container(f"replayed-{uuid.uuid4()}")
    writer = TiledWriter(elsewhere)
    for name, document in journal_reader.read(session.storage.layout.journal_of(uid)):
        writer(name, copy.deepcopy(document))
    return elsewhere[uid][stream].read()


def test_spectra_have_their_energies_in_ev_as_coordinate(session: Session, catalog: Any) -> None:
    eels = session.devices["eels"]
    uid = run_plan(session, per_shot([eels]), eels)
    read = catalog[uid]["primary"].read()
    assert read["eels"].dims == ("time", "energy") and "energy" in read.coords
    (axis,) = session.data.open(f"{uid}.eels/0").axes
    np.testing.assert_array_equal(read["energy"], axis.values)
    assert catalog[uid]["primary"].base["energy"].metadata["units"] == "eV"
    assert findings(session, uid) == []


def test_images_have_y_and_x_with_units_and_other_sizes_other_names(
    session: Session, catalog: Any
) -> None:
    haadf, ceta = session.devices["haadf"], session.devices["ceta"]
    uid = run_plan(session, per_shot([haadf, ceta]), haadf, ceta)
    read = catalog[uid]["primary"].read()
    for name in ("haadf", "ceta"):
        _, y, x = read[name].dims
        axes = session.data.open(f"{uid}.{name}/0").axes
        for dim, axis in zip((y, x), axes, strict=True):
            np.testing.assert_array_equal(read[dim], axis.values)
            assert catalog[uid]["primary"].base[dim].metadata["units"] == axis.units
    assert {*read["haadf"].dims} & {*read["ceta"].dims} == {"time"}
    assert findings(session, uid) == []


def test_an_axis_that_changes_from_shot_to_shot_is_no_coordinate(
    session: Session, catalog: Any
) -> None:
    plan = session.plans["energy_series"](
        session.devices["eels"], session.devices["microscope"],
        offsets=(0.0, 400.0), exposures=(0.01, 0.01),
    )  # fmt: skip
    (uid,) = session.RE(plan).run_start_uids
    session.data.wait(uid)
    read = catalog[uid]["primary"].read()
    assert read["eels"].dims == ("time", "energy_index")
    assert "energy_index" not in read.coords
    assert findings(session, uid) == []


def test_a_map_has_lines_columns_and_energies_and_the_dark_field_shares_them(
    session: Session, catalog: Any
) -> None:
    eels, adf = session.devices["eels"], session.devices["adf"]
    uid = run_plan(session, fly([eels, adf], MapInfo(shape=(4, 8), livetime=1e-3)), eels, adf)
    read = catalog[uid]["primary"].read()
    assert read["eels"].dims == ("y", "x", "energy") and read["adf"].dims == ("y", "x")
    assert {"y", "x", "energy"} <= {*read.coords}
    frame = session.storage._ledger.find(f"{uid}.eels/0").frame
    for axis in (*frame.scan, *frame.axes):
        np.testing.assert_array_equal(read[axis.name], axis.values)
    assert (read["taken"] == 1).all() and (read["adf_taken"] == 1).all()
    np.testing.assert_array_equal(
        read["eels"][3, 5], session.data.open(f"{uid}.eels/{3 * 8 + 5}").read()
    )
    theirs = replayed(session, catalog, uid, "primary")
    for name in ("eels", "adf"):
        np.testing.assert_array_equal(theirs[name], read[name])
    assert findings(session, uid) == []


@pytest.mark.parametrize("sync, when", [("hardware", 3), ("software", 11)])
def test_an_aborted_map_says_which_points_were_taken(
    session: Session, catalog: Any, sync: Any, when: int
) -> None:
    eels = session.devices["eels"]
    shape = (200, 8) if sync == "hardware" else (40, 8)
    uids: list[str] = []

    def stop_in_time(name: str, document: Any) -> None:
        if name == "start":
            uids.append(document["uid"])
        if name == "stream_datum" and document["indices"]["stop"] >= when // 8 + 1:
            Thread(target=session.RE.request_pause).start()  # it waits for the RunEngine

    token = session.RE.subscribe(stop_in_time)
    stub = fly([eels], MapInfo(shape=shape, livetime=5e-3, sync=sync), period=0.02)
    with pytest.raises(RunEngineInterrupted):
        run_plan(session, stub, eels)
    session.RE.unsubscribe(token)
    session.RE.abort("enough")
    (uid,) = uids
    session.data.wait(uid)
    read = catalog[uid]["primary"].read()
    taken = read["taken"].values.astype(bool)
    count = int(taken.sum())
    assert read["eels"].shape[:2] == taken.shape == shape and len(read["y"]) == shape[0]
    assert 0 < count < taken.size and taken.reshape(-1)[:count].all()
    assert (read["eels"].values[taken].sum(axis=1) != 0).all()
    assert not read["eels"].fillna(0).values[~taken].any()
    (fly_scan,) = session.data.catalog[uid].metadata["bluesky_em"]["files"][0]["maps"]
    assert fly_scan["taken"] == count
    assert len(list(session.data.follow(uid))) == count
    theirs = replayed(session, catalog, uid, "primary")["eels"]
    lines = -(-count // shape[1])
    np.testing.assert_array_equal(theirs, read["eels"][:lines])
    assert findings(session, uid) == []


def test_passes_over_several_regions_are_below_each_other(session: Session, catalog: Any) -> None:
    eels = session.devices["eels"]

    def three() -> MsgGenerator[None]:
        for top, lines in ((0.0, 4), (0.4, 2), (0.8, 3)):
            info = MapInfo(shape=(lines, 8), livetime=1e-3, region=(0.1, top, 0.8, 0.2))
            yield from fly([eels], info, "map")

    uid = run_plan(session, three(), eels)
    read = catalog[uid]["map"].read()
    assert read["eels"].shape == (9, 8, 2048) and (read["taken"] == 1).all()
    assert len(read["y"]) == 9 and (np.diff(read["y"]) > 0).all()
    for number in (0, 31, 32, 48, 71):
        point = read["eels"].values[divmod(number, 8)]
        np.testing.assert_array_equal(point, session.data.open(f"{uid}.eels/{number}").read())
    assert findings(session, uid) == []


def test_columns_that_differ_from_pass_to_pass_are_no_coordinate(
    session: Session, catalog: Any
) -> None:
    eels = session.devices["eels"]

    def two() -> MsgGenerator[None]:
        for left in (0.1, 0.3):
            info = MapInfo(shape=(2, 8), livetime=1e-3, region=(left, 0.0, 0.5, 0.5))
            yield from fly([eels], info, "map")

    uid = run_plan(session, two(), eels)
    read = catalog[uid]["map"].read()
    assert read["eels"].dims == ("y", "x_index", "energy") and "x_index" not in read.coords
    assert read["taken"].dims == ("y", "x_index")
    assert {"y", "energy"} <= {*read.coords}
    assert findings(session, uid) == []


def test_maps_of_a_run_have_a_stream_each(session: Session, catalog: Any) -> None:
    eels = session.devices["eels"]

    def two() -> MsgGenerator[None]:
        for number, lines in enumerate((2, 5)):
            yield from fly([eels], MapInfo(shape=(lines, 4), livetime=1e-3), f"map_{number}")

    uid = run_plan(session, two(), eels)
    for number, lines in enumerate((2, 5)):
        read = catalog[uid][f"map_{number}"].read()
        assert read["eels"].shape == (lines, 4, 2048) and len(read["y"]) == lines
    assert findings(session, uid) == []


def test_a_burst_has_a_row_for_each_frame(session: Session, catalog: Any) -> None:
    eels = session.devices["eels"]
    uid = run_plan(session, fly([eels], TriggerInfo(number_of_events=5, livetime=1e-3)), eels)
    read = catalog[uid]["primary"].read()
    assert read["eels"].dims == ("time", "energy") and "energy" in read.coords
    assert "taken" not in read
