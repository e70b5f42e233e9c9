from pathlib import Path

import pytest

from bluesky_em.app import lab

ROOT = Path(__file__).parents[3]


def test_an_unknown_devices_file_is_refused_with_those_that_exist() -> None:
    with pytest.raises(FileNotFoundError, match="that folder has: simulated, two_pc"):
        lab.load_devices("titan", ROOT, path_provider=None)
