"""`MapInfo` and `UpdateInfo`: fly scans that ophyd-async's `TriggerInfo` cannot describe."""

from __future__ import annotations

from typing import Any, Literal

from ophyd_async.core import DetectorTrigger, TriggerInfo
from pydantic import Field, PositiveInt, model_validator

from bluesky_em.update_modes import UpdateDeclaration, UpdateMode


class MapInfo(TriggerInfo):
    """A map for `prepare`: lines of points, the probe moves from one to the next.

    `livetime` is the dwell time at each point, in s; 0 means what the detector is set to.
    """

    shape: tuple[PositiveInt, PositiveInt]
    """lines, and points of each line"""
    region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """left, top, width, height as fractions of the whole scan"""
    sync: Literal["hardware", "software"] = "hardware"
    """"hardware": scan and camera are wired together, a line at a time; "software": the
    acquisition server moves the probe and exposes, point by point."""
    mode: Literal["add", "add_slice"] = "add"
    """"add": each point has a reference; "add_slice": each line has one, with its place, in any
    order of lines. An event is a line in both, and the array has the shape
    `(lines, points, *frame)`."""
    number_of_events: int = Field(default=0, exclude=True)

    @model_validator(mode="after")
    def _count_events(self) -> MapInfo:
        if self.number_of_events not in (0, self.shape[0]):
            raise ValueError(
                f"a map of {self.shape} has {self.shape[0]} events, its lines: omit "
                "number_of_events"
            )
        self.number_of_events = self.shape[0]
        return self

    @property
    def points(self) -> int:
        """Number of points of the whole map."""
        return self.shape[0] * self.shape[1]

    def declare(self, shape: list[int], dtype: str) -> UpdateDeclaration | None:
        """Declare how the events of exposures with that shape and dtype become one array."""
        if self.mode == "add":
            return None
        return UpdateDeclaration(
            mode=UpdateMode.ADD_SLICE, shape=(*self.shape, *shape), dtype=dtype
        )

    @property
    def scan(self) -> dict[str, Any]:
        """The map as the acquisition server takes it."""
        return {"shape": [*self.shape], "region": [*self.region], "sync": self.sync}


class UpdateInfo(TriggerInfo):
    """A burst for `prepare` whose frames become one, shape `(*frame)`, not an array of frames.

    Usage:
        UpdateInfo(number_of_events=1000, mode="accumulate")   # one sum, each frame in it once
        UpdateInfo(number_of_events=1000, mode="replace")      # a live view: the newest frame
    """

    mode: Literal["accumulate", "replace"]
    """"accumulate": frames are summed, integers as `<i8`, floats as `<f8`; "replace": each frame
    replaces the one before."""
    keep_versions: PositiveInt | Literal["all"] = 1
    """Mode "replace" only: the number of newest frames that `data.open` can still open."""

    def declare(self, shape: list[int], dtype: str) -> UpdateDeclaration:
        """Declare how frames with that shape and dtype become one.

        Raises:
            ValueError: they cannot; the message names what could.
        """
        return UpdateDeclaration(
            mode=UpdateMode(self.mode),
            shape=tuple(shape) or (1,),
            dtype=dtype,
            keep_versions=self.keep_versions,
        )


def check(info: TriggerInfo, name: str) -> None:
    """Check that a fly scan is possible.

    Raises:
        ValueError: it is not; the message names what is.
    """
    if info.trigger is not DetectorTrigger.INTERNAL:
        raise ValueError(
            f"{name} cannot be triggered from outside ({info.trigger}); it flies with "
            "DetectorTrigger.INTERNAL"
        )
    if info.collections_per_event != 1 or info.exposures_per_collection != 1:
        raise ValueError(
            f"{name} gives one frame per event, not {info.number_of_exposures} in "
            f"{info.number_of_events} events: leave collections_per_event and "
            "exposures_per_collection at 1"
        )
    if info.number_of_events < 1:
        raise ValueError(f"{name} cannot fly without an end: give number_of_events")
    if info.deadtime:
        raise ValueError(f"{name} flies without pauses; leave deadtime at 0, not {info.deadtime}")
    if isinstance(info, MapInfo) and info.mode == "add_slice" and info.sync != "hardware":
        raise ValueError(
            f"{name} gives single points in a map with sync={info.sync!r}, but mode='add_slice' "
            "needs whole lines: use sync='hardware', or mode='add'"
        )


def is_fly_scan(info: TriggerInfo) -> bool:
    """Return whether this prepares a fly scan; a single plain event prepares a trigger."""
    return info.number_of_events != 1 or isinstance(info, (MapInfo, UpdateInfo))
