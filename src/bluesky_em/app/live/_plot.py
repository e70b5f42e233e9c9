"""A plot of runs in progress, in a process of its own: the plan does not wait for it."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bluesky_em.data import Point, RunFollower

from ._table import first_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DRAW_INTERVAL = 0.2  # s between two pictures
MAX_CURVE_POINTS = 100_000
MAX_BATCH_POINTS = 10_000


class _Picture:
    """The contents of a plot; one thread adds points, another one draws.

    A run replaces the one before as soon as it has something to show.
    """

    def __init__(self, x: str | None, y: str | None):
        self._asked = x, y
        self.ended = threading.Event()
        self.changed = False
        self._lock = threading.Lock()
        self._title, self._x, self._y = "waiting for a run", x, y
        self._xs: list[float] = []
        self._ys: list[float] = []
        self._frame: Any = None

    def fill(self, runs: Iterable[RunFollower]) -> None:
        """Follow runs, one after the other."""
        try:
            for run in runs:
                shown = False
                while points := run.batch(MAX_BATCH_POINTS):
                    if not shown and (y := self._asked[1] or first_number(points[0])):
                        shown = self._begin(run, points[0], y)
                    if shown:
                        self._add(points)
                if shown and run.end is not None:
                    with self._lock:
                        self._title += f": {run.end.status} {run.end.reason}".rstrip()
                        self.changed = True
        finally:
            self.ended.set()

    def draw(self, axes: Axes) -> None:
        """Draw the curve, or the newest frame."""
        with self._lock:
            self.changed = False
            axes.clear()
            axes.set_title(self._title, fontsize="medium")
            if self._frame is not None:
                _draw_frame(axes, self._frame)
            else:
                axes.plot(self._xs, self._ys, ".-", lw=0.8)
                axes.set(xlabel=self._x or "seq_num", ylabel=self._y)

    def _begin(self, run: RunFollower, point: Point, y: str) -> bool:
        """Replace the run before, and return True, if this run has the data key to show."""
        if y not in point.data and y not in point.references:
            return False
        dimensions = run.start.get("hints", {}).get("dimensions", [])
        moved = dimensions[0][0][0] if dimensions else None  # as BestEffortCallback has it
        x = self._asked[0] or moved
        with self._lock:
            self._title = f"{run.start.get('plan_name', 'run')} {run.run[:8]}"
            self._x, self._y = (x if x in point.data else None), y
            self._xs, self._ys, self._frame = [], [], None
        return True

    def _add(self, points: Sequence[Point]) -> None:
        y = self._y
        frames = [p for p in points if y in p.references and y not in p.failed]
        frame = None
        with suppress(LookupError):  # a newer frame has replaced it already
            frame = frames[-1].open(y).to_xarray() if y and frames else None
        with self._lock:
            for point in points if not frames else ():
                self._xs.append(float(point.data.get(self._x or "", point.seq_num)))
                self._ys.append(float(point.data.get(y or "", math.nan)))
            del self._xs[:-MAX_CURVE_POINTS], self._ys[:-MAX_CURVE_POINTS]
            self._frame = self._frame if frame is None else frame
            self.changed = True


def plot(
    runs: Iterable[RunFollower], *, x: str | None = None, y: str | None = None,
    png: Path | None = None, interval: float = DRAW_INTERVAL,
) -> None:  # fmt: skip
    """Plot runs until the last one ends, or the window is closed.

    Args:
        runs: followed one after the other.
        x: data key of the abscissa; None: what the plan moves, otherwise the number of the point.
        y: data key of the ordinate, or a detector whose newest frame is shown; None: the first
            total.
        png: write the picture to this file instead of opening a window.
        interval: between two pictures, in s.

    Raises:
        RuntimeError: there is no display, and no `png`.
    """
    import matplotlib.pyplot as plt  # a second of imports: only for those who plot

    if png is None and plt.get_backend().lower() == "agg":
        raise RuntimeError(
            "there is no display to open a window on: write a picture with --png FILE"
        )
    picture = _Picture(x, y)
    thread = threading.Thread(target=picture.fill, args=(runs,), name="plot", daemon=True)
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    thread.start()
    while plt.fignum_exists(figure.number):  # type: ignore (the window may be closed)
        has_ended = picture.ended.is_set()
        if picture.changed:
            picture.draw(axes)
            if png is not None:
                _save(figure, png)
        if has_ended:
            break
        if png is None:
            plt.pause(interval)
        else:
            time.sleep(interval)
    plt.close(figure)


def _save(figure: Any, png: Path) -> None:
    part = png.with_suffix(".part.png")
    figure.savefig(part, dpi=100)
    with suppress(PermissionError):  # Windows, while a viewer has it open: the next picture will do
        os.replace(part, png)  # a viewer never sees half a picture


def _draw_frame(axes: Axes, frame: Any) -> None:
    if frame.ndim == 1:
        (dim,) = frame.dims
        axes.plot(frame[dim], np.clip(frame, 1, None), lw=0.8)
        axes.set(xlabel=f"{dim} / {frame[dim].attrs['units']}", ylabel="counts", yscale="log")
    elif frame.ndim == 2:
        axes.imshow(frame, cmap="gray")
