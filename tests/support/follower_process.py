"""A follower in a separate process, and its handle for the tests."""

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

PATIENCE = 240.0  # seconds; a busy computer starts Tiled in minutes

Line = dict[str, Any]


class Follower:
    """A process that follows runs on request, and prints a line per point.

    Args:
        place: the arguments of its `Data`.
    """

    def __init__(self, **place: str):
        self.points: list[Line] = []
        """of the run that it follows"""
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "default::ResourceWarning", __file__, json.dumps(place)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._stderr = ""
        self._threads = [threading.Thread(target=t) for t in (self._read, self._read_stderr)]
        for thread in self._threads:
            thread.start()

    def ready(self) -> "Follower":
        """Wait until it has imported all it needs."""
        assert self._line() == {"ready": True}
        return self

    def follow(self, run: str | None = None, *, runs: int = 1, bookmark: str | None = None) -> None:
        """Request that it follows a run, or the next ones; return when it does."""
        assert self._process.stdin is not None
        print(json.dumps([run, runs, bookmark]), file=self._process.stdin, flush=True)
        assert self._line() == {"following": True}

    def until(self, index: int) -> None:
        """Wait until it has printed this point and the earlier ones."""
        while len(self.points) <= index:
            self.points.append(self._line())

    def end(self) -> tuple[list[Line], Line]:
        """Return the points of a run, and its end; call again for the next run."""
        while "status" not in (line := self._line()):
            self.points.append(line)
        points, self.points = self.points, []
        return points, line

    def kill(self) -> list[Line]:
        """Kill it with SIGKILL; return the points that it has printed as complete lines."""
        self._process.kill()
        self._join()
        while not self._lines.empty():
            if (line := self._lines.get()).endswith("\n"):
                self.points.append(json.loads(line))
        return self.points

    def close(self) -> str:
        """Close its stdin and wait for its end; return its standard error."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._join()
        return self._stderr

    def __enter__(self) -> "Follower":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc is not None:
            self._process.kill()
        errors = self.close()
        assert exc is not None or "Warning" not in errors and "Traceback" not in errors, errors

    def _line(self) -> Line:
        try:
            return json.loads(self._lines.get(timeout=PATIENCE))
        except queue.Empty:
            raise AssertionError(f"the follower prints nothing, after: {self._stderr}") from None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._process.stdout.close()

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._stderr += line
        self._process.stderr.close()

    def _join(self) -> None:
        self._process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)


def numbers(data: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers in an event; None for NaN, which is not equal to itself."""
    found = {key: value for key, value in data.items() if isinstance(value, (int, float))}
    return {key: None if math.isnan(value) else value for key, value in found.items()}


def content_of(point: Any, detector: str = "eels") -> Line:
    """Return the content of a point, and the checksum of the frame that it opens."""
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


def _print(line: Line) -> None:
    print(json.dumps(line), flush=True)


def _follow(data: Any, uid: str | None, runs: int, bookmark: str | None) -> None:
    followed = data.follow(uid, bookmark=bookmark, patience=PATIENCE)
    _print({"following": True})
    with followed:
        for _ in range(runs):
            run = followed if uid else next(followed)
            for point in run:
                _print(content_of(point))
            _print({"run": run.run, "status": run.end.status, "reason": run.end.reason})


def _main() -> None:
    from bluesky_em import Data

    place = json.loads(sys.argv[1])
    data = Data(**place)
    if "tiled" in place:
        assert data.catalog is not None  # seconds of imports
    _print({"ready": True})
    for line in sys.stdin:
        _follow(data, *json.loads(line))
    data.close()


if __name__ == "__main__":
    _main()
