"""HDF5 files that are read by another process than the one that writes them."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bluesky_em.files.hdf5 import FramesFile
from bluesky_em.files.hdf5.updates import UpdateReader
from tests.support.simple_frames import frame, pixels
from tests.support.update_streams import STREAMS, contents, write

ROOT = Path(__file__).parents[2]
Read = Callable[[str, Path], Any]

READ = """
import json, sys
from pathlib import Path
from bluesky_em.files.hdf5 import FramesReader
from tests.support.update_streams import contents

def frames(path):
    with FramesReader(path) as reader:
        return {number: reader.read(reader.row_of(number)).tolist() for number in reader.numbers()}

for line in sys.stdin:
    kind, path = line.strip().split(" ", 1)
    print(json.dumps({"frames": frames, "updates": contents}[kind](Path(path))), flush=True)
"""


@pytest.fixture(scope="module")
def read_elsewhere() -> Iterator[Read]:
    """Read a file in another process, and return its contents."""
    with subprocess.Popen(
        [sys.executable, "-c", READ], cwd=ROOT, stdin=-1, stdout=-1, text=True
    ) as process:

        def read(kind: str, path: Path) -> Any:
            assert process.stdin is not None and process.stdout is not None
            print(kind, path, file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield read
        assert process.stdin is not None
        process.stdin.close()


def test_a_flushed_frame_is_read_by_another_process_while_the_file_is_open(
    tmp_path: Path, read_elsewhere: Read
):
    file = FramesFile(tmp_path / "haadf.h5", frame(0))
    file.write(frame(0, number=5), pixels(5))
    file.write(frame(1, number=7), pixels(7))
    file.flush()
    found = read_elsewhere("frames", tmp_path / "haadf.h5")
    assert [*found.items()] == [("5", pixels(5).tolist()), ("7", pixels(7).tolist())]
    file.close()


@pytest.mark.parametrize("name", STREAMS)
def test_updates_are_read_by_another_process_after_each_flush(
    name: str, tmp_path: Path, read_elsewhere: Read
):
    stream = STREAMS[name]
    file = stream.open(tmp_path / "haadf.h5")
    for batch in (stream.updates[:1], stream.updates[1:4], stream.updates[4:]):
        write(file, batch)
        closed = stream.open(tmp_path / "closed.h5")
        write(closed, batch)
        closed.close()
        assert read_elsewhere("updates", tmp_path / "haadf.h5") == contents(tmp_path / "closed.h5")
    file.close()


WRITE = """
import sys
from itertools import count
from pathlib import Path
import numpy as np
from bluesky_em.files.hdf5.updates import UpdateDeclaration, Update, open_updates
plain = {"mode": sys.argv[2], "shape": [300, 400], "dtype": "<f4"}
file = open_updates(Path(sys.argv[1]), UpdateDeclaration.load(plain), "owner")
for number in count():
    values = np.full((300, 400), number, "<f4")
    file.write(Update.of(number, values, time=0.0), values)
    file.flush()
    if number == 3:
        print("writing", flush=True)
"""


@pytest.mark.parametrize("mode", ["replace", "accumulate"])
def test_what_is_read_is_complete_however_fast_it_changes(mode: str, tmp_path: Path):
    path = tmp_path / "haadf.h5"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(path), mode], cwd=ROOT, stdout=subprocess.PIPE
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline().strip() == b"writing"
        with UpdateReader(path) as reader:
            found = [reader.read() for _ in range(30)]
        writer.kill()
    values = [int(array[0, 0]) for array in found]
    assert all((array == array[0, 0]).all() for array in found)
    assert values == sorted(values)
    assert len(set(values)) > 3
    if mode == "accumulate":
        triangular = {n * (n + 1) // 2 for n in range(2000)}
        assert set(values) <= triangular
