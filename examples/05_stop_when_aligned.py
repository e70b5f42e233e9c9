"""Stop a scan of 500 points when its signal falls below half of its maximum.

    uv run python examples/05_stop_when_aligned.py [STORAGE]

Two processes: this one measures; the other one follows the run, analyses each spectrum when it is
stored, and publishes its verdict. The plan never waits for it: without a verdict it would take all
500 points. The other process needs only the storage folder; on another PC it would use
`Data("http://tiled-host:8000", api_key="…")` instead.
"""

import sys
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

from bluesky_em import Data
from bluesky_em.analysis import thickness

START, STOP = (0.5, 0.61), (0.95, 0.61)  # from the middle of a flake over its edge
SIGNIFICANT = 0.1  # t/lambda, a hundred times the noise of a spectrum here


def analyse(data: Data, ready: Event) -> None:
    """Follow the next run; publish when its thickness has fallen to half of the maximum."""
    runs = data.follow()
    ready.set()
    run = next(runs)
    data.publish(run.run, "aligned", False)  # prepares publishing: the next verdict is quicker
    highest = 0.0
    for point in run:
        spectrum = point.open("eels")
        here = float(thickness(spectrum.read(), spectrum.axes[0].values))
        highest = max(highest, here)
        if highest > SIGNIFICANT and here < highest / 2:
            data.publish(run.run, "aligned", True)
            print(f"analysis: t/lambda is {here:.2f} at point {point.seq_num}, was {highest:.2f}")
            return


def analyse_folder(folder: Path, ready: Event) -> None:
    """Run the analysis on a storage folder: the other process."""
    analyse(Data(storage=folder), ready)


def main(folder: Path) -> None:
    """Measure until the analysis stops the plan."""
    from bluesky_em.app.session import Session  # the analysis needs no RunEngine
    from bluesky_em.plan_stubs import stop_when

    spawn = get_context("spawn")
    with Session(folder) as session:
        ready = spawn.Event()
        spawn.Process(target=analyse_folder, args=(folder, ready), daemon=True).start()
        ready.wait(60)

        scan = session.plans["line_scan"](
            session.devices["eels"], session.devices["microscope"],
            start=START, stop=STOP, points=500, exposure=0.02,
        )  # fmt: skip
        (run_uid,) = session.RE(stop_when(scan, "aligned", session.data)).run_start_uids

        session.data.wait(run_uid, timeout=120)  # Tiled takes 10 to 15 s to start
        run = session.data.catalog[run_uid]
        stop = run.metadata["stop"]
        print(f"run {run_uid}: {stop['num_events']['primary']} points of 500")
        print(f"ended as {stop['exit_status']}, because of {stop['reason']}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "em-data"))
