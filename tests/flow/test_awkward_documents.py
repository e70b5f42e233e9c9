"""Documents as plans really emit them: nothing already accepted is lost, and nothing sticks."""

import time
from datetime import datetime
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.utils import MsgGenerator
from ophyd import Signal
from ophyd.sim import SynSignalWithRegistry

from bluesky_em import Data
from bluesky_em.plan_stubs import per_shot
from bluesky_em.session import Session


def test_numbers_that_begin_as_integers_or_missing_keep_their_values(
    session: Session, http: Data
) -> None:
    class Fickle(Signal):
        def describe(self) -> dict[str, Any]:
            return {self.name: {"source": "sim", "dtype": "number", "shape": []}}

    fickle = Fickle(name="fickle", value=0)
    values = [0, 0.25, 3, -1.5]

    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        for value in values:
            fickle.put(value)
            yield from per_shot([fickle])
            yield from bps.sleep(0.15)  # a flush of its own

    (uid,) = session.RE(plan()).run_start_uids
    session.data.wait(uid)
    assert list(http.catalog[uid]["primary"].read()["fickle"]) == values


def test_a_run_inside_another_does_not_mix_up_their_references(
    session: Session, http: Data
) -> None:
    eels = session.devices["eels"]

    def plan() -> MsgGenerator[list[str]]:
        from bluesky.preprocessors import set_run_key_wrapper as in_run

        yield from in_run(bps.open_run(), "outer")
        references = []
        for _ in range(2):
            references += yield from in_run(per_shot([eels]), "outer")
            yield from in_run(bps.open_run(), "inner")
            references += yield from in_run(per_shot([eels]), "inner")
            yield from in_run(bps.close_run(), "inner")
            references += yield from in_run(per_shot([eels]), "outer")
        yield from in_run(bps.close_run(), "outer")
        return references

    result = session.RE(plan())
    assert len(set(result.plan_result)) == 6
    for uid in result.run_start_uids:
        session.data.wait(uid)
    outer = http.catalog[result.run_start_uids[0]]["primary/eels"]
    expected = [session.data.open(result.plan_result[i]).read() for i in (0, 2, 3, 5)]
    np.testing.assert_array_equal(outer.read(), expected)


def test_a_classic_detector_staged_once_for_two_runs_is_kept_in_both(session: Session) -> None:
    folder = session.storage.layout.data / "classic"
    folder.mkdir(exist_ok=True)
    camera = SynSignalWithRegistry(
        func=lambda: np.full((4, 4), time.time()), name="camera", save_path=str(folder)
    )

    @bpp.stage_decorator([camera])
    def plan() -> MsgGenerator[None]:
        for _ in range(2):
            yield from bpp.run_wrapper(per_shot([camera]))

    uids = session.RE(plan()).run_start_uids
    for uid in uids:
        session.data.wait(uid)
        assert session.data.catalog[uid]["primary/camera"].shape[1:] == (4, 4)


def test_metadata_that_cannot_be_kept_are_refused_by_name_and_the_next_run_is_fine(
    session: Session,
) -> None:
    plan = session.plans["spectrum"](
        session.devices["eels"], exposure=0.001, md={"when": datetime(2026, 1, 1)}
    )
    with pytest.raises(TypeError, match="start document cannot be kept.*datetime"):
        session.RE(plan)
    session.data.wait(session.acquire_eels(exposure=0.001))


def test_a_clock_that_jumps_in_mid_run_changes_nothing_but_the_time_stamps(
    session: Session, http: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = [0.0, 3e9, -1.7e9, 1e4]
    now = time.time
    references: list[str] = []

    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        for jump in jumps:
            monkeypatch.setattr(time, "time", lambda jump=jump: now() + jump)
            references.extend((yield from per_shot([session.devices["eels"]])))
        monkeypatch.setattr(time, "time", now)

    (uid,) = session.RE(plan()).run_start_uids
    session.data.wait(uid)
    table = http.catalog[uid]["primary"].base["internal"].read()
    assert list(table["seq_num"]) == [1, 2, 3, 4] and np.ptp(table["time"]) > 1e9
    for reference in references:
        assert http.open(reference).read().shape == (2048,)
