"""Maps: where their points are, and what may be asked for (Python 3.7 syntax)."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

from ..limits import in_limits

MAP_LIMITS = (1, 4096)  # lines, and points of a line
LINE_TIME_MAX = 30.0  # s; nothing can end a line that hardware takes, and the beam is on


def check_scan(scan: Mapping[str, Any], options: Mapping[str, Any], can: Sequence[str]) -> None:
    """Refuse a scan that cannot be made.

    Args:
        scan: `shape` (lines, points), `region` (left, top, width, height in fractions of the
            whole scan) and `sync`, one of `can`.
        options: of the exposure at each point.
        can: how scan and camera can be synchronised here.

    Raises:
        ValueError: it tells what would be right.
    """
    if scan["sync"] not in can:
        raise ValueError(
            "A map synchronised by {} cannot be taken by this acquisition server, which can: "
            "{}.".format(scan["sync"], ", ".join(can) or "none")
        )
    lines, points = scan["shape"]
    in_limits("lines", lines, MAP_LIMITS)
    in_limits("points", points, MAP_LIMITS)
    left, top, width, height = scan["region"]
    inside = left >= 0 and top >= 0 and max(left + width, top + height) <= 1 + 1e-9
    if not (inside and width > 0 and height > 0):
        raise ValueError(
            "region is {!r}; left, top, width, height must stay inside the scan, which goes from "
            "0 to 1.".format(list(scan["region"]))
        )
    if scan["sync"] != "hardware":
        return
    if options.get("frames", 1) != 1:
        raise ValueError(
            "frames is {}; a map synchronised by hardware takes 1 at each point.".format(
                options["frames"]
            )
        )
    seconds = points * options.get("exposure", 0.0)
    if seconds > LINE_TIME_MAX:
        raise ValueError(
            "A line of {} points at {:.6g} s takes {:.6g} s, and nothing can end it before; {:.6g} "
            "s is the limit. Take fewer points or a shorter dwell, or synchronise by "
            "software.".format(points, options["exposure"], seconds, LINE_TIME_MAX)
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


def axis(name: str, units: str, offset: float, scale: float, size: int) -> Dict[str, Any]:
    """Return an axis as documents carry it."""
    return {"name": name, "units": units, "offset": offset, "scale": scale, "size": size}
