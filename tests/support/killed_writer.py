"""Writes a stream and dies on the way: one process that forks a writer for each order it gets.

An order is a line of JSON: the stream's name, the file's path, how many updates share a flush,
and either at which of its steps to die, or after how many seconds. A step is a call of HDF5 or of
the operating system that changes the file. The answer is the number of updates that were flushed.
"""

import json
import os
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import h5py

from tests.support.update_streams import STREAMS, write


def die_at(step: int) -> None:
    steps = count()

    def watched(call: Any) -> Any:
        def watch(*args: Any, **kwargs: Any) -> Any:
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **kwargs)
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return watch

    h5py.Dataset.__setitem__ = watched(h5py.Dataset.__setitem__)  # type: ignore
    h5py.Dataset.resize = watched(h5py.Dataset.resize)  # type: ignore
    h5py.File.flush = watched(h5py.File.flush)  # type: ignore
    h5py.File.close = watched(h5py.File.close)  # type: ignore
    os.fsync = watched(os.fsync)
    os.replace = watched(os.replace)


def run(order: dict[str, Any], flushed: Path) -> None:
    if "step" in order:
        die_at(order["step"])
    stream = STREAMS[order["name"]]
    file = stream.open(Path(order["path"]))
    for start in range(0, len(stream.updates), order["batch"]):
        end = start + order["batch"]
        write(file, stream.updates[start:end])
        flushed.write_text(str(min(end, len(stream.updates))))
    file.close()
    os._exit(0)


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        flushed = Path(order["path"]).with_suffix(".flushed")
        flushed.write_text("0")
        child = os.fork()
        if not child:
            try:
                run(order, flushed)
            finally:
                os._exit(1)
        if "seconds" in order:
            time.sleep(order["seconds"])
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        how = "killed" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
        print(json.dumps({"flushed": int(flushed.read_text() or 0), "how": how}), flush=True)


if __name__ == "__main__":
    main()
