"""A process that forks a writer of an update file for each request, and kills it on the way.

A request is a line of JSON: the stream's name, the file's path, the number of updates per flush
(`batch`), and the moment of the kill: `step`, or `seconds` after the start. A step is the beginning
or end of a call of HDF5 or of the operating system that changes the file. The answer has the number
of updates that were `flushed`, the number of `steps` (of a writer that was not killed), and the
`end` of the writer: "killed" or "exit <code>".
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import h5py

from tests.support.update_streams import STREAMS, write


class Steps:
    """Counts the steps of this process, and kills it at step `last`."""

    def __init__(self, last: int | None):
        self.count = 0
        self._last = last
        h5py.Dataset.__setitem__ = self._watch(h5py.Dataset.__setitem__)  # type: ignore
        h5py.Dataset.resize = self._watch(h5py.Dataset.resize)  # type: ignore
        h5py.File.flush = self._watch(h5py.File.flush)  # type: ignore
        h5py.File.close = self._watch(h5py.File.close)  # type: ignore
        os.fsync = self._watch(os.fsync)
        os.replace = self._watch(os.replace)

    def _watch(self, call: Any) -> Any:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._step()
            result = call(*args, **kwargs)
            self._step()
            return result

        return watched

    def _step(self) -> None:
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1


def run(request: dict[str, Any], report: Path) -> None:
    steps = Steps(request.get("step"))
    stream = STREAMS[request["name"]]
    file = stream.open(Path(request["path"]))
    flushed = 0
    for start in range(0, len(stream.updates), request["batch"]):
        batch = stream.updates[start : start + request["batch"]]
        write(file, batch)
        flushed += len(batch)
        report.write_text(json.dumps({"flushed": flushed}))
    file.close()
    report.write_text(json.dumps({"flushed": flushed, "steps": steps.count}))
    os._exit(0)


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        report = Path(request["path"]).with_suffix(".report")
        report.write_text("")
        child = os.fork()
        if not child:
            try:
                run(request, report)
            finally:
                os._exit(1)
        if "seconds" in request:
            time.sleep(request["seconds"])
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        end = "killed" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
        answer = {"flushed": 0, **json.loads(report.read_text() or "{}"), "end": end}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
