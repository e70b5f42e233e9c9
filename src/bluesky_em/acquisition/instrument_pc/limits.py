"""What an instrument allows: values in limits or among choices, refused with both named.

Python 3.7 syntax: this runs inside the vendors' interpreters.
"""

from __future__ import annotations

from typing import Any, Iterable, Tuple


def in_limits(name: str, value: Any, limits: Tuple[float, float], units: str = "") -> float:
    """Return the value as a number that lies in its limits, both included.

    Raises:
        ValueError: it is no number, or outside; the message tells the limits.
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
        ValueError: none does; the message tells the choices.
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
