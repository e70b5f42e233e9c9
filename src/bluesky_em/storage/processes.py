"""Background processes that end when their parent ends.

A child process reads its standard input, a pipe from the parent. The operating system closes the
pipe however the parent ends, SIGKILL included; this works on every operating system.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

BUSY = 75
"""Exit code of a process whose work another process does already."""

USELESS = 78
"""Exit code of a process that would fail again: it is not started again."""

_AT_ONCE = b"h"
_START_NICENESS = 5
_BACKGROUND_NICENESS = 15  # the plan and the instrument come before storage


class Background(subprocess.Popen[bytes]):
    """A process that may outlive this one; Python does not warn about it."""

    def __del__(self, _maxsize: int = sys.maxsize, _warn: Any = lambda *_, **__: None) -> None:
        super().__del__(_maxsize, _warn)  # type: ignore


def spawn(
    module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
) -> Background:
    """Start `python -m module arguments` in the background, its stdin a pipe from this process.

    Its output is appended to `log`; `environment` is added to this process's environment.

    Raises:
        OSError: it cannot be started, or its log cannot be written; the message says which.
    """
    with _open_log(log) as output:
        return Background(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            **new_group_options(),
        )


def _open_log(log: Path) -> BinaryIO:
    try:
        return open(log, "ab")
    except OSError as exc:
        what, todo = f"cannot be written ({exc.strerror or exc})", "make it a file that can be"
        if log.is_dir():
            what, todo = "is a folder", "rename or remove that folder"
        raise OSError(f"its log {log} {what}: {todo}") from exc


def new_group_options() -> dict[str, Any]:
    """Return the Popen options that protect a process from a terminal's Ctrl-C and closing."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS
        return {"creationflags": flags}
    return {"start_new_session": True}


def release(process: Background, *, at_once: bool) -> None:
    """Close a process's stdin, so that it ends; closing twice is harmless.

    Args:
        process: started by `spawn`.
        at_once: it ends as soon as its work is done, and does not stay for the next Storage.
    """
    if process.stdin is not None and not process.stdin.closed:
        with contextlib.suppress(OSError):  # it has ended already
            if at_once:
                process.stdin.write(_AT_ONCE)
            process.stdin.close()


def on_parent_exit(action: Callable[[bool], None]) -> None:
    """Call `action(at_once)` from a thread when the parent has ended or called `release`."""

    def wait() -> None:
        last = b""
        while received := os.read(sys.stdin.fileno(), 1024):
            last = received
        action(last.endswith(_AT_ONCE))

    threading.Thread(target=wait, name="parent exit", daemon=True).start()


def lower_priority(*, starting: bool = False) -> None:
    """Lower this process's CPU priority (on Windows `spawn` has done it).

    Args:
        starting: lower it a little only, so that a busy computer does not keep it from starting.
    """
    if hasattr(os, "nice"):
        niceness = _START_NICENESS if starting else _BACKGROUND_NICENESS
        os.nice(max(0, niceness - os.nice(0)))
