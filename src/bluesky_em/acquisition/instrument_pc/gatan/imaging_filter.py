"""The imaging filter: its state and settings, through DM-Script (Python 3.7 syntax).

The filter has no Python functions: it is driven by DM-Script, whose results come back through the
persistent tags.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..calibration import is_possible
from ..limits import in_limits, one_of
from .scan import axis

ENERGY_TOLERANCE = 0.1  # eV; smaller changes are not worth a settling time
SPECTROSCOPY = 0  # filter mode
DISPERSIONS = {1: 1.0, 2: 0.5, 3: 0.25, 4: 0.1, 5: 0.05, 6: 0.025, 7: 0.01}  # eV/channel
APERTURES = {0: "2.5 mm", 1: "5 mm"}
ZERO_LOSS_CHANNEL = 200  # GMS puts energy loss 0 this many channels into the spectrum

_TAGS = "bluesky-em"  # our own branch of the persistent tags
_FUNCTIONS = (
    "IFCGetFilterMode",
    "IFIsInEELSMode",
    "IFGetEnergyLoss",
    "IFSetEnergyLoss",
    "IFWaitForFilter",
    "IFCGetActiveDispersion",
    # Not in public code that ran on hardware; used only where the spectrometer has one, and
    # believed only after reading back.
    "IFCSetActiveDispersion",
    "IFCSetActiveDispersions",
    "IFCGetAperture",
    "IFCSetAperture",
)
_READABLE = {
    "energy_offset": ("IFGetEnergyLoss",),
    "dispersion": ("IFCGetActiveDispersion",),
    "aperture": ("IFCGetAperture",),
    "mode": ("IFCGetFilterMode", "IFIsInEELSMode"),
}
_DISPERSION_SETTERS = ("IFCSetActiveDispersion", "IFCSetActiveDispersions")


class ImagingFilter:
    """The imaging filter of one DigitalMicrograph; one thread at a time may use it.

    Args:
        digital_micrograph: the vendor's module, or its look-alike.
        dispersions: eV per channel of each dispersion index.
        apertures: label of each aperture index.
        energy_limits: lowest and highest energy offset that may be set, in eV.
    """

    def __init__(
        self,
        digital_micrograph: Any,
        dispersions: Mapping[int, float],
        apertures: Mapping[int, str],
        energy_limits: Tuple[float, float],
    ) -> None:
        _check_map(dispersions, energy_limits)
        self._dm = digital_micrograph
        self._dispersions = dict(dispersions)
        self._apertures = dict(apertures)
        self._energy_limits = energy_limits
        self._has = self._find_functions()
        self.warning = ""
        """Says that the dispersion map contradicts the last image; empty otherwise."""

    @property
    def functions(self) -> List[str]:
        """The script functions that this spectrometer has, of those used here."""
        return [name for name in _FUNCTIONS if self._has[name]]

    def settings(self) -> Dict[str, Dict[str, Any]]:
        """Describe the settings; what is writable depends on the spectrometer's functions."""
        has = self._has
        return {
            "energy_offset": _setting(
                "eV",
                "float",
                writable=has["IFSetEnergyLoss"] and has["IFGetEnergyLoss"],
                limits=list(self._energy_limits),
            ),
            "dispersion": _setting(
                "eV/channel",
                "float",
                writable=self._dispersion_setter() is not None and has["IFCGetActiveDispersion"],
                choices=sorted(self._dispersions.values(), reverse=True),
            ),
            "aperture": _setting(
                "",
                "str",
                writable=has["IFCSetAperture"] and has["IFCGetAperture"],
                choices=list(self._apertures.values()),
            ),
            "spectroscopy_mode": _setting("", "bool"),
        }

    def state(self) -> Dict[str, Any]:
        """Read all settings at once, since each round trip costs; NaN where one is unknown.

        Raises:
            RuntimeError: there is no imaging filter.
        """
        questions = {}
        for key, functions in _READABLE.items():
            function = next((f for f in functions if self._has[f]), None)
            if function is not None:
                questions[key] = function + "()"
        if "mode" not in questions:
            raise RuntimeError(
                "This DigitalMicrograph has no imaging filter: none of {} exists. Is the "
                "spectrometer's plug-in installed?".format(" or ".join(_READABLE["mode"]))
            )
        answers = self._ask(questions)
        if self._has["IFCGetFilterMode"]:
            in_spectroscopy = _whole(answers["mode"]) == SPECTROSCOPY
        else:
            in_spectroscopy = _whole(answers["mode"]) not in (-1, 0)
        index = _whole(answers.get("dispersion", -1))
        aperture = _whole(answers.get("aperture", -1))
        return {
            "energy_offset": answers.get("energy_offset", math.nan),
            "dispersion": self._dispersions.get(index, math.nan),
            "aperture": self._apertures.get(aperture, str(aperture)),
            "spectroscopy_mode": in_spectroscopy,
        }

    def set(self, name: str, value: Any) -> Any:
        """Change a writable setting and return what the filter reads back.

        Raises:
            ValueError: the value is not allowed; the message names what is.
            RuntimeError: the filter reads back another value.
        """
        if name == "energy_offset":
            return self._set_energy_offset(value)
        if name == "dispersion":
            return self._set_dispersion(value)
        return self._set_aperture(value)

    def energy_axis(self, state: Mapping[str, Any], channels: int) -> Dict[str, Any]:
        """Return the energy axis (eV) that follows from the filter's state.

        Its numbers are NaN where offset or dispersion is unknown.
        """
        scale = state["dispersion"]
        origin = state["energy_offset"] - ZERO_LOSS_CHANNEL * scale
        return axis("energy", "eV", origin, scale, channels)

    def compare_dispersion(self, measured: float, mapped: float) -> None:
        """Compare an image's calibration (eV/channel) with the map of indices, which may be wrong.

        A contradiction is kept as `warning`; until it is gone, the dispersion cannot be set.
        """
        if not is_possible(0.0, measured):
            return  # says nothing about the map
        nearest = min(self._dispersions.values(), key=lambda d: abs(math.log(d / measured)))
        self.warning = (
            ""
            if nearest == mapped
            else "The image is calibrated to {:.6g} eV/channel, the dispersion map says {} for the "
            "filter's index. Correct the map of dispersions for this instrument.".format(
                measured, mapped
            )
        )

    def _set_energy_offset(self, value: Any) -> float:
        target = in_limits("energy_offset", value, self._energy_limits, "eV")
        now = self.state()["energy_offset"]
        if abs(target - now) <= ENERGY_TOLERANCE:
            return now
        self._run("IFSetEnergyLoss({:.7g})".format(target))
        self._wait_until_settled(target - now)
        reached = self.state()["energy_offset"]
        if abs(reached - target) > ENERGY_TOLERANCE:
            raise RuntimeError(
                "The energy offset was set to {} eV but reads back {} eV. Check the filter's drift "
                "tube in DigitalMicrograph.".format(target, reached)
            )
        return reached

    def _set_dispersion(self, value: Any) -> float:
        if self.warning:
            raise RuntimeError(self.warning)
        dispersion = one_of("dispersion", value, self._dispersions.values(), "eV/channel")
        index = _index_of(dispersion, self._dispersions)
        self._run("{}({})".format(self._dispersion_setter(), index))
        self._wait_until_settled(0.0)
        return self._read_back("dispersion", dispersion)

    def _dispersion_setter(self) -> Optional[str]:
        return next((name for name in _DISPERSION_SETTERS if self._has[name]), None)

    def _set_aperture(self, value: Any) -> str:
        if isinstance(value, int) and value in self._apertures:
            value = self._apertures[value]
        aperture = one_of("aperture", value, self._apertures.values())
        self._run("IFCSetAperture({})".format(_index_of(aperture, self._apertures)))
        self._wait_until_settled(0.0)
        return self._read_back("aperture", aperture)

    def _read_back(self, name: str, wanted: Any) -> Any:
        reached = self.state()[name]
        if reached != wanted:
            raise RuntimeError(
                "{} was set to {} but reads back {}. Set it in DigitalMicrograph.".format(
                    name, wanted, reached
                )
            )
        return reached

    def _wait_until_settled(self, change: float) -> None:
        if self._has["IFWaitForFilter"]:
            self._run("IFWaitForFilter()")
        else:
            self._dm.Sleep(_settling_time(change))

    def _find_functions(self) -> Dict[str, bool]:
        """Ask which script functions this spectrometer has; a script with a missing one fails."""
        answers = self._ask({n: 'DoesFunctionExist("{}")'.format(n) for n in _FUNCTIONS})
        return {name: bool(answers[name]) for name in _FUNCTIONS}

    def _ask(self, questions: Mapping[str, str]) -> Dict[str, float]:
        """Run several number-valued script expressions in one round trip."""
        tags = self._dm.GetPersistentTagGroup()
        tags.DeleteTagWithLabel(_TAGS)
        self._run(
            "\n".join(
                'GetPersistentTagGroup().TagGroupSetTagAsFloat("{}:{}", {})'.format(
                    _TAGS, key, call
                )
                for key, call in questions.items()
            )
        )
        answers = {}
        for key, call in questions.items():
            found, value = tags.GetTagAsFloat("{}:{}".format(_TAGS, key))
            if not found:
                raise RuntimeError("DigitalMicrograph gave no answer to {}.".format(call))
            answers[key] = float("{:.7g}".format(value))  # tags are single precision
        return answers

    def _run(self, script: str) -> None:
        self._dm.ExecuteScriptString(script)


def _setting(
    units: str,
    dtype: str,
    writable: bool = False,
    limits: Optional[List[float]] = None,
    choices: Optional[List[Any]] = None,
) -> Dict[str, Any]:
    return {
        "units": units,
        "dtype": dtype,
        "writable": bool(writable),
        "limits": limits,
        "choices": choices,
    }


def _whole(answer: float) -> int:
    """Return an index that DigitalMicrograph gave; -1, which is none, for NaN and infinity."""
    return int(answer) if math.isfinite(answer) else -1


def _check_map(dispersions: Mapping[int, float], limits: Tuple[float, float]) -> None:
    """Check what the user gave.

    Raises:
        ValueError: a dispersion is not above 0, or the limits are not two numbers in order.
    """
    for index, dispersion in dispersions.items():
        if not is_possible(0.0, dispersion):
            raise ValueError(
                "dispersions[{}] is {}; give eV per channel, a number above 0, e.g. 0.3.".format(
                    index, dispersion
                )
            )
    if not (all(map(math.isfinite, limits)) and limits[0] < limits[1]):
        raise ValueError(
            "energy_limits is {}; give the lowest and the highest energy offset in eV, e.g. "
            "(-200.0, 3000.0).".format(tuple(limits))
        )


def _index_of(choice: Any, choices: Mapping[int, Any]) -> int:
    return next(index for index, each in choices.items() if each == choice)


def _settling_time(change: float) -> float:
    """Return how long (s) the filter settles after a change of energy (eV), as SerialEM waits."""
    change = abs(change)
    return (10 + 0.5 * change if change < 40 else 30 + 0.25 * change) / 60
