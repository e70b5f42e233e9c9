"""The result of one exposure of an instrument (Python 3.7 syntax)."""

from __future__ import annotations

from typing import Any, Dict, Generator, List, NamedTuple, Optional

import numpy as np


class Exposure(NamedTuple):
    """One frame with its axes, its metadata, and the times of its exposure."""

    array: np.ndarray
    """C-contiguous and little-endian; never a view of a vendor's buffer."""
    axes: List[Dict[str, Any]]
    """One for each dimension: name, units, offset, scale, size; value_i = offset + scale * i."""
    metadata: Dict[str, Any]
    """Facts, as plain scalars, strings, lists and dictionaries.

    Names and units: exposure, dwell_time (s); frames; beam_energy (keV); beam_current (nA);
    convergence_angle, collection_angle (mrad); camera_length (mm); energy_offset (eV); dispersion
    (eV/channel); saturation_fraction (0 to 1); defocus (m); scan_rotation (rad); stage (m, rad);
    signal_type ("EELS" or empty); warning (text). In fly scans: scan, index; see `Driver.fly`.
    """
    started: float
    """`time.time()` at the beginning of the exposure."""
    ended: float
    """`time.time()` when the vendor's acquire call returned."""


Rows = Generator[Dict[str, Exposure], Optional[bool], None]
"""Rows of frames by detector, arrays of shape (n, *frame), as `Driver.fly` yields them.

Sending True asks for the last row again.
"""
