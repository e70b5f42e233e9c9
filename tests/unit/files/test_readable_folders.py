"""The folders that Tiled may read, and what is said of others."""

from pathlib import Path

import pytest

from bluesky_em.files import readable_folders
from bluesky_em.files.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "storage").mkdir()
    return Layout.of(tmp_path / "storage")


def test_the_data_folder_is_readable_and_a_neighbour_is_not(layout: Layout) -> None:
    assert readable_folders.why_unreadable(layout, layout.data / "others" / "1.npy") == ""
    neighbour = layout.root.with_name("storage-2") / "1.npy"
    why = readable_folders.why_unreadable(layout, neighbour)
    assert f"open the Storage with readable=[{str(neighbour.parent)!r}]" in why


def test_what_is_declared_stays_until_it_is_declared_otherwise(
    layout: Layout, tmp_path: Path
) -> None:
    readable_folders.declare(layout, [tmp_path])
    assert [*readable_folders.declared(layout)] == [tmp_path]
    assert readable_folders.why_unreadable(layout, tmp_path / "camera" / "1.npy") == ""
    readable_folders.declare(layout, [])
    assert [*readable_folders.declared(layout)] == []


def test_a_link_is_followed_since_tiled_compares_whole_paths(
    layout: Layout, tmp_path: Path
) -> None:
    (tmp_path / "camera").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "camera", target_is_directory=True)
    readable_folders.declare(layout, [tmp_path / "link"])
    assert [*readable_folders.declared(layout)] == [tmp_path / "camera"]


def test_a_folder_that_is_absent_is_refused_and_nothing_is_declared(
    layout: Layout, tmp_path: Path
) -> None:
    with pytest.raises(NotADirectoryError, match="absent is no folder here: create it"):
        readable_folders.declare(layout, [tmp_path, tmp_path / "absent"])
    assert [*readable_folders.declared(layout)] == []


@pytest.mark.parametrize("content", ["", "[", "{"])
def test_a_file_that_a_power_cut_has_emptied_declares_nothing(layout: Layout, content: str) -> None:
    (layout.root / readable_folders.FILE).write_text(content)
    assert [*readable_folders.declared(layout)] == []
