from pathlib import Path

import h5py
import pytest

from bluesky_em.files.hdf5 import repair
from bluesky_em.files.hdf5._repair import lookup3


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    path = tmp_path / "clean.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["x"] = [1, 2, 3]
    return path


def left_open(path: Path) -> None:
    """Change the superblock as a killed SWMR writer leaves it."""
    block = bytearray(path.read_bytes())
    block[11] = 0b101
    block[28:36] = (48).to_bytes(8, "little")
    block[44:48] = lookup3(bytes(block[:44])).to_bytes(4, "little")
    path.write_bytes(block)


def test_a_clean_file_is_left_untouched(clean: Path):
    before, modified = clean.read_bytes(), clean.stat().st_mtime_ns
    assert repair(clean) is False
    assert clean.read_bytes() == before
    assert clean.stat().st_mtime_ns == modified


def test_a_file_left_open_for_writing_opens_after_repair(clean: Path):
    before = clean.read_bytes()
    left_open(clean)
    with pytest.raises(OSError):  # noqa: PT011 (the words are HDF5's)
        h5py.File(clean, "r+")
    assert repair(clean) is True
    assert clean.read_bytes() == before
    with h5py.File(clean, "r+") as file:
        assert file["x"][:].tolist() == [1, 2, 3]


def test_repairing_twice_does_nothing_the_second_time(clean: Path):
    left_open(clean)
    assert [repair(clean), repair(clean)] == [True, False]


@pytest.mark.parametrize(
    "content", [b"", b"\x89HDF\r\n\x1a\n", b"not HDF5 at all " * 10], ids=["empty", "torn", "text"]
)
def test_another_file_is_refused_by_name_and_not_changed(tmp_path: Path, content: bytes):
    path = tmp_path / "other.h5"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other.h5 is not an HDF5 file with a version 3"):
        repair(path)
    assert path.read_bytes() == content


def test_an_old_format_file_is_refused(tmp_path: Path):
    path = tmp_path / "old.h5"
    h5py.File(path, "w", libver="earliest").close()
    with pytest.raises(ValueError, match="version 3 superblock"):
        repair(path)


@pytest.mark.parametrize(
    ("data", "hashed"),
    [(b"", 0xDEADBEEF), (b"Four score and seven years ago", 0x17770551)],
)
def test_lookup3_returns_the_hashes_that_its_author_published(data: bytes, hashed: int):
    assert lookup3(data) == hashed


def test_lookup3_is_the_checksum_hdf5_itself_writes(clean: Path):
    block = clean.read_bytes()[:48]
    assert lookup3(block[:44]).to_bytes(4, "little") == block[44:]
