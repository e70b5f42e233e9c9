"""Dying at a named step, for crash tests (Python 3.7 syntax: acquisition servers die, too).

With BLUESKY_EM_FAULTS set to a folder, a process that comes by a step for which the folder holds
a file takes the file away and kills itself, as a power cut would. Without it, nothing happens.
"""

import os
import signal

STEPS = (
    "server: exposed",
    "server: spooled",
    "engine: journalled",
    "writer: fetching",
    "writer: writing",
    "writer: written",
    "writer: flushed",
    "writer: noted",
    "feed: files registered",
    "feed: events appended",
    "feed: master file written",
    "feed: before stop",
    "feed: after stop",
)
"""What can be asked to die, and where."""

_FOLDER = os.environ.get("BLUESKY_EM_FAULTS", "")


def step(name):
    """Come by a step."""
    if not _FOLDER:
        return
    try:
        os.remove(path(_FOLDER, name))
    except FileNotFoundError:
        return
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def arm(folder, name):
    """Have the next process that comes by a step die there."""
    with open(path(folder, name), "w"):
        pass


def path(folder, name):
    """Give the file that arms a step."""
    assert name in STEPS, "{!r} is no step; there are: {}".format(name, ", ".join(STEPS))
    return os.path.join(folder, name.replace(": ", "-").replace(" ", "-"))
