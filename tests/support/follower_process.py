"""A follower in a process of its own, and those who watch it from the tests."""

import json
import math
import queue
import subprocess
import sys
import threading
import zlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any

PATIENCE = 60.0  # seconds

Line = dict[str, Any]


class Follower:
    """A process that follows when it is told to, and prints a line per point.

    Args:
        place: what `Data` is made with.
    """

    def __init__(self, **place: str):
        self.points: list[Line] = []
        """of the run that is followed"""
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "default::ResourceWarning", __file__, json.dumps(place)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._said = ""
        self._threads = [threading.Thread(target=t) for t in (self._hear, self._hear_complaints)]
        for thread in self._threads:
            thread.start()

    def ready(self) -> "Follower":
        """Wait until it has imported all it needs."""
        assert self._line() == {"ready": True}
        return self

    def follow(self, run: str | None = None, *, runs: int = 1, bookmark: str | None = None) -> None:
        """Have it follow a run, or the next ones; returns once it does."""
        assert self._process.stdin is not None
        print(json.dumps([run, runs, bookmark]), file=self._process.stdin, flush=True)
        assert self._line() == {"following": True}

    def until(self, index: int) -> None:
        """Wait until it has printed this point, and those before it."""
        while len(self.points) <= index:
            self.points.append(self._line())

    def end(self) -> tuple[list[Line], Line]:
        """Give the points of a run and how it ended; the next run's come after."""
        while "status" not in (line := self._line()):
            self.points.append(line)
        points, self.points = self.points, []
        return points, line

    def kill(self) -> list[Line]:
        """Kill it with SIGKILL and give what it has printed, in whole lines."""
        self._process.kill()
        self._join()
        while not self._lines.empty():
            if (line := self._lines.get()).endswith("\n"):
                self.points.append(json.loads(line))
        return self.points

    def close(self) -> str:
        """Let it end; gives what it complained of."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._join()
        return self._said

    def __enter__(self) -> "Follower":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc is not None:
            self._process.kill()
        said = self.close()
        assert exc is not None or "Warning" not in said and "Traceback" not in said, said

    def _line(self) -> Line:
        try:
            return json.loads(self._lines.get(timeout=PATIENCE))
        except queue.Empty:
            raise AssertionError(f"the follower is silent, after: {self._said}") from None

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._process.stdout.close()

    def _hear_complaints(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said += line
        self._process.stderr.close()

    def _join(self) -> None:
        self._process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)


def numbers(data: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers in an event; None for NaN, which equals nothing."""
    found = {key: value for key, value in data.items() if isinstance(value, (int, float))}
    return {key: None if math.isnan(value) else value for key, value in found.items()}


def told_of(point: Any, detector: str = "eels") -> Line:
    """What a point says, and the checksum of what it opens."""
    return {
        "stream": point.stream,
        "index": point.index,
        "seq_num": point.seq_num,
        "time": point.time,
        "data": numbers(point.data),
        "references": dict(point.references),
        "checksum": zlib.crc32(point.open(detector).read()),
        "skipped": point.skipped,
        "reason": point.reason,
    }  # fmt: skip


def _say(line: Line) -> None:
    print(json.dumps(line), flush=True)


def _follow(data: Any, uid: str | None, runs: int, bookmark: str | None) -> None:
    followed = data.follow(uid, bookmark=bookmark, patience=PATIENCE)
    _say({"following": True})
    with followed:
        for _ in range(runs):
            run = followed if uid else next(followed)
            for point in run:
                _say(told_of(point))
            _say({"run": run.run, "status": run.end.status, "reason": run.end.reason})


def _main() -> None:
    from bluesky_em import Data

    place = json.loads(sys.argv[1])
    data = Data(**place)
    if "tiled" in place:
        assert data.catalog is not None  # seconds of imports
    _say({"ready": True})
    for line in sys.stdin:
        _follow(data, *json.loads(line))
    data.close()


if __name__ == "__main__":
    _main()
