"""Run a writer: `python -m bluesky_em.storage.writer <storage> [<Tiled address>]`.

The key of a Tiled server that is not embedded comes from the environment's TILED_API_KEY. The
writer ends when the parent process has ended and the work is done.
"""

import logging
import os
import sys
from pathlib import Path

# One request, no retries: the feeder itself waits and retries. Read when Tiled is imported.
os.environ.setdefault("TILED_RETRY_ATTEMPTS", "1")

from bluesky_em.errors import StorageBusy
from bluesky_em.files.layout import Layout
from bluesky_em.files.tiled.address import TiledAddress, address_of

from .. import processes
from ._writer import Writer


def main(root: Path, tiled: str | None) -> None:
    """Run a writer until its work is done."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    processes.lower_priority()
    layout = Layout(root)

    def address() -> TiledAddress | None:
        if tiled is None:
            return address_of(layout)
        key = os.environ.get("TILED_API_KEY", "")
        return TiledAddress(uri=tiled, api_key=key, writer_key=key)

    writer = Writer(root, address)
    processes.on_parent_exit(lambda at_once: writer.drain())
    writer.run()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
    except StorageBusy as exc:
        print(exc)
        sys.exit(processes.BUSY)
