"""An analysis in a separate process: `analysis_process.py JSON` (arguments of `Data`, a task).

    {"data": {"storage": "…"}, "of": "run", "name": "enough", "at": 3}   publish at the third point
    {"data": {"tiled": "…"}, "example": "05_stop_when_aligned.py"}   run that example's analysis

Prints `ready` when it follows.
"""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

from bluesky_em import Data

EXAMPLES = Path(__file__).parents[2] / "examples"


class Ready:
    """An event that is printed when it is set."""

    def set(self) -> None:
        print("ready", flush=True)


def publish(data: Data, of: str, name: str, at: int) -> None:
    """Publish True for the run at this point, or False for each reference before it."""
    runs = data.follow()
    Ready().set()
    for point in (run := next(runs)):
        if of == "reference" and point.seq_num < at:
            data.publish(point.references["eels"], name, False)
        elif of == "run" and point.seq_num == at:
            data.publish(run.run, name, True)


def main(data: dict[str, str], example: str = "", **task: Any) -> None:
    """Do the task."""
    if example:
        runpy.run_path(str(EXAMPLES / example))["analyse"](Data(**data), Ready())  # type: ignore
    else:
        publish(Data(**data), **task)  # type: ignore


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
