"""Serve a storage folder's catalog: `python -m bluesky_em.storage.tiled_server <storage>`."""

import sys
from pathlib import Path

import filelock

from .. import processes
from ._server import serve

if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]))
    except filelock.Timeout:
        print(f"the catalog of {sys.argv[1]} is being served already")
        sys.exit(processes.BUSY)
