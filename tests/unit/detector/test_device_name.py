from pathlib import Path

import pytest

from bluesky_em import gatan
from bluesky_em.files.layout import Layout
from bluesky_em.storage.path_provider import RunPathProvider

URI = "PYRO:eels_server@gatan-pc:9091"


@pytest.mark.parametrize(
    "name", ["time", "seq_num", "internal", "internal_0", "Time", "eels.main", "a/b", "a#b"]
)
def test_a_name_that_cannot_be_catalogued_is_refused_when_the_device_is_made(
    name: str, tmp_path: Path
):
    paths = RunPathProvider(Layout(tmp_path))
    with pytest.raises(ValueError, match=f"cannot be named '{name}'.*give it another name"):
        gatan.Spectrometer(URI, path_provider=paths, name=name)
    later = gatan.Spectrometer(URI, path_provider=paths)
    with pytest.raises(ValueError, match=f"cannot be named '{name}'"):
        later.set_name(name)


@pytest.mark.parametrize("name", ["", "eels", "eels 1", "Δ", "time-resolved", "a" * 60, "-eels"])
def test_other_names_are_accepted(name: str, tmp_path: Path):
    device = gatan.Spectrometer(URI, path_provider=RunPathProvider(Layout(tmp_path)), name=name)
    assert device.name == name
