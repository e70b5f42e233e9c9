import errno
import zlib
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from bluesky_em.acquisition.instrument_pc.exposure import Exposure
from bluesky_em.acquisition.instrument_pc.spool import Spool

PIXELS = np.arange(1000, dtype="<f4").reshape(10, 100)


def exposure(array: np.ndarray = PIXELS, **metadata: Any) -> Exposure:
    axes = [
        {"name": f"axis{i}", "units": "m", "offset": 0.0, "scale": 1.0, "size": size}
        for i, size in enumerate(array.shape)
    ]
    return Exposure(array, axes, metadata, 1.0, 2.0)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def test_the_header_describes_the_frame(spool: Spool):
    header = spool.put("run.eels/0", exposure(frames=3))
    assert header == {
        "reference": "run.eels/0",
        "shape": [10, 100],
        "dtype": "<f4",
        "nbytes": 4000,
        "checksum": zlib.crc32(PIXELS.tobytes()),
        "axes": exposure().axes,
        "metadata": {"frames": 3},
        "started": 1.0,
        "ended": 2.0,
    }


def test_a_frame_is_read_in_blocks_of_which_the_last_is_shorter(spool: Spool):
    spool.put("run.eels/0", exposure())
    blocks = [spool.read("run.eels/0", start, 1500) for start in range(0, 4000, 1500)]
    assert [len(block) for block in blocks] == [1500, 1500, 1000]
    assert b"".join(blocks) == PIXELS.tobytes()
    assert spool.read("run.eels/0", 4000, 1500) == b""


def test_a_released_frame_is_gone_and_the_others_stay(spool: Spool):
    for number in range(3):
        spool.put(f"run.eels/{number}", exposure())
    assert spool.fill() == (3, 12000)
    spool.release(["run.eels/0", "run.eels/2"])
    assert spool.references() == ["run.eels/1"]
    assert spool.fill() == (1, 4000)
    assert len(list(Path(spool.folder).iterdir())) == 1


def test_releasing_twice_or_an_unknown_frame_is_harmless(spool: Spool):
    spool.put("run.eels/0", exposure())
    spool.release(["run.eels/0", "run.eels/0", "never/was/1"])
    spool.release(["run.eels/0"])
    assert spool.references() == []


def test_a_missing_frame_is_named_with_its_spool_and_the_likely_cause(spool: Spool):
    spool.put("run.eels/0", exposure())
    spool.release(["run.eels/0"])
    with pytest.raises(LookupError) as caught:
        spool.read("run.eels/0", 0, 10)
    assert f"frame 'run.eels/0' is not in the spool {spool.folder}" in str(caught.value)
    assert "it was released, or its server was killed" in str(caught.value)


def test_a_restarted_spool_finds_its_frames(spool: Spool):
    spool.put("run.eels/0", exposure())
    spool.put("run.eels/1", exposure(PIXELS * 2))
    again = Spool(spool.folder)
    assert again.references() == ["run.eels/0", "run.eels/1"]
    assert again.fill() == (2, 8000)
    assert again.read("run.eels/1", 0, 4000) == (PIXELS * 2).tobytes()
    again.release(["run.eels/0"])
    assert Spool(spool.folder).references() == ["run.eels/1"]


def test_a_half_written_frame_is_removed_at_the_restart(spool: Spool):
    spool.put("run.eels/0", exposure())
    (whole,) = Path(spool.folder).iterdir()
    torn = whole.with_name("torn.frame.part")
    torn.write_bytes(whole.read_bytes()[:100])
    assert Spool(spool.folder).references() == ["run.eels/0"]
    assert list(Path(spool.folder).iterdir()) == [whole]


def test_a_frame_under_another_frames_name_is_put_aside_at_the_restart(spool: Spool):
    spool.put("run.eels/0", exposure())
    (path,) = Path(spool.folder).glob("*.frame")
    path.rename(path.with_name(f"{'0' * 40}.frame"))
    again = Spool(spool.folder)
    assert again.references() == []
    assert [path.name for path in Path(spool.folder).iterdir()] == [f"{'0' * 40}.frame.torn"]


def test_a_header_that_no_server_has_written_is_put_aside_at_the_restart(spool: Spool):
    header = msgpack.packb({"reference": 5, "nbytes": 0})
    path = Path(spool.folder) / "0.frame"
    path.write_bytes(len(header).to_bytes(4, "little") + header)
    assert Spool(spool.folder).references() == []
    assert [path.name for path in Path(spool.folder).iterdir()] == ["0.frame.torn"]


def test_an_entry_that_cannot_be_read_is_left_out_with_words_and_the_others_are_served(
    spool: Spool, caplog: pytest.LogCaptureFixture
):
    for number in range(2):
        spool.put(f"run.eels/{number}", exposure())
    path = Path(spool._path("run.eels/0"))
    path.unlink()
    path.mkdir()
    path.with_name("folder.frame.part").mkdir()
    assert Spool(spool.folder).references() == ["run.eels/1"]
    assert f"{path} is left out of the spool: " in caplog.text
    assert path.is_dir()


def test_a_frame_whose_file_has_lost_its_bytes_reads_as_fewer(spool: Spool):
    spool.put("run.eels/0", exposure())
    Path(spool._path("run.eels/0")).write_bytes(b"")
    assert spool.read("run.eels/0", 0, 4000) == b""


def test_a_frame_whose_file_is_gone_is_released_with_the_others(spool: Spool):
    for number in range(3):
        spool.put(f"run.eels/{number}", exposure())
    for path in Path(spool.folder).glob("*.frame"):
        path.unlink()
    spool.release([f"run.eels/{number}" for number in range(3)])
    assert spool.references() == []


def test_other_files_in_the_folder_stay_unchanged(tmp_path: Path):
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    assert Spool(tmp_path).references() == []
    assert other.read_text() == "mine"


def test_putting_again_replaces_the_frame(spool: Spool):
    spool.put("run.eels/0", exposure())
    spool.put("run.eels/0", exposure(np.zeros(2, "<u2")))
    assert spool.fill() == (1, 4)
    assert spool.read("run.eels/0", 0, 100) == bytes(4)


@pytest.mark.parametrize(
    "reference", ["../../x", "/etc/passwd", "..", "a\x00b", "C:\\x", "λ" * 999]
)
def test_a_hostile_reference_never_leaves_the_folder(spool: Spool, reference: str):
    spool.put(reference, exposure())
    assert spool.read(reference, 0, 4000) == PIXELS.tobytes()
    assert Spool(spool.folder).references() == [reference]
    inside = Path(spool.folder)
    assert [path for path in inside.parent.rglob("*") if path.is_file()] == list(inside.iterdir())
    spool.release([reference])
    assert not list(inside.iterdir())


def test_a_reference_to_a_file_outside_reads_nothing(spool: Spool):
    secret = Path(spool.folder).parent / "secret.frame"
    secret.write_bytes(bytes(100))
    for reference in ("../secret", "../secret.frame", str(secret)):
        with pytest.raises(LookupError, match="is not in the spool"):
            spool.read(reference, 0, 10)
        spool.release([reference])
    assert secret.exists()


def test_a_spool_at_its_limit_refuses_before_anything_is_exposed_and_reports_its_fill(
    tmp_path: Path,
):
    spool = Spool(tmp_path, limit=10_000)
    for number in range(2):
        spool.check_room(4000)
        spool.put(f"run.eels/{number}", exposure())
    with pytest.raises(OSError, match=r"is full: 8.0 kB of 10.0 kB in 2 frames") as refused:
        spool.check_room(4000)
    assert refused.value.errno == errno.ENOSPC
    spool.release(["run.eels/0"])
    spool.check_room(4000)


def test_a_frame_larger_than_the_whole_spool_is_an_error_at_once(tmp_path: Path):
    with pytest.raises(ValueError, match="serve with a larger --spool-limit"):
        Spool(tmp_path, limit=3999).check_room(4000)


def test_a_spool_leaves_some_of_its_disk_free(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    spool.check_room(4000)
    monkeypatch.setattr("bluesky_em.acquisition.instrument_pc.spool.SPARE", 1 << 60)
    assert spool.capacity() == 0
    with pytest.raises(OSError, match="full: 0 bytes of 0 bytes .* free, of which it leaves"):
        spool.check_room(1)


def test_a_frame_that_could_not_be_written_leaves_no_part_of_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
):
    def full(*names: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bluesky_em.acquisition.instrument_pc.spool.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        spool.put("run.eels/0", exposure())
    assert list(Path(spool.folder).iterdir()) == [] and spool.fill() == (0, 0)
