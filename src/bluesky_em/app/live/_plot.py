"""A plot of runs as they go on, in a process of its own: the plan does not wait for a picture."""

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

PERIOD = 0.2  # seconds between two pictures
KEPT = 100_000  # points of a curve
MOST = 10_000  # points that are taken in at a time


class _Picture:
    """What a plot shows; filled in by one thread, drawn by another.

    A run takes its place once it has something to show.
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
                while points := run.batch(MOST):
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
        """Draw what there is."""
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
        """Make room for a run, if it has what is to be shown."""
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
        with suppress(LookupError):  # a newer frame has taken its place already
            frame = frames[-1].open(y).to_xarray() if y and frames else None
        with self._lock:
            for point in points if not frames else ():
                self._xs.append(float(point.data.get(self._x or "", point.seq_num)))
                self._ys.append(float(point.data.get(y or "", math.nan)))
            del self._xs[:-KEPT], self._ys[:-KEPT]
            self._frame = self._frame if frame is None else frame
            self.changed = True


def plot(
    runs: Iterable[RunFollower], *, x: str | None = None, y: str | None = None,
    png: Path | None = None, period: float = PERIOD,
) -> None:  # fmt: skip
    """Plot runs until there are no more, or the window is closed.

    Args:
        runs: followed one after the other.
        x: data key of the abscissa; None: what the plan moves, or the number of the point.
        y: data key of the ordinate; None: the first total there is; a detector: its newest frame.
        png: keep a picture here instead of opening a window.
        period: s between two pictures.

    Raises:
        RuntimeError: there is nothing to open a window on.
    """
    import matplotlib.pyplot as plt  # a second of imports: only for those who plot

    if png is None and plt.get_backend().lower() == "agg":
        raise RuntimeError("there is no display to open a window on: give --png FILE, look at that")
    picture = _Picture(x, y)
    thread = threading.Thread(target=picture.fill, args=(runs,), name="plot", daemon=True)
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    thread.start()
    while plt.fignum_exists(figure.number):  # type: ignore (the window may be closed)
        over = picture.ended.is_set()
        if picture.changed:
            picture.draw(axes)
            if png is not None:
                _save(figure, png)
        if over:
            break
        if png is None:
            plt.pause(period)
        else:
            time.sleep(period)
    plt.close(figure)


def _save(figure: Any, png: Path) -> None:
    part = png.with_suffix(".part.png")
    figure.savefig(part, dpi=100)
    with suppress(PermissionError):  # on Windows, while somebody looks at it: the next one, then
        os.replace(part, png)  # so that whoever looks sees a whole picture


def _draw_frame(axes: Axes, frame: Any) -> None:
    if frame.ndim == 1:
        (dim,) = frame.dims
        axes.plot(frame[dim], np.clip(frame, 1, None), lw=0.8)
        axes.set(xlabel=f"{dim} / {frame[dim].attrs['units']}", ylabel="counts", yscale="log")
    elif frame.ndim == 2:
        axes.imshow(frame, cmap="gray")
