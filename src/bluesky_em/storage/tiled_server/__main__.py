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
        print(f"another process serves the catalog of {sys.argv[1]} already")
        sys.exit(processes.BUSY)
