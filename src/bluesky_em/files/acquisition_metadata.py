"""The facts of exposures in the metadata tree of HyperSpy and exspy, which quantify from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

KEY = "Acquisition_instrument"
"""key of the tree in HyperSpy's metadata, and in those of an array in Tiled"""
_TEM = ("beam_energy", "beam_current", "camera_length", "convergence_angle")
"""in keV, nA, mm and mrad, the units of our drivers and of HyperSpy"""


def compose(facts: Mapping[str, Any], *, is_spectrum: bool, is_map: bool) -> dict[str, Any]:
    """Return HyperSpy's tree `Acquisition_instrument` for frames with these facts.

    The names and units are those of exspy's user guide: `beam_energy` in keV, `beam_current` in nA,
    `convergence_angle` and `Detector.EELS.collection_angle` in mrad, times in s. The total time of
    a frame is `dwell_time` in maps, else `exposure`. What is not known is absent.

    >>> facts = {"beam_energy": 200, "collection_angle": 30.0, "exposure": 0.1, "frames": 3}
    >>> compose(facts, is_spectrum=True, is_map=False)["TEM"]["beam_energy"]
    200.0
    """
    tem: dict[str, Any] = {key: value for key in _TEM if (value := _number(facts, key)) is not None}
    if is_spectrum:
        tem["Detector"] = {"EELS": _eels(facts, is_map)}
    return {"TEM": tem}


def _eels(facts: Mapping[str, Any], is_map: bool) -> dict[str, Any]:
    frames, exposure = _number(facts, "frames") or 1.0, _number(facts, "exposure")
    aperture = re.fullmatch(r"([0-9.]+) *mm", str(facts.get("aperture", "")))
    eels = {
        "collection_angle": _number(facts, "collection_angle"),
        "spectrometer": facts.get("spectrometer"),
        "dwell_time" if is_map else "exposure": None if exposure is None else exposure * frames,
        "frame_number": int(frames),
        "aperture_size": float(aperture[1]) if aperture else None,
    }
    return {key: value for key, value in eels.items() if value is not None}


def _number(facts: Mapping[str, Any], key: str) -> float | None:
    """Return a fact if it is a number: another system's driver may write anything."""
    value = facts.get(key)
    return float(value) if isinstance(value, (int, float)) else None
