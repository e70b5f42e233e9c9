"""Facts of exposures in the metadata tree that exspy reads."""

from typing import Any

import pytest

from bluesky_em.files.acquisition_metadata import compose

FACTS: dict[str, Any] = {
    "beam_energy": 200, "convergence_angle": 21.0, "collection_angle": 62.0, "exposure": 0.1,
    "frames": 3, "aperture": "5 mm", "spectrometer": "a spectrometer", "temperature": -20.0,
}  # fmt: skip


def test_a_spectrum_has_what_exspy_quantifies_with():
    assert compose(FACTS, is_spectrum=True, is_map=False) == {
        "TEM": {
            "beam_energy": 200.0, "convergence_angle": 21.0,
            "Detector": {
                "EELS": {
                    "collection_angle": 62.0, "spectrometer": "a spectrometer",
                    "exposure": pytest.approx(0.3), "frame_number": 3, "aperture_size": 5.0,
                }
            },
        }
    }  # fmt: skip


def test_the_time_of_a_map_is_its_dwell():
    eels = compose(FACTS, is_spectrum=True, is_map=True)["TEM"]["Detector"]["EELS"]
    assert eels["dwell_time"] == pytest.approx(0.3) and "exposure" not in eels


def test_an_image_has_no_spectrometer():
    assert "Detector" not in compose(FACTS, is_spectrum=False, is_map=False)["TEM"]


@pytest.mark.parametrize("value", ["n/a", None, [1.0], {"value": 1.0}])
def test_what_is_not_a_number_is_left_out(value: Any):
    facts = dict.fromkeys(FACTS, value)
    tree = compose(facts, is_spectrum=True, is_map=False)["TEM"]
    assert tree["Detector"]["EELS"].keys() <= {"frame_number", "spectrometer"}
    assert tree.keys() == {"Detector"}
