"""A table of a run's points, line by line as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from numbers import Real
from typing import Any

from bluesky_em.data import Point, RunFollower

WIDTH = 14  # characters of a column
COLUMNS = 6  # that are shown where nobody chooses
MOST = 10_000  # points that are taken in at a time


def tabulate(
    run: RunFollower, columns: Sequence[str] = (), tell: Callable[[str], Any] = print
) -> None:
    """Tell of a run's points until it ends.

    Args:
        run: to be followed.
        columns: data keys to show; none: the first numbers there are.
        tell: takes the lines.

    Raises:
        NotReady: nothing new has come for the follower's `patience`.
    """
    start = run.start
    tell(f"run {run.run}: {start.get('plan_name', '?')}, scan {start.get('scan_id', '?')}")
    shown: Sequence[str] = columns
    points = 0
    while batch := run.batch(MOST):
        if not points:
            shown = columns or numbers(batch[0])[:COLUMNS]
            tell("".join(f"{name[-WIDTH + 1 :]:>{WIDTH}}" for name in ("seq_num", "time", *shown)))
        points += len(batch)
        # frames of a fly scan have no values to show: a line for as many as there are
        for point in batch if batch[-1].data else batch[-1:]:
            tell(_line(point, shown))
    end = run.end
    if end is None:
        return  # somebody has closed the follower
    reason = f", {end.reason}" if end.reason else ""
    missing = f"; missing: {dict(end.missing)}" if end.missing else ""
    tell(f"run {run.run}: {end.status}{reason}; {points} points{missing}")


def _line(point: Point, columns: Sequence[str]) -> str:
    fields = [str(point.seq_num), _clock(point.time)]
    fields += [_value(point.data.get(name)) for name in columns]
    line = "".join(f"{field:>{WIDTH}}" for field in fields)
    notes = [f"lost {point.references[name]}: {why}" for name, why in point.failed.items()]
    notes += [f"{point.skipped} before it left out: {point.reason}"] if point.skipped else []
    return "  ".join([line, *notes])


def numbers(point: Point) -> list[str]:
    """Give the data keys of a point's numbers."""
    return [name for name, value in point.data.items() if isinstance(value, Real)]


def first_number(point: Point) -> str | None:
    """Give the data key to show where nobody chooses: the first total, or number, or detector."""
    names = numbers(point)
    totals = [name for name in names if name.endswith("-total")]
    return next(iter([*totals, *names, *point.references]), None)


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str("-" if value is None else value)


def _clock(seconds: float) -> str:
    if seconds != seconds:  # a fly scan's points have no time
        return "-"
    return datetime.fromtimestamp(seconds).time().isoformat("milliseconds")
