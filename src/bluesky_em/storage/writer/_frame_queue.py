"""The tasks of a frame transfer, in order; those of a file in trouble wait apart."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from bluesky_em.frame import Frame

from .._periodic import Backoff


@dataclass(frozen=True)
class Ending:
    """The end of a run at one acquisition server, after the frames before it."""

    run: str
    frames: tuple[Frame, ...]
    """one of each file, which are closed"""
    done: Callable[[], None]


Task = Frame | Ending


TROUBLES_LIMIT = 10  # that are listed at once


@dataclass
class _Held:
    """The frames of one file, or a single one, that wait until it is tried again."""

    path: str
    """of the file"""
    backoff: Backoff
    trouble: str = ""
    due: float = 0.0
    tasks: deque[Task] = field(default_factory=deque)


class FrameQueue:
    """Frames and ends of runs, oldest first.

    A file that cannot be written holds up its own frames, and the ends of runs that need it, but
    nothing else: they wait apart, longer after each attempt. So does a single frame that cannot be
    fetched. Any thread may add tasks; one thread does them.

    Args:
        pauses: seconds, the first and the longest pause of a file or frame.
    """

    def __init__(self, pauses: tuple[float, float]):
        self._pauses = pauses
        self._tasks: deque[Task] = deque()
        self._endings: list[Ending] = []
        """that wait for a file"""
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        held = sum(len(held.tasks) for held in list(self._held.values()))
        return len(self._tasks) + len(self._endings) + held

    @property
    def trouble(self) -> str:
        """What keeps tasks from being done; empty if nothing does."""
        troubles = [held.trouble for held in list(self._held.values())]
        more = len(troubles) - TROUBLES_LIMIT
        rest = [f"and {more} more"] if more > 0 else []
        return "; ".join([*troubles[:TROUBLES_LIMIT], *rest])

    @property
    def head(self) -> Task | None:
        """The next task; None if all wait, or there is none."""
        return self._tasks[0] if self._tasks else None

    def batch(self, frames: int, nbytes: int) -> list[Frame]:
        """Return the next frames: at most `frames`, and no more after `nbytes` of pixels."""
        batch: list[Frame] = []
        size = 0
        for task in list(islice(self._tasks, frames)):
            if not isinstance(task, Frame) or size > nbytes:
                break
            batch.append(task)
            size += task.nbytes
        return batch

    def add(self, *tasks: Task) -> None:
        """Add tasks to the end; frames to those that wait for the same file."""
        with self._lock:
            for task in tasks:
                held = self._held.get(task.path) if isinstance(task, Frame) else None
                (held.tasks if held is not None and held.tasks else self._tasks).append(task)

    def remove(self, count: int) -> None:
        """Remove the next tasks: they are done."""
        with self._lock:
            for _ in range(count):
                self._tasks.popleft()

    def hold(self, path: str, trouble: str) -> bool:
        """Hold the frames of a file; return whether its trouble is a new one."""
        with self._lock:
            frames, rest = deque[Task](), deque[Task]()
            for task in self._tasks:
                is_held = isinstance(task, Frame) and task.path == path
                (frames if is_held else rest).append(task)
            is_new = self._hold(path, path, frames, trouble)
            self._tasks = rest
            return is_new

    def hold_frame(self, frame: Frame, trouble: str) -> bool:
        """Hold one frame only; return whether its trouble is a new one."""
        with self._lock:
            is_new = self._hold(frame.reference, frame.path, [frame], trouble)
            self._tasks.remove(frame)
            return is_new

    def resume(self) -> None:
        """Put the frames of files back whose pause is over, then set aside ends that must wait."""
        with self._lock:
            for held in self._held.values():
                if held.tasks and time.monotonic() >= held.due:
                    self._tasks.extendleft(reversed(held.tasks))
                    held.tasks.clear()
            self._tasks.extend(self._endings)
            self._endings.clear()
            while isinstance(ending := self.head, Ending) and self._must_wait(ending):
                self._endings.append(ending)
                self._tasks.popleft()

    def clear_trouble(self, names: set[str]) -> None:
        """Take note that files could be written (their paths), or frames fetched (references)."""
        with self._lock:
            for name in names & self._held.keys():
                if not self._held[name].tasks:
                    del self._held[name]

    def _hold(self, name: str, path: str, tasks: Iterable[Task], trouble: str) -> bool:
        held = self._held.setdefault(name, _Held(path, Backoff(*self._pauses)))
        is_new = trouble != held.trouble
        held.trouble, held.due = trouble, time.monotonic() + held.backoff.next_delay()
        held.tasks.extend(tasks)
        return is_new

    def _must_wait(self, ending: Ending) -> bool:
        paths = {frame.path for frame in ending.frames}
        held = [each for each in self._held.values() if each.path in paths]
        return any(each.tasks or time.monotonic() < each.due for each in held)
