"""Maps: their points, the checks before they are taken, and the taking (Python 3.7 syntax)."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from ..calibration import is_possible
from ..exposure import Exposure, Rows
from ..limits import in_limits, region_in_scan

MAP_LIMITS = (1, 4096)  # lines, and points of a line
LINE_TIME_LIMIT = 30.0  # s; a line taken by hardware cannot be ended early, and the beam is on
ADF_DTYPE = "<f4"


def check_scan(scan: Mapping[str, Any], options: Mapping[str, Any], can: Sequence[str]) -> None:
    """Check that a map can be taken.

    Args:
        scan: `shape` (lines, points), `region` (left, top, width, height in fractions of the
            whole scan) and `sync`, one of `can`.
        options: of the exposure at each point.
        can: how scan and camera can be synchronised here.

    Raises:
        ValueError: it cannot; the message says what is possible.
    """
    if scan["sync"] not in can:
        raise ValueError(
            "A map synchronised by {} cannot be taken by this acquisition server, which can: "
            "{}.".format(scan["sync"], ", ".join(can) or "none")
        )
    lines, points = scan["shape"]
    in_limits("lines", lines, MAP_LIMITS)
    in_limits("points", points, MAP_LIMITS)
    region_in_scan(scan["region"])
    if scan["sync"] != "hardware":
        return
    if options.get("frames", 1) != 1:
        raise ValueError(
            "frames is {}; a map synchronised by hardware takes 1 at each point.".format(
                options["frames"]
            )
        )
    seconds = points * options.get("exposure", 0.0)
    if seconds > LINE_TIME_LIMIT:
        raise ValueError(
            "A line of {} points at {:.6g} s takes {:.6g} s and cannot be ended early; {:.6g} s is "
            "the limit. Take fewer points or a shorter dwell, or synchronise by "
            "software.".format(points, options["exposure"], seconds, LINE_TIME_LIMIT)
        )


def map_axes(scan: Mapping[str, Any], whole: float, units: str) -> List[Dict[str, Any]]:
    """Return the y and x axes of a map, 0 in the middle of the whole scan, `whole` wide."""
    left, top, width, height = scan["region"]
    lines, points = (int(n) for n in scan["shape"])
    dy, dx = whole * height / lines, whole * width / points
    return [
        axis("y", units, whole * (top - 0.5) + dy / 2, dy, lines),
        axis("x", units, whole * (left - 0.5) + dx / 2, dx, points),
    ]


def _calibrated(
    scan: Mapping[str, Any], field_of_view: Any, facts: Dict[str, Any]
) -> List[Dict[str, Any]]:
    """Return a map's axes in m; in fractions of the scan where its width cannot be right."""
    if is_possible(0.0, field_of_view):
        return map_axes(scan, field_of_view, "m")
    facts["warning"] = (
        "The map is not calibrated: the width of its field of view is {} m, which cannot be "
        "right.".format(field_of_view)
    )
    return map_axes(scan, 1.0, "")


def axis(name: str, units: str, offset: float, scale: float, size: int) -> Dict[str, Any]:
    """Return an axis in the form that documents have."""
    return {"name": name, "units": units, "offset": offset, "scale": scale, "size": size}


def fly_lines(
    read_line: Any,
    lock: threading.RLock,
    expose_for_facts: Callable[[], Tuple[Dict[str, Any], Dict[str, Any]]],
    dwell: float,
    count: int,
    scan: Mapping[str, Any],
    adf: bool,
) -> Rows:
    """Take a map line by line, scan and camera synchronised by hardware.

    Args:
        read_line: takes one line; see `SpectrometerDriver`.
        lock: held while DigitalMicrograph is called.
        expose_for_facts: exposes once and returns what lines do not have: the energy axis, and
            the state of the microscope.
        dwell: s at each point.
        count: points to take.
        scan: as for `check_scan`.
        adf: record dark-field counts, too.
    """
    points = scan["shape"][1]
    left, top, width, height = scan["region"]
    with lock:
        energy, facts = expose_for_facts()
        axes = _calibrated(scan, read_line.field_of_view, facts)
        facts.update(scan=axes, dwell_time=dwell)
    first = 0
    while first < count:
        y = top + height * (first // points + 0.5) / scan["shape"][0]
        taken = min(points, count - first)
        ends = left + width * 0.5 / points, left + width * (taken - 0.5) / points
        started = time.time()
        with lock:
            spectra, signal = read_line(y, ends, taken, dwell)
        ended = time.time()
        spectra = np.ascontiguousarray(spectra, dtype=np.dtype(spectra.dtype).newbyteorder("<"))
        line = first // points
        eels_facts = dict(facts, index=[line, 0, 0])
        row = {"eels": Exposure(spectra, [energy], eels_facts, started, ended)}
        if adf:
            signal = np.ascontiguousarray(signal, dtype=ADF_DTYPE)
            adf_facts = {"signal_type": "", "dwell_time": dwell, "scan": axes, "index": [line, 0]}
            row["adf"] = Exposure(signal, [], adf_facts, started, ended)
        again = yield row
        first += 0 if again else points


def fly_points(
    probe: Probe, expose: Callable[[], Exposure], count: int, scan: Mapping[str, Any]
) -> Rows:
    """Take a map point by point: move the probe, then expose.

    The probe is sent to its safe position at the end, also if the map is ended early.
    """
    lines, points = scan["shape"]
    left, top, width, height = scan["region"]
    axes = map_axes(scan, 1.0, "")  # the size of the field of view is not known on this PC
    try:
        number = 0
        while number < count:
            line, point = divmod(number, points)
            probe.move_to(
                left + width * (point + 0.5) / points, top + height * (line + 0.5) / lines
            )
            exposure = expose()
            exposure.metadata["scan"] = axes
            again = yield {"eels": exposure._replace(array=exposure.array[np.newaxis])}
            number += not again
    finally:
        probe.move_to_safe_position()


class Probe:
    """The electron probe, moved by DigiScan.

    Args:
        digital_micrograph: the vendor's module, or its look-alike.
        scan_range: DigiScan's units at the left, top, right and bottom of the whole scan.
        lock: held while DigitalMicrograph is called.
    """

    def __init__(
        self,
        digital_micrograph: Any,
        scan_range: Tuple[float, float, float, float],
        lock: threading.RLock,
    ) -> None:
        self._dm = digital_micrograph
        self._scan_range = scan_range
        self._lock = lock

    def move_to(self, x: float, y: float) -> None:
        """Move the probe; x and y are fractions of the whole scan."""
        left, top, right, bottom = self._scan_range
        with self._lock:
            self._dm.DS_MoveBeamTo(left + x * (right - left), top + y * (bottom - top))

    def move_to_safe_position(self) -> None:
        """Move the probe to where DigiScan keeps it between scans."""
        with self._lock:
            self._dm.ExecuteScriptString("DSSetBeamToSafePosition()")
