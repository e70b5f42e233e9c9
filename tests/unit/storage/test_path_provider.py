from pathlib import Path

import pytest

from bluesky_em.errors import NotEnoughSpace
from bluesky_em.files.layout import Layout
from bluesky_em.storage.path_provider import RunPathProvider

ROOT = Path("/storage")


@pytest.fixture
def provider() -> RunPathProvider:
    return RunPathProvider(Layout(ROOT))


def test_the_one_open_run_decides_the_place(provider: RunPathProvider):
    provider.opened("run-1", 0.0)
    place = provider("eels")
    assert provider.run == "run-1"
    assert Path(place.directory_path) == ROOT / "data/1970/01/01/run-1"
    assert place.filename == "eels"


def test_the_place_is_where_the_writer_will_put_the_file(provider: RunPathProvider):
    provider.opened("run-1", 86400.0)
    place = provider("haadf.left")
    expected = Layout(ROOT).frames_of("run-1", 86400.0, "haadf.left")
    assert Path(place.directory_path) / f"{place.filename}.h5" == expected


def test_without_a_run_there_is_no_run_and_still_a_place(provider: RunPathProvider):
    assert provider.run is None
    assert Path(provider("eels").directory_path) == ROOT / "data"
    assert provider("eels").filename.startswith("eels-")


def test_without_a_run_no_two_frames_share_a_place(provider: RunPathProvider):
    assert provider("eels").filename != provider("eels").filename


def test_with_two_runs_open_no_run_is_chosen(provider: RunPathProvider):
    provider.opened("run-1", 0.0)
    provider.opened("run-2", 0.0)
    assert provider.run is None
    provider.closed("run-1")
    assert provider.run == "run-2"


def test_closing_a_run_twice_or_an_unknown_one_is_harmless(provider: RunPathProvider):
    provider.opened("run-1", 0.0)
    provider.closed("unknown")
    assert provider.run == "run-1"
    provider.closed("run-1")
    provider.closed("run-1")
    assert provider.run is None


@pytest.mark.parametrize("detector", ["../../x", "/etc/passwd", "..", "a\\..\\b"])
def test_no_detector_name_leads_out_of_the_folder(provider: RunPathProvider, detector: str):
    for run in (None, "../../run"):
        if run:
            provider.opened(run, 0.0)
        place = provider(detector)
        path = (Path(place.directory_path) / f"{place.filename}.h5").resolve()
        assert path.is_relative_to(ROOT / "data")
        assert not set("./\\") & set(place.filename)


def test_a_run_that_would_not_fit_on_the_disk_is_refused_before_it_begins(tmp_path: Path):
    layout = Layout(tmp_path)
    layout.journal.mkdir()
    paths = RunPathProvider(layout)
    paths.check_room(1000)
    with pytest.raises(NotEnoughSpace, match=r"would take 1.0 EB, .* free: the run is not begun"):
        paths.check_room(10**18)


def test_a_disk_that_is_gone_is_reported_before_a_run_begins(tmp_path: Path):
    words = "cannot be written .No such file or directory.*Reconnect"
    with pytest.raises(NotEnoughSpace, match=words):
        RunPathProvider(Layout(tmp_path / "unplugged")).check_room(1000)
