"""Slots: a new value is written to another slot while the previous value is still needed."""

from __future__ import annotations

import h5py
import numpy as np

from bluesky_em.update_modes import UpdateDeclaration

from ._growing import chunk_shape, grow, max_shape, put

SLOTS = "/entry/slots/values"
"""Path of the slots: shape `(slots, *value)`."""
HOLDERS = "/entry/slots/updates"
"""Path of the table rows of the updates in the slots of mode `replace`."""


def create_slots(
    file: h5py.File, declared: UpdateDeclaration, slots: int | None, dtype: np.dtype | str
) -> None:
    """Create `slots` slots for values as declared; None: their number grows from 0."""
    shape = [size or 0 for size in declared.shape]
    file.create_group("/entry/slots").attrs["NX_class"] = "NXcollection"
    file.create_dataset(
        SLOTS,
        shape=(slots or 0, *shape),
        maxshape=max_shape((slots, *declared.shape)),
        chunks=(1, *chunk_shape(declared)),
        dtype=dtype,
        fillvalue=declared.fill,
    )


def put_slot(slots: h5py.Dataset, slot: int, value: np.ndarray) -> None:
    """Write a value into its slot; its shape is at most that of a slot."""
    grow(slots, np.array([slot + 1, *value.shape]))
    put(slots, np.array([slot, *[0] * value.ndim]), value[np.newaxis])


def publish(array: h5py.Dataset, value: np.ndarray, fill: float) -> None:
    """Copy the value to the published array; elements outside the value become `fill`."""
    grow(array, np.array(value.shape))
    whole = np.full(array.shape, fill, array.dtype)
    whole[tuple(slice(size) for size in value.shape)] = value
    array[...] = whole


def create_published(
    file: h5py.File, name: str, declared: UpdateDeclaration, dtype: np.dtype | str
) -> None:
    """Create the published array: the newest value, for readers that do not know slots."""
    file.create_dataset(
        name,
        shape=[size or 0 for size in declared.shape],
        maxshape=max_shape(declared.shape),
        chunks=chunk_shape(declared),
        dtype=dtype,
        fillvalue=declared.fill,
    )
