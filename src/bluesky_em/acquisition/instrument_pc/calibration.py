"""Numbers that instruments give about their axes, checked before use (Python 3.7 syntax).

A calibration is never invented, and no exposure is lost because of one that cannot be right.
"""

from __future__ import annotations

import functools
import logging
import math
from typing import Any, Dict, List, Mapping, Tuple

from .exposure import Exposure

_log = logging.getLogger(__name__)


def is_possible(offset: Any, scale: Any) -> bool:
    """Return whether an axis can have this first value, and this step: above 0, both finite."""
    try:
        return math.isfinite(offset) and math.isfinite(scale) and scale > 0
    except (TypeError, OverflowError):
        return False


def number(value: Any) -> float:
    """Return a vendor's number; NaN if it is none, or infinite."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def checked(exposure: Exposure) -> Exposure:
    """Return an exposure whose axes can be right; the others count channels or pixels.

    Such an axis has the units `channel` (of a spectrum) or `px`, offset 0 and scale 1, and the
    metadata get a `warning`, which is also logged, once. Numbers in the metadata that are NaN or
    infinite are left out.
    """
    axes, warnings = _checked_axes(exposure.axes)
    metadata = {key: value for key, value in exposure.metadata.items() if not _is_no_number(value)}
    if warnings:
        said = [metadata["warning"]] if metadata.get("warning") else []
        metadata["warning"] = " ".join(said + [words for words in warnings if words not in said])
    return exposure._replace(axes=axes, metadata=metadata)


def _checked_axes(axes: List[Dict[str, Any]]) -> Tuple[List[Dict[str, Any]], List[str]]:
    units = "channel" if len(axes) == 1 else "px"
    warnings = [_warning(axis, units) for axis in axes if not _is_right(axis)]
    for words in warnings:
        _warn_once(words)
    uncalibrated = {"units": units, "offset": 0.0, "scale": 1.0}
    return [axis if _is_right(axis) else dict(axis, **uncalibrated) for axis in axes], warnings


def _is_right(axis: Mapping[str, Any]) -> bool:
    return is_possible(axis["offset"], axis["scale"])


def _warning(axis: Mapping[str, Any], units: str) -> str:
    return (
        "The {} axis is not calibrated ({}): its calibration, {} {} a step beginning at {}, cannot "
        "be right. Calibrate it in the vendor's software.".format(
            axis["name"], units, axis["scale"], axis["units"], axis["offset"]
        )
    )


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


@functools.lru_cache(maxsize=100)
def _warn_once(words: str) -> None:
    _log.warning(words)
