"""Serve a storage folder's catalog: `python -m bluesky_em.storage.tiled_server <storage>`."""

import sys
import traceback
from pathlib import Path

import filelock

from .. import processes
from ._catalog_version import UnusableCatalog
from ._server import serve

if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]))
        sys.exit(processes.BUSY)  # not ended by its parent: it is started again at once
    except filelock.Timeout:
        print(f"another process serves the catalog of {sys.argv[1]} already")
        sys.exit(processes.BUSY)
    except UnusableCatalog as exc:
        print(exc)
        sys.exit(processes.USELESS)
    except Exception as exc:
        traceback.print_exc()
        print(f"{type(exc).__name__}: {' '.join(str(exc).split())}", file=sys.stderr)
        sys.exit(1)
