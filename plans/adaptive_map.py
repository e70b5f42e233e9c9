"""A map that is fine only where an edge is."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import MsgGenerator

from bluesky_em import Data
from bluesky_em.autoscript import Microscope
from bluesky_em.gatan import Spectrometer
from bluesky_em.plan_stubs import beam_on, per_shot, preflight, wait_for_result

GridPoint = tuple[int, int]
"""line and column, from 0"""


def adaptive_map(
    eels: Spectrometer,
    microscope: Microscope,
    data: Data,
    *,
    shape: tuple[int, int] = (32, 32),
    coarse: int = 2,
    exposure: float = 0.05,
    region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    field_of_view: float = 1e-6,
    result: str = "edge",
    timeout: float = 10.0,
    md: dict[str, Any] | None = None,
) -> MsgGenerator[dict[GridPoint, str]]:
    """Take every `coarse`-th point of a grid, and the points around each one at an edge.

    An analysis in another process publishes for each reference whether it is at an edge:
    `data.publish(reference, "edge", True)`. The next pass takes the neighbours of points at an
    edge, and so on, until all neighbours of such points are measured. While the plan waits for
    verdicts the beam is blanked. A missing verdict counts as an edge: without an analysis the map
    is fine everywhere.

    Args:
        eels: the spectrometer.
        microscope: moves the probe; the beam is on during exposures only.
        data: receives the verdicts, e.g. `storage.data`.
        shape: lines of the full grid, and points of each.
        coarse: step of the first pass, in points of the full grid, in both directions.
        exposure: at each point, in s.
        region: left, top, width, height as fractions of the whole scan.
        field_of_view: in m; restored afterwards.
        result: the name under which verdicts are published.
        timeout: longest wait for the next verdict, in s. After one wait without success the plan
            does not wait for the others of that pass, and after a pass without any verdict not for
            those of the next one either.
        md: metadata for the run.

    Returns:
        The reference of each point that was measured, by line and column.
    """
    about = {
        "plan_name": "adaptive_map",
        "hints": {"dimensions": [(["microscope-beam_x", "microscope-beam_y"], "primary")]},
        "shape": [*shape],
        "coarse": coarse,
        "region": [*region],
    }
    references: dict[GridPoint, str] = {}
    silent = False

    def measure(points: Sequence[GridPoint]) -> MsgGenerator[None]:
        left, top, width, height = region
        for line, column in points:
            x = left + width * (column + 0.5) / shape[1]
            y = top + height * (line + 0.5) / shape[0]
            yield from bps.mv(microscope.beam_x, x, microscope.beam_y, y)
            (reference,) = yield from per_shot([eels, microscope.beam_x, microscope.beam_y])
            references[line, column] = reference

    def ask_beside(points: Sequence[GridPoint]) -> MsgGenerator[list[GridPoint]]:
        nonlocal silent
        near: set[GridPoint] = set()
        patience, answered = (0.0 if silent else timeout), False
        for point in points:
            beside = _beside(point, shape) - references.keys()
            if beside <= near:
                continue
            edge = yield from wait_for_result(
                references[point], result, data, timeout=patience, default=None
            )
            patience = 0.0 if edge is None else timeout
            answered = answered or edge is not None
            if edge is None or edge:
                near |= beside
        silent = not answered
        return sorted(near)

    @bpp.stage_decorator([eels])
    @bpp.run_decorator(md={**about, **(md or {})})
    def inner() -> MsgGenerator[None]:
        points = [*product(range(0, shape[0], coarse), range(0, shape[1], coarse))]
        while points:
            yield from beam_on(measure(points), microscope)
            points = yield from ask_beside(points)

    before = yield from bps.rd(microscope.field_of_view)

    def restore() -> MsgGenerator[None]:
        yield from bps.mv(microscope.field_of_view, before)

    def measure_all() -> MsgGenerator[None]:
        yield from bps.mv(microscope.field_of_view, field_of_view)
        yield from bps.mv(eels.exposure, exposure, eels.frames, 1)
        yield from preflight([eels], shape[0] * shape[1])
        yield from inner()

    yield from bpp.finalize_wrapper(measure_all(), restore)
    return references


def _beside(point: GridPoint, shape: tuple[int, int]) -> set[GridPoint]:
    """Return the points of a grid above, below, left and right of one."""
    line, column = point
    near = {(line - 1, column), (line + 1, column), (line, column - 1), (line, column + 1)}
    return {(y, x) for y, x in near if 0 <= y < shape[0] and 0 <= x < shape[1]}
