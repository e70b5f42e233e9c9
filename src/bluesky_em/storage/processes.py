"""How a child process learns that its parent is gone: its standard input ends.

Works for every kind of death, SIGKILL included, and on every operating system.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

BUSY = 75
"""Exit code of a process whose work another one is doing already."""

_HURRY = b"h"
_BACKGROUND_NICENESS = 15  # storage gives way to the plan and the instrument


class Background(subprocess.Popen[bytes]):
    """A process that may outlive this one, which is not to be warned of."""

    def __del__(self, _maxsize: int = sys.maxsize, _warn: Any = lambda *_, **__: None) -> None:
        super().__del__(_maxsize, _warn)  # type: ignore


def spawn(
    module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
) -> Background:
    """Start `python -m module arguments` in the background, held by a lifeline.

    What it prints goes to the end of `log`; `environment` adds to this process's.
    """
    with open(log, "ab") as output:
        return Background(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            **new_group_options(),
        )


def new_group_options() -> dict[str, Any]:
    """Give the Popen options that keep a terminal's Ctrl-C, and its closing, from a process."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS
        return {"creationflags": flags}
    return {"start_new_session": True}


def release(process: Background, *, hurry: bool) -> None:
    """Let go of a process; cutting twice is harmless.

    Args:
        process: started by `spawn`.
        hurry: tell it that nobody will need it again soon.
    """
    if process.stdin is not None and not process.stdin.closed:
        with contextlib.suppress(OSError):  # it has ended already
            if hurry:
                process.stdin.write(_HURRY)
            process.stdin.close()


def on_parent_exit(action: Callable[[bool], None]) -> None:
    """Call `action(hurry)`, from a thread, when the parent process is gone or lets go."""

    def wait() -> None:
        last = b""
        while received := os.read(sys.stdin.fileno(), 1024):
            last = received
        action(last.endswith(_HURRY))

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def lower_priority() -> None:
    """Let other processes go first (Windows: `spawn` has done it)."""
    if hasattr(os, "nice"):
        os.nice(_BACKGROUND_NICENESS)
