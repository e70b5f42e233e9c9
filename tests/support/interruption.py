"""Interruptions of a session's processes, at a chosen event of a run."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bluesky_em.app.session import Session


def at_event(number: int, action: Callable[[], None]) -> Callable[[str, dict[str, Any]], None]:
    """Return a RunEngine callback that does something once, at this event."""

    def callback(name: str, document: dict[str, Any]) -> None:
        if name == "event" and document["seq_num"] == number:
            action()

    return callback


def pid_of(session: Session, name: str) -> int:
    """Return the process id of the session's `writer` or `Tiled server`."""
    pid = session.storage.supervisor.pid(name)
    assert pid is not None
    return pid


@contextmanager
def writer_stopped(session: Session) -> Iterator[None]:
    """Stop the session's writer (SIGSTOP) until the end of the block."""
    writer = pid_of(session, "writer")
    os.kill(writer, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(writer, signal.SIGCONT)
