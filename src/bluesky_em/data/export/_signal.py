"""A selection in HyperSpy's terms: axes, and metadata where exspy reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from bluesky_em.files import acquisition_metadata
from bluesky_em.files.document_values import to_json

from ._selection import Selection

TITLE_LIMIT = 60  # characters; a folder's name has 255 bytes at most


def signal(selection: Selection) -> dict[str, Any]:
    """Return the dictionary from which RosettaSciIO writes a signal for HyperSpy."""
    return {
        "data": selection.array.data,
        "axes": [_axis(selection, str(dim)) for dim in selection.array.dims],
        "metadata": _metadata(selection),
        "original_metadata": {
            "start": to_json(selection.start), "exposure": to_json(dict(selection.facts)),
        },
        "attributes": {"_lazy": False, "ragged": False},
        "learning_results": {},
        "models": {},
        "tmp_parameters": {},
        # the package that opens it: HyperSpy names it to users who have not installed it
        "package_info": {
            "package": "exspy" if selection.is_spectrum else "hyperspy", "package_version": "",
        },
    }  # fmt: skip


def _axis(selection: Selection, dim: str) -> dict[str, Any]:
    """Describe an axis; a series is counted, since its times are not evenly spaced."""
    array, in_frame = selection.array, dim in selection.frame_dims
    is_loss = dim == "energy"
    axis = {
        "name": "Energy loss" if is_loss else dim,
        "units": "",
        "size": array.sizes[dim],
        "navigate": not in_frame,
        "is_binned": is_loss,  # counts per channel
    }
    if dim not in array.coords or dim == "time":
        return axis | {"_type": "UniformDataAxis", "name": "frame", "offset": 0.0, "scale": 1.0}
    values = np.asarray(array[dim].values, dtype=float)
    axis["units"] = array[dim].attrs["units"]
    steps = np.diff(values)
    step = float((values[-1] - values[0]) / len(steps)) if len(steps) else 1.0
    if not np.allclose(steps, step, rtol=1e-6, atol=0.0):
        return axis | {"_type": "DataAxis", "axis": values}
    return axis | {"_type": "UniformDataAxis", "offset": float(values[0]), "scale": step}


def _metadata(selection: Selection) -> dict[str, Any]:
    start = selection.start
    moment = datetime.fromtimestamp(start["time"], tz=UTC)
    general = {
        "title": _title(selection),
        "date": moment.date().isoformat(),
        "time": moment.time().isoformat("seconds"),
        "time_zone": "UTC",
    }
    metadata: dict[str, Any] = {
        "General": general,
        "Signal": {"signal_type": "EELS" if selection.is_spectrum else ""},
        acquisition_metadata.KEY: acquisition_metadata.compose(
            selection.facts, is_spectrum=selection.is_spectrum, is_map=selection.array.ndim == 3
        ),
    }
    for key, place in (("sample", ("Sample", "description")), ("user", ("General", "authors"))):
        if key in start:
            metadata.setdefault(place[0], {})[place[1]] = _name(start[key])
    return metadata


def _title(selection: Selection) -> str:
    """Return a title that can be the name of a group in a file, and of a folder."""
    title = f"{selection.detector} {selection.start.get('plan_name', '')}"
    title = re.sub(r"[\x00-\x1f\x7f/\\:*?\"<>|]", "-", _storable(title))
    return title.strip()[:TITLE_LIMIT].rstrip(". ")


def _name(who: Any) -> str:
    return _storable(str(who.get("name", who) if isinstance(who, Mapping) else who))


def _storable(text: str) -> str:
    """Return a text that HDF5 can store: valid UTF-8, and without a NUL."""
    return text.encode(errors="replace").decode().replace("\0", "-")
