"""The RunEngine, devices and plans of this laboratory, for the worker of a queue server.

`start-re-manager --startup-dir queue_server` loads the files of this folder, in the order of their
names, when its environment is opened. See "Run a queue overnight" in the documentation.
"""

from pathlib import Path

from bluesky_em.app import queue_worker
from bluesky_em.app.session import Session

STORAGE = "~/em-data"  # the storage folder
DEVICES = "simulated"  # the name of a file in devices/

session = Session(Path(STORAGE), devices=DEVICES, root=Path(__file__).absolute().parents[1])
globals().update(queue_worker.namespace(session))
