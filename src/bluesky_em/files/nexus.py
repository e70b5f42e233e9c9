"""Parts of all our NeXus files: groups of a class, fields with units, a run's facts."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import h5py
import numpy as np

from bluesky_em.documents import Document

from .document_values import to_array


def new_group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    """Create a group of a NeXus class; its name is as close to `name` as NeXus allows."""
    group = parent.create_group(free_name(parent, name))
    group.attrs["NX_class"] = nx_class
    return group


def new_field(parent: h5py.Group, name: str, value: Any, units: str = "") -> str:
    """Write a number, a text or an array of these into a group; return its name there.

    Where NeXus does not allow `name`, the attribute `long_name` holds it.
    """
    found = free_name(parent, name)
    parent[found] = _fitting(value)
    if units:
        parent[found].attrs["units"] = units
    if found != name:
        parent[found].attrs["long_name"] = _without_nul(name)
    return found


def add_facts(entry: h5py.Group, start: Document) -> None:
    """Write a run's title, uid, time, sample and user from its start document into an NXentry."""
    title = start.get("title", start.get("plan_name", "run"))
    new_field(entry, "title", to_array([title])[0])
    new_field(entry, "entry_identifier_uuid", start["uid"])
    new_field(entry, "start_time", iso(start["time"]))
    entry[new_field(entry, "program_name", "bluesky-em")].attrs["version"] = version("bluesky-em")
    for key, nx_class in (("sample", "NXsample"), ("user", "NXuser")):
        if key in start:
            value: Any = start[key]
            name = value.get("name", value) if isinstance(value, Mapping) else value
            new_field(new_group(entry, key, nx_class), "name", to_array([name])[0])


def iso(moment: float) -> str:
    """Return a time (s since the epoch) in the format of NeXus: ISO 8601, UTC."""
    return datetime.fromtimestamp(moment, tz=UTC).isoformat()


def free_name(parent: h5py.Group, name: str) -> str:
    """Return an unused name for `name` in a group.

    Characters that NeXus does not allow become `_`: `microscope-beam_x` is `microscope_beam_x`.
    """
    clean = re.sub(r"[^A-Za-z0-9_.]", "_", name).strip(".") or "_"
    if clean not in parent:
        return clean
    return f"{clean}_{zlib.crc32(name.encode(errors='surrogatepass')):08x}"


def _fitting(value: Any) -> Any:
    """Return a value that HDF5 accepts: no text contains a NUL."""
    if isinstance(value, str):
        return _without_nul(value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return np.asarray([_without_nul(text) for text in value], dtype=h5py.string_dtype())
    return value


def _without_nul(text: str) -> str:
    return text.encode(errors="replace").decode().replace("\0", "\\0")
