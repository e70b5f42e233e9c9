"""The microscope's settings: how each is described, read and written (Python 3.7 syntax)."""

from __future__ import annotations

import contextlib
import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np

from ..limits import in_limits
from .beam import Beam

FIELD_OF_VIEW_LIMITS = (1e-9, 1e-3)  # m
DEFOCUS_LIMITS = (-1e-4, 1e-4)  # m
TILT_LIMITS = {"a": math.radians(35.0), "b": math.radians(20.0)}  # rad, even if the stage has more
STAGE_AXES = {
    "stage_x": "x",
    "stage_y": "y",
    "stage_z": "z",
    "stage_alpha": "a",
    "stage_beta": "b",
}
"""The vendor's name of each axis."""


class _Setting(NamedTuple):
    units: str
    dtype: str
    read: Callable[[], Any]
    write: Optional[Callable[[Any], None]] = None
    limits: Optional[Callable[[], List[float]]] = None
    choices: Optional[Callable[[], List[Any]]] = None


class Settings:
    """The settings of one connected microscope; one thread at a time may use them.

    Args:
        client: the vendor's client.
        structures: the vendor's module of that name.
        beam: of the same microscope.
    """

    def __init__(self, client: Any, structures: Any, beam: Beam) -> None:
        self._client = client
        self._structures = structures
        self._beam = beam
        self._table = dict(self._optics(), **self._facts())
        for name, axis in STAGE_AXES.items():
            self._table[name] = self._stage_axis(name, axis)

    def describe(self) -> Dict[str, Dict[str, Any]]:
        """Describe every setting; limits and choices are the microscope's own where it has any."""
        return {
            name: {
                "units": s.units,
                "dtype": s.dtype,
                "writable": s.write is not None,
                "limits": s.limits() if s.limits is not None else None,
                "choices": s.choices() if s.choices is not None else None,
            }
            for name, s in self._table.items()
        }

    def check_known(self, name: str) -> None:
        """Check that there is such a setting (ValueError)."""
        if name not in self._table:
            raise ValueError(
                "There is no setting '{}'. This microscope has: {}.".format(
                    name, ", ".join(self._table)
                )
            )

    def check_writable(self, name: str) -> None:
        """Check that there is such a setting, and that it can be set (ValueError)."""
        self.check_known(name)
        if self._table[name].write is None:
            raise ValueError("{} can be read but not set.".format(name))

    def get(self, name: str) -> Any:
        """Read a setting that is known."""
        return self._table[name].read()

    def set(self, name: str, value: Any) -> Any:
        """Change a setting that is writable, and return what the microscope reads back.

        Raises:
            ValueError: the value is not allowed; the message says what is.
            RuntimeError: the stage is moving.
        """
        setting = self._table[name]
        assert setting.write is not None, "check_writable has refused"
        if setting.limits is not None:
            low, high = setting.limits()
            value = in_limits(name, value, (low, high), setting.units)
        setting.write(value)
        return setting.read()

    def _optics(self) -> Dict[str, _Setting]:
        """Return the settings of beam and lenses that can be changed."""
        beam, optics = self._beam, self._client.optics
        return {
            "beam_x": _Setting(
                "", "float", lambda: beam.position().x, lambda v: beam.move(x=v), _unit_range
            ),
            "beam_y": _Setting(
                "", "float", lambda: beam.position().y, lambda v: beam.move(y=v), _unit_range
            ),
            "beam_blanked": _Setting("", "bool", beam.is_blanked, self._set_blanked),
            "field_of_view": _Setting(
                "m",
                "float",
                lambda: float(optics.scan_field_of_view),
                lambda v: setattr(optics, "scan_field_of_view", v),
                lambda: list(FIELD_OF_VIEW_LIMITS),
            ),
            "defocus": _Setting(
                "m",
                "float",
                lambda: float(self._focus().defocus),
                lambda v: setattr(self._focus(), "defocus", v),
                lambda: list(DEFOCUS_LIMITS),
            ),
            "camera_length": _Setting(
                "m",
                "float",
                lambda: _nominal(optics.camera_length.value),
                self._set_camera_length,
                choices=lambda: [_nominal(v) for v in optics.camera_length.available_values],
            ),
            "scan_rotation": _Setting(
                "rad",
                "float",
                lambda: float(optics.scan_rotation),
                lambda v: setattr(optics, "scan_rotation", v),
                lambda: [-2 * math.pi, 2 * math.pi],
            ),
        }

    def _facts(self) -> Dict[str, _Setting]:
        """Return the settings that can only be read."""
        c, optics = self._client, self._client.optics
        return {
            "high_tension": _Setting("V", "float", self._high_tension),
            "convergence_angle": _Setting("rad", "float", lambda: float(optics.convergence_angle)),
            "optical_mode": _Setting("", "str", lambda: str(optics.optical_mode)),
            "vacuum_state": _Setting("", "str", lambda: str(c.vacuum.state)),
            "column_valves": _Setting("", "str", lambda: str(c.vacuum.column_valves.state)),
            "holder": _Setting("", "str", lambda: str(c.specimen.stage.get_holder_type())),
        }

    def _stage_axis(self, name: str, axis: str) -> _Setting:
        return _Setting(
            "rad" if axis in TILT_LIMITS else "m",
            "float",
            lambda: _or_nan(getattr(self._client.specimen.stage.position, axis)),
            lambda value: self._move_stage(name, axis, value),
            lambda: self._stage_limits(axis),
        )

    def _set_blanked(self, value: Any) -> None:
        if not isinstance(value, (bool, np.bool_)):
            raise ValueError("beam_blanked is {!r}; give True or False.".format(value))
        self._beam.blank(bool(value))

    def _focus(self) -> Any:
        """Return the object with a defocus: objective lens, or the optics of older servers."""
        focusing = getattr(self._client.optics, "focusing", None)
        return self._client.optics if focusing is None else focusing.stem.objective

    def _high_tension(self) -> float:
        source = getattr(self._client, "source", None)
        voltage = getattr(source, "acceleration_voltage", None)
        if voltage is None:
            voltage = self._client.optics.acceleration_voltage
        return float(getattr(voltage, "value", voltage))

    def _set_camera_length(self, value: Any) -> None:
        camera_length = self._client.optics.camera_length
        available = list(camera_length.available_values)
        for choice in available:
            with contextlib.suppress(TypeError, ValueError, OverflowError):  # not a number
                if math.isclose(_nominal(choice), float(value), rel_tol=1e-6):
                    camera_length.value = choice
                    return
        raise ValueError(
            "camera_length is {!r} m; it must be one of {} m.".format(
                value, ", ".join("{:.6g}".format(_nominal(v)) for v in available)
            )
        )

    def _stage_limits(self, axis: str) -> List[float]:
        limits = self._client.specimen.stage.get_axis_limits(axis)
        tilt = TILT_LIMITS.get(axis, math.inf)
        return [max(float(limits.min), -tilt), min(float(limits.max), tilt)]

    def _move_stage(self, name: str, axis: str, value: float) -> None:
        stage = self._client.specimen.stage
        if axis == "b" and str(stage.get_holder_type()) == "SingleTilt":
            raise ValueError(
                "stage_beta cannot be set: the holder is SingleTilt. Tilt with stage_alpha, or "
                "insert a double-tilt holder."
            )
        if stage.is_moving:
            raise RuntimeError(
                "The stage is moving already, so {} was not set. Wait until it has stopped.".format(
                    name
                )
            )
        goal: Dict[str, Optional[float]] = dict.fromkeys(STAGE_AXES.values())
        goal[axis] = value
        stage.absolute_move_safe(self._structures.StagePosition(**goal))


def _unit_range() -> List[float]:
    return [0.0, 1.0]


def _nominal(camera_length: Any) -> float:
    return float(getattr(camera_length, "nominal", camera_length))


def _or_nan(value: Optional[float]) -> float:
    return math.nan if value is None else float(value)
