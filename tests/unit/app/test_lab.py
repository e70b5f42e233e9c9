from pathlib import Path

import pytest

from bluesky_em.app import lab
from bluesky_em.files.layout import Layout
from bluesky_em.storage.path_provider import RunPathProvider

ROOT = Path(__file__).parents[3]
TWO_OF_A_NAME = """
from bluesky_em import gatan

def devices(*, path_provider):
    return {
        key: gatan.Spectrometer("PYRO:eels@pc:9091", path_provider=path_provider, name="eels")
        for key in ("eels", "second")
    }
"""


def test_an_unknown_devices_file_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="that folder has: simulated, two_pc"):
        lab.load_devices("titan", ROOT, path_provider=RunPathProvider(Layout(tmp_path)))


def test_two_devices_of_the_same_name_are_refused_with_both(tmp_path: Path) -> None:
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "copied.py").write_text(TWO_OF_A_NAME)
    with pytest.raises(ValueError, match="'eels' and 'second' have the same name, 'eels'"):
        lab.load_devices("copied", tmp_path, path_provider=RunPathProvider(Layout(tmp_path)))


def test_init_adds_what_the_current_laboratory_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("devices", "plans"):
        (tmp_path / "old" / name).mkdir(parents=True)
    (tmp_path / "old/plans/mine.py").touch()
    monkeypatch.chdir(tmp_path / "old")
    lab.init(tmp_path / "new")
    assert [path.name for path in (tmp_path / "new/plans").iterdir()] == ["mine.py"]
    assert (tmp_path / "new/queue_server/00_session.py").exists()
