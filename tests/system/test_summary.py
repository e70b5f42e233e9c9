"""The numbers in events are those of their frames."""

import math
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.callbacks import CallbackBase
from bluesky.callbacks.best_effort import BestEffortCallback
from bluesky.utils import MsgGenerator

from bluesky_em import Data, MapInfo
from bluesky_em.app.session import Session
from bluesky_em.plan_stubs import beam_on, fly, per_shot


class Events(CallbackBase):
    """The data of a run's events."""

    def __init__(self) -> None:
        self.data: list[dict[str, Any]] = []

    def event(self, doc: Any) -> Any:
        self.data.append(doc["data"])
        return doc


def test_the_numbers_of_an_event_are_those_of_its_frame(session: Session, http: Data) -> None:
    eels, haadf, microscope = (session.devices[name] for name in ("eels", "haadf", "microscope"))
    events = Events()

    @bpp.stage_decorator([eels, haadf])
    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        for _ in range(3):
            yield from per_shot([eels, haadf])

    session.RE(
        bps.mv(eels.exposure, 0.01, eels.frames, 1, eels.energy_offset, 0.0, haadf.size, 128)
    )
    (uid,) = session.RE(beam_on(plan(), microscope), events).run_start_uids
    session.data.wait(uid)
    assert len(events.data) == 3
    for event in events.data:
        spectrum, image = (session.data.open(event[name]) for name in ("eels", "haadf"))
        for name, counts in (("eels", spectrum.read()), ("haadf", image.read())):
            assert event[f"{name}-total"] == counts.sum(dtype="<f8")
            assert event[f"{name}-mean"] == pytest.approx(counts.mean(dtype="<f8"))
            assert event[f"{name}-max"] == counts.max()
        assert event["haadf-saturation_fraction"] == np.mean(image.read() == 65535)
        assert (
            event["eels-saturation_fraction"] == spectrum.metadata["frame"]["saturation_fraction"]
        )
        highest = spectrum.to_xarray().sel(energy=slice(-20, 20)).idxmax("energy")
        assert event["eels-zero_loss"] == pytest.approx(float(highest), abs=1.0)
    table, keys = http.catalog[uid]["primary"].read(), events.data[0].keys() - {"eels", "haadf"}
    for key in keys:
        np.testing.assert_array_equal(table[key], [event[key] for event in events.data])
    assert len(keys) == 9 and "eels-thumbnail" not in table


def test_thumbnails_are_in_the_table_of_a_run_that_records_them(
    session: Session, http: Data
) -> None:
    eels, events = session.devices["eels"], Events()
    session.RE(bps.mv(eels.exposure, 0.001, eels.frames, 1, eels.thumbnail, True))
    try:
        (uid,) = session.RE(bp.count([eels], 2), events).run_start_uids
    finally:
        session.RE(bps.mv(eels.thumbnail, False))
    session.data.wait(uid)
    table = http.catalog[uid]["primary"].read()
    assert table["eels-thumbnail"].shape == (2, 64)
    for row, event in zip(table["eels-thumbnail"].values, events.data, strict=True):
        frame = session.data.open(event["eels"]).read().astype("<f8")
        np.testing.assert_array_equal(row, event["eels-thumbnail"])
        np.testing.assert_allclose(row, frame.reshape(64, 32).mean(axis=1))


def test_a_zero_loss_that_is_not_on_the_axis_is_nan_in_event_and_table(
    session: Session, http: Data
) -> None:
    eels, events = session.devices["eels"], Events()
    session.RE(bps.mv(eels.exposure, 0.001, eels.frames, 1, eels.energy_offset, 500.0))
    try:
        (uid,) = session.RE(bp.count([eels], 2), events).run_start_uids
    finally:
        session.RE(bps.mv(eels.energy_offset, 0.0))
    session.data.wait(uid)
    assert all(math.isnan(event["eels-zero_loss"]) for event in events.data)
    assert np.isnan(http.catalog[uid]["primary"].read()["eels-zero_loss"]).all()


def test_a_best_effort_callback_shows_the_totals_and_ignores_fly_scans(
    session: Session, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    import matplotlib.pyplot as plt

    eels, adf, microscope = (session.devices[name] for name in ("eels", "adf", "microscope"))
    events, best_effort = Events(), BestEffortCallback()

    @bpp.stage_decorator([eels, adf])
    @bpp.run_decorator()
    def fly_scan() -> MsgGenerator[None]:
        yield from fly([eels, adf], MapInfo(shape=(2, 4), livetime=1e-3))

    def subscribed(plan: MsgGenerator[Any]) -> str:
        return session.RE(plan, [best_effort, events]).run_start_uids[0]

    try:
        session.RE(bps.mv(eels.exposure, 0.001, eels.frames, 1))
        counted = subscribed(bp.count([eels], 3))
        (axes,) = plt.gcf().axes
        (line,) = axes.get_lines()
        assert axes.get_ylabel() == "eels-total"
        assert list(line.get_ydata()) == [event["eels-total"] for event in events.data]
        printed = capsys.readouterr().out
        assert "eels-total" in printed and f"{events.data[0]['eels-total']:.1f}" in printed
        fly_scanned = subscribed(beam_on(fly_scan(), microscope))
        assert "New stream: 'primary'" in capsys.readouterr().out
    finally:
        plt.close("all")
    assert not caplog.records  # bluesky logs the errors of its own callbacks
    for uid in (counted, fly_scanned):
        session.data.wait(uid)
