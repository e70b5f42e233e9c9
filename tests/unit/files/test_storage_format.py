"""A storage folder of another format is refused in words; this version's has its number."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from bluesky_em import Data, Storage
from bluesky_em.errors import OtherFormat
from bluesky_em.files import storage_format
from bluesky_em.files.layout import Layout

OLD = Path(__file__).parent / "format_1.tar.gz"  # written by the version before format 2


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a folder with the run of one spectrum."""
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "format_1"


def test_a_folder_of_the_version_before_is_refused_and_stays_as_it_is(old: Path):
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    for opened in (Storage, lambda folder: Data(storage=folder)):
        with pytest.raises(OtherFormat, match="has format 1, of an earlier version .* needs 2"):
            opened(old)
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before


def test_a_folder_of_a_newer_version_is_refused(tmp_path: Path):
    (tmp_path / storage_format.FILE).write_text('{"format": 3}')
    with pytest.raises(OtherFormat, match="has format 3, of a newer version .* update it"):
        Layout.of(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "two"}', '{"format": true}'])
def test_a_damaged_number_is_refused_with_what_it_should_be(tmp_path: Path, content: str):
    (tmp_path / storage_format.FILE).write_text(content)
    with pytest.raises(OtherFormat, match=r'format.json is damaged: it should be {"format": 2}'):
        Layout.of(tmp_path)


def test_a_new_folder_is_marked_once(tmp_path: Path):
    storage_format.mark(tmp_path)
    storage_format.mark(tmp_path)
    assert json.loads((tmp_path / storage_format.FILE).read_text()) == {"format": 2}
    assert Layout.of(tmp_path).root == tmp_path


def test_a_folder_whose_number_is_gone_is_recognised_by_its_references(old: Path):
    shutil.rmtree(old / "journal")
    with pytest.raises(OtherFormat, match="has format 1"):
        Layout.of(old)
