"""Read runs back through Tiled, as on any PC that has only its address and a key.

uv run python examples/02_read_back.py [STORAGE]      (after example 01)
"""

import sys
from pathlib import Path

from bluesky_em import Data, Storage

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "em-data")

with Storage(folder) as storage:  # starts the Tiled server, which takes 10 to 15 s
    storage.flush()
    runs = storage.data.catalog
    if not len(runs):
        sys.exit(f"{folder} has no runs yet: run examples/01_first_spectrum.py first")
    run_uid = runs.values().last().start["uid"]
    storage.data.wait(run_uid)  # complete: every reference catalogued, or failed with a reason
    address = storage.tiled_address
    assert address is not None  # it would be None while the server starts

    data = Data(address.uri, api_key=address.api_key)  # this line, on any PC
    frame = data.open(f"{run_uid}.eels/1")
    print(frame.axes[0])
    print("exposure:", frame.metadata["configuration"]["eels"]["data"]["eels-exposure"], "s")

    run = data.catalog[run_uid]  # bluesky-tiled-plugins' BlueskyRun
    dataset = run["primary"].read()
    print(dataset)
    assert (dataset["eels"][1] == frame.read()).all()
