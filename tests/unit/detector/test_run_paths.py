"""A Storage's path provider, a plain one, and one that is neither."""

from pathlib import Path
from typing import Any

import pytest
from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider

from bluesky_em.detector._run_paths import NAMES, as_run_paths
from bluesky_em.files.layout import Layout
from bluesky_em.storage.path_provider import RunPathProvider


def test_a_storages_path_provider_is_taken_as_it_is(tmp_path: Path):
    provider = RunPathProvider(Layout(tmp_path))
    assert as_run_paths(provider) is provider


def test_a_plain_path_provider_knows_no_run_and_holds_nothing(tmp_path: Path):
    provider = StaticPathProvider(UUIDFilenameProvider(), tmp_path)
    paths = as_run_paths(provider)
    assert (paths.run, [*paths.open_runs], paths.held) == (None, [], "")
    paths.check_room(10**18)
    assert paths("eels").directory_path == tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_path_provider_that_lost_a_name_is_refused_and_not_taken_for_a_plain_one(name: str):
    class Renamed:
        run, open_runs, held = None, (), ""

        def check_room(self, size: int) -> None:
            pass

        def why_unreadable(self, path: Path) -> str:
            return ""

        def __call__(self, datakey_name: str | None = None) -> Any:
            pass

    delattr(Renamed, name)
    with pytest.raises(TypeError, match=f"a Renamed without {name}: give a Storage's path_provi"):
        as_run_paths(Renamed())
