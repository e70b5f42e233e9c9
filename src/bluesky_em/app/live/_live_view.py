"""Tables and plots of an interactive session; no plan waits for them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bluesky_em.data import Data, RunsFollower
from bluesky_em.documents import PROCESSED
from bluesky_em.files.layout import Layout
from bluesky_em.storage import processes

from ._table import tabulate

SHUTDOWN_TIMEOUT = 5.0  # s until a plot process is killed


class LiveView:
    """A table in this terminal, from a thread, and plots in windows, each a process of its own.

    Usage:
        live.table()                        # of all runs from now on
        live.plot("eels-total")             # over what the plan moves
        live.plot("eels")                   # the newest spectrum
        live.close()

    Args:
        layout: the storage folder.
    """

    def __init__(self, layout: Layout):
        self._layout = layout
        self._tables: list[tuple[Data, RunsFollower]] = []
        self._plots: list[subprocess.Popen[Any]] = []

    def table(self, *columns: str) -> None:
        """Print a line for each point of the runs that begin from now on.

        Args:
            columns: data keys to show; none: the first numbers of the run.
        """
        data = Data(storage=self._layout.root)
        runs = data.follow(patience=math.inf)  # from now on, not from the start of the thread
        self._tables.append((data, runs))

        def print_runs() -> None:
            for run in runs:
                if PROCESSED not in run.start:  # not the results of an analysis
                    tabulate(run, columns)

        threading.Thread(target=print_runs, name="live table", daemon=True).start()

    def plot(self, y: str | None = None, x: str | None = None, png: Path | None = None) -> None:
        """Open a window that plots all runs from now on.

        Args:
            y: a data key, or a detector whose newest frame is shown; None: the first total.
            x: a data key; None: what the plan moves, otherwise the number of the point.
            png: write the picture to this file instead of opening a window.
        """
        # the process takes seconds to start; runs that begin meanwhile are shown, too
        options = {"--y": y, "--x": x, "--png": png, "--since": time.time()}
        given = [part for name, value in options.items() if value for part in (name, str(value))]
        environment = {**os.environ, **({"MPLBACKEND": "Agg"} if png else {})}
        if environment.get("MPLBACKEND", "").startswith("module://"):  # a notebook's own
            del environment["MPLBACKEND"]
        process = subprocess.Popen(
            [
                sys.executable, "-m", "bluesky_em", "plot", "--held",
                "--storage", str(self._layout.root), *given,
            ],
            stdin=subprocess.PIPE, env=environment, **processes.new_group_options(),
        )  # fmt: skip
        self._plots.append(process)

    def close(self) -> None:
        """Close all tables and windows; closing twice is harmless."""
        for process in self._plots:
            if process.stdin is not None:
                process.stdin.close()  # the process ends when its stdin does
            try:
                process.wait(SHUTDOWN_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for data, runs in self._tables:
            runs.close()
            data.close()
        self._plots.clear()
        self._tables.clear()
