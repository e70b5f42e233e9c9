"""Fault injection for crash tests (Python 3.7 syntax: acquisition servers are tested, too).

With BLUESKY_EM_FAULTS set to a folder, a process that reaches a step for which the folder holds a
file removes the file and kills itself, as a power cut would. Without it, nothing happens.
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
"""The steps at which a process can be killed: its name, and what it has just done."""

_FOLDER = os.environ.get("BLUESKY_EM_FAULTS", "")


def step(name):
    """Kill this process if the step is armed."""
    if not _FOLDER:
        return
    try:
        os.remove(path(_FOLDER, name))
    except FileNotFoundError:
        return
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def arm(folder, name):
    """Arm a step: the next process that reaches it is killed."""
    with open(path(folder, name), "w"):
        pass


def path(folder, name):
    """Return the path of the file that arms a step."""
    assert name in STEPS, "{!r} is not a step; there are: {}".format(name, ", ".join(STEPS))
    return os.path.join(folder, name.replace(": ", "-").replace(" ", "-"))
