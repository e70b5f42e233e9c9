"""An analysis in a process of its own: `analyst.py JSON`, how `Data` is made and what to do.

    {"data": {"storage": "…"}, "of": "run", "name": "enough", "at": 3}   at the run's third point
    {"data": {"tiled": "…"}, "example": "05_stop_when_aligned.py"}   be that example's analysis

Says `ready` once it listens.
"""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

from bluesky_em import Data

EXAMPLES = Path(__file__).parents[2] / "examples"


class Ready:
    """An event that is printed."""

    def set(self) -> None:
        print("ready", flush=True)


def say(data: Data, of: str, name: str, at: int) -> None:
    """Publish a verdict on the run, or from that point on on each reference."""
    runs = data.follow()
    Ready().set()
    for point in (run := next(runs)):
        if of == "reference" and point.seq_num < at:
            data.publish(point.references["eels"], name, False)
        elif of == "run" and point.seq_num == at:
            data.publish(run.run, name, True)


def main(data: dict[str, str], example: str = "", **what: Any) -> None:
    """Do as told."""
    if example:
        runpy.run_path(str(EXAMPLES / example))["analyse"](Data(**data), Ready())  # type: ignore
    else:
        say(Data(**data), **what)  # type: ignore


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
