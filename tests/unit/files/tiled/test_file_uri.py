"""URIs of files for Tiled, and the folders that have none."""

from pathlib import Path, PureWindowsPath
from typing import Any

import pytest
from tiled.utils import path_from_uri

from bluesky_em import Storage
from bluesky_em.files.layout import Layout
from bluesky_em.files.tiled.file_uri import check_folder, file_uri, unquoted

NAMES = [
    "plain", "my data", "50% off", "50%20 off", "it's", '"quoted"', "Ünï", "光谱", "a;b&c=1",
    "x" * 200, "dot.", "space ", "[1]", "{a}", "back\\slash", "a@b:c", "~", "+,!$^`|<>*",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_tiled_takes_the_path_from_the_uri_as_it_was(name: str) -> None:
    path = Path("/home") / name / "data" / "eels.h5"
    check_folder(path.parent)
    assert path_from_uri(file_uri(path)) == path


def test_a_windows_path_begins_after_the_third_slash() -> None:
    windows: Any = PureWindowsPath("C:/Users/First Last/eels.h5")
    assert file_uri(windows) == "file:///C:/Users/First Last/eels.h5"


@pytest.mark.parametrize("character", ["#", "?", "\n", "\t", "\x7f", "\udcff"])
def test_what_no_uri_can_carry_is_refused_with_what_to_do(character: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="path contains .*Rename that folder, or give another"):
        check_folder(Path(f"/home/a{character}b/data"))
    with pytest.raises(ValueError, match="cannot be a storage folder"):
        Storage(tmp_path / f"a{character}b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["", "localhost"])
def test_another_packages_quoted_uri_is_unquoted_if_its_file_exists(
    tmp_path: Path, host: str
) -> None:
    path = tmp_path / "my data" / "a b.h5"
    quoted = path.as_uri().replace("file://", f"file://{host}")
    assert unquoted(quoted) == quoted, "no such file"
    path.parent.mkdir()
    path.touch()
    assert path_from_uri(unquoted(quoted)) == path
    literal = tmp_path / "50%20"
    literal.touch()
    assert unquoted(file_uri(literal)) == file_uri(literal)
    assert unquoted("http://host/a%20b") == "http://host/a%20b"


def test_dots_and_links_lead_to_the_folder_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    real = (tmp_path / "real").resolve()
    ways: list[str | Path] = [tmp_path / "link", "../real", ".", tmp_path / "link/../real"]
    assert {Layout.of(way).root for way in ways} == {real}
