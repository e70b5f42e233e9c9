"""Checks of values against limits or choices, with errors that name both (Python 3.7 syntax)."""

from __future__ import annotations

from typing import Any, Iterable, Tuple


def in_limits(name: str, value: Any, limits: Tuple[float, float], units: str = "") -> float:
    """Return the value as a number within its limits, both included.

    Raises:
        ValueError: it is not a number, or outside its limits; the message names them.
    """
    low, high = limits
    suffix = " " + units if units else ""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            "{} is {!r}; give a number from {:.6g} to {:.6g}{}.".format(
                name, value, low, high, suffix
            )
        ) from None
    if not low <= number <= high:
        raise ValueError(
            "{} is {:.6g}{}; it must lie between {:.6g} and {:.6g}{}.".format(
                name, number, suffix, low, high, suffix
            )
        )
    return number


def one_of(name: str, value: Any, choices: Iterable[Any], units: str = "") -> Any:
    """Return the choice that equals the value.

    Raises:
        ValueError: none does; the message names the choices.
    """
    choices = list(choices)
    for choice in choices:
        try:
            if bool(value == choice):
                return choice
        except ValueError:  # an array
            break
    raise ValueError(
        "{} is {!r}; it must be one of {}{}.".format(
            name, value, ", ".join(str(c) for c in choices), " " + units if units else ""
        )
    )


def region_in_scan(region: Any) -> Tuple[float, float, float, float]:
    """Return left, top, width and height of a region, in fractions of the whole scan.

    Raises:
        ValueError: it is not four numbers, is empty, or is not inside the scan.
    """
    try:
        left, top, width, height = (float(part) for part in region)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            "region is {!r}; give left, top, width, height in fractions of the scan.".format(region)
        ) from None
    inside = left >= 0 and top >= 0 and left + width <= 1 + 1e-9 and top + height <= 1 + 1e-9
    if not (inside and width > 0 and height > 0):
        raise ValueError(
            "region is {!r}; left, top, width, height must stay inside the scan, which goes from "
            "0 to 1.".format(region)
        )
    return left, top, width, height
