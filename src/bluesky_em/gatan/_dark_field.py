"""The dark-field signal as an ophyd-async device that flies beside the spectrometer."""

from __future__ import annotations

from typing import Any

from ophyd_async.core import PathProvider

from ..detector import RefDetector


class DarkField(RefDetector):
    """What the annular dark-field detector counts at each point of a map, shape `()`, `<f4`.

    It cannot be triggered: prepare it with the same `MapInfo` as the spectrometer of its server
    (`plan_stubs.fly([eels, adf], ...)` does), whose pace it follows.

    Args:
        uri: the acquisition server on the Gatan PC, `PYRO:eels_server@gatan-pc:9091`.
        path_provider: a Storage's `path_provider`.
        name: e.g. `adf`; it is in every reference.
    """

    LIVETIME = "dwell"
    SUMMARY = {}

    def __init__(self, uri: str, *, path_provider: PathProvider, name: str = ""):
        super().__init__(uri, "adf", path_provider=path_provider, name=name)

    async def _options(self) -> dict[str, Any]:
        return {}

    def _duration(self, options: dict[str, Any]) -> float:
        return options.get("dwell", 0.0)
