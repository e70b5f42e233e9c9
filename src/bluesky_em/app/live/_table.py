"""A table of a run's points, printed line by line during the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from numbers import Real
from typing import Any

from bluesky_em.data import Point, RunFollower

COLUMN_WIDTH = 14  # characters
DEFAULT_COLUMNS = 6  # unless columns are chosen
MAX_BATCH_POINTS = 10_000


def tabulate(
    run: RunFollower, columns: Sequence[str] = (), write: Callable[[str], Any] = print
) -> None:
    """Write a line for each point of a run until it ends.

    Args:
        run: a follower of the run.
        columns: data keys to show; none: the first numbers of the run.
        write: takes each line.

    Raises:
        NotReady: no new point for the follower's `patience`.
    """
    start = run.start
    write(f"run {run.run}: {start.get('plan_name', '?')}, scan {start.get('scan_id', '?')}")
    shown: Sequence[str] = columns
    points = 0
    while batch := run.batch(MAX_BATCH_POINTS):
        if not points:
            shown = columns or numbers(batch[0])[:DEFAULT_COLUMNS]
            write(
                "".join(
                    f"{name[-COLUMN_WIDTH + 1 :]:>{COLUMN_WIDTH}}"
                    for name in ("seq_num", "time", *shown)
                )
            )
        points += len(batch)
        # frames of a fly scan have no values to show: one line for all of a batch
        for point in batch if batch[-1].data else batch[-1:]:
            write(_line(point, shown))
    end = run.end
    if end is None:
        return  # the follower was closed
    reason = f", {end.reason}" if end.reason else ""
    missing = f"; missing: {dict(end.missing)}" if end.missing else ""
    write(f"run {run.run}: {end.status}{reason}; {points} points{missing}")


def _line(point: Point, columns: Sequence[str]) -> str:
    fields = [str(point.seq_num), _clock(point.time)]
    fields += [_value(point.data.get(name)) for name in columns]
    line = "".join(f"{field:>{COLUMN_WIDTH}}" for field in fields)
    notes = [f"lost {point.references[name]}: {why}" for name, why in point.failed.items()]
    notes += [f"{point.skipped} before it left out: {point.reason}"] if point.skipped else []
    return "  ".join([line, *notes])


def numbers(point: Point) -> list[str]:
    """Return the data keys of a point's numbers."""
    return [name for name, value in point.data.items() if isinstance(value, Real)]


def first_number(point: Point) -> str | None:
    """Return the data key to show by default: the first total, or number, or detector."""
    names = numbers(point)
    totals = [name for name in names if name.endswith("-total")]
    return next(iter([*totals, *names, *point.references]), None)


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str("-" if value is None else value)


def _clock(seconds: float) -> str:
    if seconds != seconds:  # a fly scan's points have no time
        return "-"
    return datetime.fromtimestamp(seconds).time().isoformat("milliseconds")
