"""Functions are found by name, called by convention, and can be told apart afterwards."""

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


def test_one_of_our_own_goes_by_its_name_alone() -> None:
    function = FrameFunction.named("subtract_dark", {"dark": np.ones(4)})
    assert function.name == "bluesky_em.analysis:subtract_dark"
    np.testing.assert_array_equal(function(FRAMES, (ENERGY,)), FRAMES - 1)


def test_axes_that_it_asks_for_are_given_by_their_name(written: str) -> None:
    function = FrameFunction.named(f"{written}:weighted", {"power": 2})
    np.testing.assert_array_equal(function(FRAMES, (ENERGY,)), (FRAMES * [0, 1, 4, 9]).sum(-1))


def test_what_it_was_can_be_told_afterwards(written: str) -> None:
    reference = "run/eels/3"
    about = FrameFunction.named("subtract_dark", {"dark": reference}).provenance()
    assert about["function"] == "bluesky_em.analysis:subtract_dark"
    assert about["version"].startswith("bluesky-em ")
    assert about["parameters"] == {"dark": reference} and about["references"] == [reference]
    before = FrameFunction.named(f"{written}:weighted").provenance()["source"]
    path = Path(written)
    path.write_text(path.read_text().replace("power=1", "power=3"))
    assert FrameFunction.named(f"{written}:weighted").provenance()["source"] != before


def test_a_name_that_is_none_says_what_there_is(written: str) -> None:
    with pytest.raises(ValueError, match="no function 'thikness' in bluesky_em.analysis; .*thickn"):
        FrameFunction.named("thikness")
    with pytest.raises(ValueError, match="nowhere cannot be imported"):
        FrameFunction.named("nowhere:f")
    with pytest.raises(ValueError, match="there is no file .*absent.py"):
        FrameFunction.named("absent.py:f")


def test_parameters_that_do_not_fit_say_what_does(written: str) -> None:
    with pytest.raises(ValueError, match=r"takes no \['onset'\], only \['energy', 'power'\]"):
        FrameFunction.named(f"{written}:weighted", {"onset": 1})
    with pytest.raises(ValueError, match=r"subtract_dark lacks dark: .* axes \['energy'\]"):
        FrameFunction.named("subtract_dark")(FRAMES, (ENERGY,))


def test_what_gives_no_value_for_each_frame_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"wrong gave shape \(\) for 2 frames; .* \(2, ...\)"):
        FrameFunction.named(f"{written}:wrong")(FRAMES, (ENERGY,))
