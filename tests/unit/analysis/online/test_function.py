"""Functions are found by name, called by convention, and identified by their provenance."""

from pathlib import Path

import numpy as np
import pytest

from bluesky_em.analysis.online import FrameFunction
from bluesky_em.axes import Axis

ENERGY = Axis(name="energy", units="eV", offset=0.0, scale=1.0, size=4)
FRAMES = np.arange(8.0).reshape(2, 4)


@pytest.fixture
def written(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(
        "def weighted(frames, energy, power=1):\n    return (frames * energy**power).sum(-1)\n"
        "def wrong(frames):\n    return frames.sum()\n"
    )
    return str(path)


def test_a_function_of_the_package_is_found_by_its_name_alone() -> None:
    function = FrameFunction.named("subtract_dark", {"dark": np.ones(4)})
    assert function.name == "bluesky_em.analysis:subtract_dark"
    np.testing.assert_array_equal(function(FRAMES, (ENERGY,)), FRAMES - 1)


def test_axes_are_passed_by_their_names(written: str) -> None:
    function = FrameFunction.named(f"{written}:weighted", {"power": 2})
    np.testing.assert_array_equal(function(FRAMES, (ENERGY,)), (FRAMES * [0, 1, 4, 9]).sum(-1))


def test_provenance_identifies_a_function_and_its_version(written: str) -> None:
    reference = "run.eels/3"
    about = FrameFunction.named("subtract_dark", {"dark": reference}).provenance()
    assert about["function"] == "bluesky_em.analysis:subtract_dark"
    assert about["version"].startswith("bluesky-em ")
    assert about["parameters"] == {"dark": reference} and about["references"] == [reference]
    before = FrameFunction.named(f"{written}:weighted").provenance()["source"]
    path = Path(written)
    path.write_text(path.read_text().replace("power=1", "power=3"))
    assert FrameFunction.named(f"{written}:weighted").provenance()["source"] != before


def test_an_unknown_function_is_refused_with_the_known_ones(written: str) -> None:
    with pytest.raises(ValueError, match="no function 'thikness' in bluesky_em.analysis; .*thickn"):
        FrameFunction.named("thikness")
    with pytest.raises(ValueError, match="nowhere cannot be imported"):
        FrameFunction.named("nowhere:f")
    with pytest.raises(ValueError, match="absent.py does not exist"):
        FrameFunction.named("absent.py:f")


def test_wrong_parameters_are_refused_with_the_right_ones(written: str) -> None:
    with pytest.raises(ValueError, match=r"takes no \['onset'\], only \['energy', 'power'\]"):
        FrameFunction.named(f"{written}:weighted", {"onset": 1})
    with pytest.raises(ValueError, match=r"subtract_dark needs dark .* axes \['energy'\]"):
        FrameFunction.named("subtract_dark")(FRAMES, (ENERGY,))


def test_a_function_without_a_value_for_each_frame_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"wrong returned shape \(\) for 2 frames; .* \(2, ...\)"):
        FrameFunction.named(f"{written}:wrong")(FRAMES, (ENERGY,))
