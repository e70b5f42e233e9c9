"""The adaptive map's choices, without an instrument: this file answers its messages."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bluesky.simulators import RunEngineSimulator
from bluesky.utils import Msg
from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider

from bluesky_em import autoscript, gatan
from plans.adaptive_map import GridPoint, adaptive_map

TIMEOUT = 5.0  # s; no test waits for it


class Analysis:
    """Replaces `Data`; has verdicts by reference."""

    def __init__(self, verdicts: Mapping[str, bool]):
        self.verdicts = verdicts
        self.waited: list[float] = []
        """the waits without success, s"""
        self.blanked = True
        self.asked_with_beam = False

    def results(self, run: str) -> "Analysis":
        return self

    def wait(self, of: str, name: str, timeout: float) -> bool:
        self.asked_with_beam |= not self.blanked
        if of not in self.verdicts:
            self.waited.append(timeout)
        return of in self.verdicts

    def get(self, of: str, name: str) -> bool:
        return self.verdicts[of]


@pytest.fixture
def take(tmp_path: Path) -> Any:
    """Take a map with those verdicts; the n-th reference is `run.eels/n`."""
    paths = StaticPathProvider(UUIDFilenameProvider(), tmp_path)
    eels = gatan.Spectrometer("PYRO:eels_server@nowhere:1", path_provider=paths, name="eels")
    microscope = autoscript.Microscope("PYRO:tem_server@nowhere:1", name="microscope")

    def run(verdicts: Mapping[str, bool], **options: Any) -> tuple[Analysis, Any, list[Msg]]:
        analysis, count = Analysis(verdicts), 0
        engine = RunEngineSimulator()

        def read(_: Msg) -> dict[str, Any]:
            nonlocal count
            count += 1
            return {"eels": {"value": f"run.eels/{count - 1}"}}

        async def room(*_: Any) -> None:
            """Report that there is room."""

        def wait_for(message: Msg) -> None:
            async def all_of() -> None:
                for begin in message.args[0]:
                    await begin()

            asyncio.run(all_of())

        def blank(message: Msg) -> None:
            analysis.blanked = message.args[0]

        eels.preflight = room  # type: ignore
        engine.add_handler_for_callback_subscribes()
        engine.add_handler("read", read, "eels")
        engine.add_handler("wait_for", wait_for)
        engine.add_handler("set", blank, "microscope-beam_blanked")
        engine.add_handler(
            "locate", lambda _: {"readback": 200e-9}, "microscope-field_of_view"
        )  # fmt: skip
        result: dict[GridPoint, str] = {}

        def plan() -> Any:
            result.update(
                (
                    yield from adaptive_map(eels, microscope, analysis, timeout=TIMEOUT, **options)  # type: ignore
                )
            )

        messages = engine.simulate_plan(plan())
        return analysis, result, messages

    return run


def sets(messages: list[Msg], name: str) -> list[Any]:
    return [m.args[0] for m in messages if m.command == "set" and m.obj.name == name]


def test_without_an_analysis_every_point_is_taken_once_after_one_wait(take: Any) -> None:
    analysis, references, messages = take({}, shape=(8, 6))
    assert set(references) == {(y, x) for y in range(8) for x in range(6)}
    assert len(set(references.values())) == 48
    assert sum(analysis.waited) == TIMEOUT
    places = zip(
        sets(messages, "microscope-beam_x"), sets(messages, "microscope-beam_y"), strict=True
    )
    assert len(set(places)) == 48


def test_without_an_edge_only_coarse_points_are_taken(take: Any) -> None:
    analysis, references, _ = take({f"run.eels/{n}": False for n in range(16)}, shape=(8, 8))
    assert set(references) == {(y, x) for y in range(0, 8, 2) for x in range(0, 8, 2)}
    assert not analysis.waited


def test_a_map_grows_from_an_edge_until_there_is_none(take: Any) -> None:
    verdicts = {f"run.eels/{n}": n in (5, 18) for n in range(64)}  # (2, 2), and of its four (2, 3)
    _, references, _ = take(verdicts, shape=(8, 8))
    fine = {(y, x) for y, x in references if y % 2 or x % 2}
    assert fine == {(1, 2), (2, 1), (2, 3), (3, 2), (1, 3), (3, 3)}
    assert references[2, 3] == "run.eels/18"


def test_an_analysis_that_dies_costs_two_waits_and_no_point(take: Any) -> None:
    verdicts = {f"run.eels/{n}": False for n in range(6)}
    analysis, references, _ = take(verdicts, shape=(8, 8))
    assert sum(analysis.waited) <= 2 * TIMEOUT
    unsure = [p for p, r in references.items() if int(r.rpartition("/")[2]) >= 6]
    assert all(beside in references for p in unsure for beside in near(p, 8))


def test_the_beam_is_blanked_while_it_waits_and_the_field_of_view_is_restored(take: Any) -> None:
    analysis, _, messages = take({}, shape=(4, 4))
    assert not analysis.asked_with_beam and analysis.blanked
    assert sets(messages, "microscope-field_of_view") == [1e-6, 200e-9]
    (start,) = (m.kwargs for m in messages if m.command == "open_run")
    assert (start["shape"], start["coarse"]) == ([4, 4], 2)


def near(point: GridPoint, size: int) -> list[GridPoint]:
    y, x = point
    around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    return [(y, x) for y, x in around if 0 <= y < size and 0 <= x < size]
