"""NeXus files that hold the pixels; a master file only links to them."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import h5py

from bluesky_em.files.document_values import to_array, to_json
from bluesky_em.files.nexus import add_facts, new_field, new_group

from ._selection import Selection


def write_nxs(selection: Selection, path: Path) -> None:
    """Write an NXentry with one NXdata, named after the detector."""
    array = selection.array
    with h5py.File(path, "w") as file:
        file.attrs.update(NX_class="NXroot", default="entry")
        entry = new_group(file, "entry", "NXentry")
        add_facts(entry, selection.start)
        exposure = new_group(entry, "exposure", "NXcollection")
        for key, value in selection.facts.items():
            new_field(exposure, key, to_array([value])[0])
        new_field(new_group(entry, "bluesky", "NXcollection"), "start", to_json(selection.start))
        data = new_group(entry, selection.detector, "NXdata")
        entry.attrs["default"] = str(data.name).rpartition("/")[2]
        data.attrs["signal"] = "data"
        data.attrs["interpretation"] = "spectrum" if selection.is_spectrum else "image"
        pixels = data.create_dataset("data", array.shape, array.dtype)
        if selection.units:
            pixels.attrs["units"] = selection.units
        da.store(da.asarray(array.data), pixels)
        _add_axes(data, selection)


def _add_axes(data: h5py.Group, selection: Selection) -> None:
    names = []
    for index, dim in enumerate(map(str, selection.array.dims)):
        if dim not in selection.array.coords:
            names.append(".")
            continue
        axis = selection.array[dim]
        names.append(new_field(data, dim, axis.values, axis.attrs["units"]))
        data.attrs[f"{names[-1]}_indices"] = index
    data.attrs["axes"] = names
