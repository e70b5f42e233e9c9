"""Map an element with fine steps where it is present, and coarse ones elsewhere.

    uv run python examples/06_adaptive_map.py [STORAGE]

As in example 05, the analysis is another process: it publishes for each spectrum whether it has
titanium. The plan, `plans/adaptive_map.py`, begins with every second point in both directions, and
reads these verdicts only afterwards; a missing verdict counts as titanium.
"""

import sys
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

from bluesky_em import Data
from bluesky_em.analysis import elemental_map

SHAPE = (20, 20)
TITANIUM, WIDTH = 456.0, 20.0  # eV, the onset of Ti-L and the range integrated above it
PER_ELECTRON = 7.8  # counts, of the simulated camera and of a US1000FTXP
EXTRAPOLATION = 9.0  # variance added by the fit of the background (Egerton's h)
SIGNIFICANT = 4.0  # standard deviations


def significance(counts: np.ndarray, energy: np.ndarray) -> float:
    """Return signal over noise of Ti-L (R. F. Egerton, EELS in the Electron Microscope, 4.4.4)."""
    window = counts[(energy >= TITANIUM) & (energy <= TITANIUM + WIDTH)]
    signal = float(elemental_map(counts, energy, TITANIUM, WIDTH, groups=8)) / PER_ELECTRON
    background = float(window.sum()) / PER_ELECTRON - signal
    return signal / np.sqrt(max(signal + EXTRAPOLATION * background, 1.0))


def analyse(folder: Path, ready: Event) -> None:
    """Follow the next run; publish for each point whether it has titanium."""
    data = Data(storage=folder)
    runs = data.follow()
    ready.set()
    for point in next(runs):
        spectrum = point.open("eels")
        sigmas = significance(spectrum.read(), spectrum.axes[0].values)
        data.publish(point.references["eels"], "sigmas", sigmas)
        data.publish(point.references["eels"], "edge", sigmas > SIGNIFICANT)


def main(folder: Path) -> None:
    """Take the map."""
    from bluesky_em.app.session import Session  # the analysis needs no RunEngine

    spawn = get_context("spawn")
    with Session(folder) as session:
        ready = spawn.Event()
        spawn.Process(target=analyse, args=(folder, ready), daemon=True).start()
        ready.wait(60)

        plan = session.plans["adaptive_map"](
            session.devices["eels"], session.devices["microscope"], session.data, shape=SHAPE
        )
        result = session.RE(plan)
        references, (run_uid,) = result.plan_result, result.run_start_uids

        verdicts = session.data.results(run_uid)
        verdicts.wait([*references.values()][-1], "edge", 10)  # the plan did not need the last one
        for line in range(SHAPE[0]):
            row = [references.get((line, column), "") for column in range(SHAPE[1])]
            print(*("#" if verdicts.get(one, "edge") else "." if one else " " for one in row))
        print(f"run {run_uid}: {len(references)} points of {SHAPE[0] * SHAPE[1]}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "em-data"))
