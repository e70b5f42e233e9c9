"""The metadata of a frame: facts of its exposure, and the configuration that was valid for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bluesky_em.files.tiled.row_map import descriptor_at, facts_at
from bluesky_em.files.tiled.storable import DEFAULT_DTYPES

Configuration = Mapping[str, Mapping[str, Any]]
"""by device: `data`, `timestamps` and `data_keys`"""


def valid_for(
    detector: str, facts: Mapping[str, Any] | None, configurations: Sequence[Configuration]
) -> dict[str, Any]:
    """Return the configuration that was valid for a frame.

    A descriptor holds the settings at its first event; a plan may change them afterwards, and a fly
    scan has its own. So the facts of the exposure win over the detector's settings of those names.

    Args:
        detector: which took the frame.
        facts: of the exposure; None: not known.
        configurations: of the stream's descriptors up to the one that was valid, in order.
    """
    valid = {device: about for each in configurations for device, about in each.items()}
    own = valid.get(detector)
    if not facts or own is None:
        return valid
    data = {
        key: facts.get(key.removeprefix(f"{detector}-"), value)
        for key, value in own.get("data", {}).items()
    }
    return {**valid, detector: {**own, "data": data}}


def completed(configuration: Configuration) -> dict[str, Any]:
    """Return a descriptor's configuration with the data keys that it has in Tiled."""
    return {
        device: {**about, "data_keys": _completed(about.get("data_keys", {}))}
        for device, about in configuration.items()
    }


def _completed(data_keys: Mapping[str, Any]) -> dict[str, Any]:
    completed_keys: dict[str, Any] = {}
    for key, about in data_keys.items():
        default = DEFAULT_DTYPES.get(str(about.get("dtype")))
        completed_keys[key] = {**about, "dtype_numpy": about.get("dtype_numpy") or default}
    return completed_keys


def metadata_in_tiled(
    detector: str, row: int, about: Mapping[str, Any], start: Any, stream: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a frame's metadata, from those of its nodes.

    Args:
        detector: which took the frame.
        row: of the frame in the detector's array.
        about: the array's row map; without facts in an older catalog.
        start: the run's start document.
        stream: metadata of the stream's node.
    """
    facts, number = facts_at(about, row), descriptor_at(about["segments"], row)
    descriptors = [stream, *stream.get("_config_updates", [])[:number]]
    configurations = [descriptor.get("configuration", {}) for descriptor in descriptors]
    return {
        "start": start,
        "configuration": valid_for(detector, facts, configurations),
        **({} if facts is None else {"frame": facts}),
    }
