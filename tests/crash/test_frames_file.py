"""A frames file whose writer was killed."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from bluesky_em.files.hdf5 import FramesFile
from tests.support.simple_frames import SHAPE, frame, pixels

ROOT = Path(__file__).parents[2]
WRITE = """
import sys
from pathlib import Path
from bluesky_em.files.hdf5 import FramesFile
from tests.support.simple_frames import frame, pixels
file = FramesFile(Path(sys.argv[1]), frame(0))
for row in range(100):
    file.write(frame(row), pixels(row))
    if row == 80:
        file.flush()
print("written", flush=True)
sys.stdin.read()
"""


def test_a_file_whose_writer_was_killed_is_repaired_and_continued(tmp_path: Path):
    path = tmp_path / "haadf.h5"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        writer.kill()
    with pytest.raises(OSError, match="Unable to synchronously open file"):
        h5py.File(path, "r+")
    file = FramesFile(path, frame(0))
    assert [file.checksum(range(row, row + 1)) for row in range(81)] == [
        frame(r).checksum for r in range(81)
    ]
    for row in range(81, 120):
        file.write(frame(row), pixels(row))
    file.close()
    with h5py.File(path) as plain:
        assert plain["entry/frames/number"][:].tolist() == list(range(120))
        assert plain["entry/data/data"].shape == (120, *SHAPE)
        np.testing.assert_array_equal(plain["entry/data/data"][119], pixels(119))
