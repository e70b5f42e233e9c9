"""Plans that an analysis steers: ended early and successfully, and unharmed without one."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky import RunEngineInterrupted
from bluesky.utils import Msg, MsgGenerator

from bluesky_em import Data, NotReady
from bluesky_em.acquisition.sim import Sample
from bluesky_em.app.session import Session
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.plan_stubs import beam_on, per_shot, stop_when, wait_for_result

EXPOSURE = 0.03  # seconds; longer than a result takes through the storage folder
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture
def eels(session: Session) -> Any:
    eels = session.devices["eels"]
    session.RE(bps.mv(eels.exposure, EXPOSURE, eels.frames, 1))
    return eels


@pytest.fixture
def elsewhere(session: Session) -> Iterator[Data]:
    """The `Data` of an analysis, apart from the plan's own."""
    data = Data(storage=session.storage.layout.root)
    yield data
    data.close()


class Documents:
    """The documents of runs, and an action that is done at an event."""

    def __init__(self, session: Session, at: int = 0, do: Callable[[str], Any] = str):
        self.session, self.at, self.do = session, at, do
        self.events: list[dict[str, Any]] = []
        self.stops: list[dict[str, Any]] = []
        self.run = ""

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        if name == "start":
            self.run = document["uid"]
        elif name == "event":
            self.events.append(document)
            if len(self.events) == self.at:
                self.do(self.run)
        elif name == "stop":
            self.stops.append(document)

    def __enter__(self) -> "Documents":
        self.token = self.session.RE.subscribe(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self.session.RE.unsubscribe(self.token)

    @property
    def ended(self) -> tuple[str, str]:
        return self.stops[-1]["exit_status"], self.stops[-1]["reason"]


def count(eels: Any, num: int) -> MsgGenerator[Any]:
    return bp.count([eels], num=num, per_shot=per_shot)


@contextmanager
def analyst(**what: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(SUPPORT / "analysis_process.py"), json.dumps(what)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_a_positive_result_ends_the_run_successfully_and_is_its_reason(
    session: Session, eels: Any, elsewhere: Data, tiled: TiledAddress
) -> None:
    microscope = session.devices["microscope"]
    plan = beam_on(count(eels, 50), microscope)
    with Documents(session, 3, lambda run: elsewhere.publish(run, "enough", True)) as documents:
        result = session.RE(stop_when(plan, "enough", session.data))
    assert 3 <= len(documents.events) <= 6
    assert documents.ended == ("success", "enough: True")
    assert result.exit_status == "success" and result.plan_result is None
    assert session.RE(bps.rd(microscope.beam_blanked)).plan_result is True
    session.data.wait(documents.run)
    run = session.data.catalog[documents.run]
    assert run.metadata["stop"]["reason"] == "enough: True"
    assert len(run["primary"].read()["time"]) == len(documents.events)


def test_a_function_of_all_results_is_a_condition_too(
    session: Session, eels: Any, elsewhere: Data
) -> None:
    def thick(results: Any) -> bool:
        return results.get("thickness", 0) > 1

    def publish(run: str) -> None:
        elsewhere.publish(run, "thickness", np.float64(0.5))
        elsewhere.publish(run, "thickness", 1.5)

    with Documents(session, 2, publish) as documents:
        session.RE(stop_when(count(eels, 50), thick, session.data))
    assert len(documents.events) < 6
    assert documents.ended == ("success", "thick: thickness: 1.5")


def test_without_a_result_or_with_a_negative_one_a_plan_runs_to_its_end(
    session: Session, eels: Any, elsewhere: Data
) -> None:
    with Documents(session, 1, lambda run: elsewhere.publish(run, "enough", False)) as documents:
        result = session.RE(stop_when(count(eels, 5), "enough", session.data))
    assert len(documents.events) == 5
    assert documents.ended == ("success", "")
    assert result.plan_result == documents.run


def test_a_failing_clean_up_is_a_failed_run_all_the_same(
    session: Session, eels: Any, elsewhere: Data
) -> None:
    def broken() -> MsgGenerator[None]:
        yield Msg("null")
        raise ValueError("the lens did not go back")

    @bpp.run_decorator(md={})
    def plan() -> MsgGenerator[None]:
        yield from bpp.finalize_wrapper(bps.repeat(lambda: per_shot([eels]), 50), broken)

    with Documents(session, 1, lambda run: elsewhere.publish(run, "enough", True)) as documents:
        with pytest.raises(ValueError, match="the lens did not go back"):
            session.RE(bpp.stage_wrapper(stop_when(plan(), "enough", session.data), [eels]))
    assert len(documents.events) < 5
    assert documents.ended == ("fail", "the lens did not go back")


def test_a_result_concerns_its_run_only_and_does_not_delay_the_next_run(
    session: Session, eels: Any, elsewhere: Data
) -> None:
    gaps: list[float] = []
    reached: list[bool] = []

    def plan() -> MsgGenerator[None]:
        first = yield from count(eels, 3)
        elsewhere.publish(first, "enough", True)  # too late
        yield from bps.sleep(0.2)
        yield from bps.checkpoint()
        begin = time.monotonic()
        yield from bpp.run_wrapper(bps.null())
        gaps.append(time.monotonic() - begin)
        yield from count(eels, 50)
        reached.append(True)  # the plan ends before this line

    with Documents(session, 6, lambda run: elsewhere.publish(run, "enough", True)) as documents:
        session.RE(stop_when(plan(), "enough", session.data))
    assert [stop["reason"] for stop in documents.stops] == ["", "", "enough: True"]
    assert 6 <= len(documents.events) < 10 and not reached
    assert gaps[0] < 0.2


def test_a_result_for_the_outer_of_two_nested_plans_ends_both(
    session: Session, eels: Any, elsewhere: Data
) -> None:
    def plan() -> MsgGenerator[None]:
        yield from stop_when(count(eels, 50), "inner", session.data)
        pytest.fail("the plan was to end")

    with Documents(session, 2, lambda run: elsewhere.publish(run, "outer", 1)) as documents:
        session.RE(stop_when(plan(), "outer", session.data))
    assert documents.ended == ("success", "outer: 1")

    with Documents(session, 2, lambda run: elsewhere.publish(run, "inner", 1)) as documents:
        inner = stop_when(count(eels, 50), "inner", session.data)
        session.RE(stop_when(inner, "outer", session.data))
    assert documents.ended == ("success", "inner: 1")


def test_a_baseline_is_complete_where_a_run_ends_early(
    session: Session, eels: Any, elsewhere: Data
) -> None:
    session.sd.baseline.append(session.devices["stage"])
    session.RE.preprocessors.append(lambda plan: stop_when(plan, "enough", session.data))
    try:
        with Documents(session, 3, lambda run: elsewhere.publish(run, "enough", True)) as documents:
            session.RE(count(eels, 50))
    finally:
        session.sd.baseline.clear()
        session.RE.preprocessors.pop()
    assert documents.ended == ("success", "enough: True")
    assert documents.stops[0]["num_events"]["baseline"] == 2
    assert documents.stops[0]["num_events"]["primary"] < 8


def test_a_result_that_comes_during_a_pause_ends_the_run_once_it_is_resumed(
    session: Session, eels: Any, elsewhere: Data
) -> None:
    microscope = session.devices["microscope"]

    def shots() -> MsgGenerator[None]:
        for number in range(50):
            yield from per_shot([eels])
            if number == 2:
                yield from bps.pause()

    plan = beam_on(bpp.run_wrapper(bpp.stage_wrapper(shots(), [eels])), microscope)
    with Documents(session) as documents:
        with pytest.raises(RunEngineInterrupted):
            session.RE(stop_when(plan, "enough", session.data))
        assert len(documents.events) == 3
        elsewhere.publish(documents.run, "enough", True)
        time.sleep(0.1)  # a user thinks
        session.RE.resume()
    assert documents.ended == ("success", "enough: True")
    assert len(documents.events) <= 4
    assert session.RE(bps.rd(microscope.beam_blanked)).plan_result is True


def test_an_analysis_that_is_killed_neither_ends_nor_slows_a_plan(
    session: Session, eels: Any
) -> None:
    folder = {"storage": str(session.storage.layout.root)}
    with analyst(data=folder, of="run", name="enough", at=40) as process:
        with Documents(session, 10, lambda run: process.kill()) as documents:
            session.RE(stop_when(count(eels, 60), "enough", session.data))
    assert len(documents.events) == 60
    assert documents.ended == ("success", "")
    times = np.array([event["time"] for event in documents.events])
    assert np.median(np.diff(times[12:])) < 1.5 * np.median(np.diff(times[:10]))


def test_a_map_whose_analysis_is_killed_continues_and_is_refined(session: Session) -> None:
    eels, microscope = session.devices["eels"], session.devices["microscope"]
    plan = session.plans["adaptive_map"](
        eels, microscope, session.data, shape=(6, 6), exposure=EXPOSURE, timeout=0.5
    )
    folder = {"storage": str(session.storage.layout.root)}
    with analyst(data=folder, of="reference", name="edge", at=100) as process:
        with Documents(session, 5, lambda run: process.kill()) as documents:
            references = session.RE(plan).plan_result
    events = [event["data"]["eels"] for event in documents.events]
    assert sorted(references.values()) == sorted(events)
    assert 20 < len(events) <= 36  # coarse, there would be 9
    assert documents.ended == ("success", "")
    assert documents.events[-1]["time"] - documents.events[0]["time"] < 2 * 0.5 + len(events) * 0.25
    assert session.RE(bps.rd(microscope.field_of_view)).plan_result == pytest.approx(200e-9)


def test_a_plan_waits_for_a_result_and_the_error_names_it_if_none_comes(
    session: Session, eels: Any, elsewhere: Data
) -> None:
    def ask(default: bool) -> MsgGenerator[list[Any]]:
        yield from bps.open_run()
        (reference,) = yield from per_shot([eels])
        threading.Timer(0.3, elsewhere.publish, (reference, "edge", [1, "Ti"])).start()
        found = yield from wait_for_result(reference, "edge", session.data)
        options: Any = {"default": "none"} if default else {}
        other = yield from wait_for_result(reference, "other", session.data, timeout=0.1, **options)
        yield from bps.close_run()
        return [found, other]

    assert session.RE(bpp.stage_wrapper(ask(True), [eels])).plan_result == [[1, "Ti"], "none"]
    with pytest.raises(
        NotReady, match="no process has published 'other' of .*.eels/0 within 0.1 s"
    ):
        session.RE(bpp.stage_wrapper(ask(False), [eels]))


def test_waiting_for_a_result_continues_after_a_pause(
    session: Session, eels: Any, elsewhere: Data
) -> None:
    def ask() -> MsgGenerator[Any]:
        run = yield from bps.open_run()
        yield from bps.checkpoint()
        threading.Timer(0.2, session.RE.request_pause).start()
        threading.Timer(0.6, elsewhere.publish, (run, "direction", "left")).start()
        found = yield from wait_for_result(run, "direction", session.data, timeout=5)
        yield from bps.close_run()
        return found

    with pytest.raises(RunEngineInterrupted):
        session.RE(ask())
    assert session.RE.resume().plan_result == "left"


def test_receiving_results_of_one_run_does_not_hide_those_of_another(
    session: Session, eels: Any, elsewhere: Data
) -> None:
    (earlier,) = session.RE(count(eels, 1)).run_start_uids

    def plan() -> MsgGenerator[None]:
        yield from bps.open_run()
        for _ in range(50):
            yield from per_shot([eels])
            yield from wait_for_result(earlier, "other", session.data, timeout=0, default=None)
        yield from bps.close_run()

    steered = stop_when(bpp.stage_wrapper(plan(), [eels]), "enough", session.data)
    with Documents(session, 3, lambda run: elsewhere.publish(run, "enough", True)) as documents:
        session.RE(steered)
    assert documents.ended == ("success", "enough: True")


def test_over_tiled_alone_a_scan_stops_where_the_specimen_says(
    session: Session, tiled: TiledAddress
) -> None:
    """Run the example's analysis with the address of Tiled and a key that may write."""
    eels, microscope = session.devices["eels"], session.devices["microscope"]
    session.data.wait(session.acquire_eels(0.01))  # a server that has just started is slow
    session.RE(bps.mv(eels.dispersion, 0.1))  # the zero loss saturates in wider channels
    start, stop = (0.555, 0.61), (0.95, 0.61)
    scan = session.plans["line_scan"](
        eels, microscope, start=start, stop=stop, points=500, exposure=0.2
    )
    there = Data(tiled.uri, api_key=tiled.api_key)  # the plan receives results from there only
    analysis = {"data": {"tiled": tiled.uri, "api_key": tiled.analyst_key}}
    try:
        with (
            analyst(**analysis, example="05_stop_when_aligned.py") as process,
            Documents(session) as documents,
        ):
            session.RE(stop_when(scan, "aligned", there))
            assert process.stdout is not None
            decided = decided_at(process.stdout.readline())
    finally:
        there.close()
        session.RE(bps.mv(eels.dispersion, 0.5))
    right = first_below_half(start, stop)
    assert abs(decided - right) <= 3
    assert decided < len(documents.events) < 250  # of 500: the verdict arrives during the scan
    assert documents.ended == ("success", "aligned: True")
    assert session.RE(bps.rd(microscope.beam_blanked)).plan_result is True
    session.data.wait(documents.run)
    run = session.data.catalog[documents.run]
    assert run.metadata["stop"]["reason"] == "aligned: True"
    assert len(run["primary"].read()["time"]) == len(documents.events)


def decided_at(printed: str) -> int:
    """Return the index of the point at which the example's analysis has published its verdict."""
    found = re.search(r"analysis: .* at point (\d+)", printed)
    assert found is not None, printed
    return int(found[1]) - 1


def first_below_half(start: tuple[float, float], stop: tuple[float, float]) -> int:
    """Return the index of the first of 500 points below half of the maximum before it."""
    x, y = 200e-9 * (np.linspace(start, stop, 500).T - 0.5)
    thickness = Sample().thickness(x, y)
    return int(np.argmax(thickness < np.maximum.accumulate(thickness) / 2))
