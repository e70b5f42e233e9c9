"""An analysis in a process of its own: `analysis.py FOLDER`.

It follows all runs, and publishes the sum of each spectrum; the reference is printed afterwards.
"""

import sys

from bluesky_em import Data
from bluesky_em.errors import UnknownReference

NAME = "sum"


def main() -> None:
    data = Data(storage=sys.argv[1])
    for run in data.follow():
        for point in run:
            if "eels" not in point.references or "eels" in point.failed:
                continue
            try:
                data.publish(point.references["eels"], NAME, float(point.open("eels").read().sum()))
            except (LookupError, UnknownReference):  # an update that a newer one has replaced
                continue
            print(point.references["eels"], flush=True)


if __name__ == "__main__":
    main()
