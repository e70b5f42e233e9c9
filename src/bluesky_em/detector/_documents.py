"""Compose the documents of our detectors.

Our `resource` has spec `HDF5`, which every Bluesky consumer can open; `resource_kwargs` add where
the frame waits until it is in that file. Our `datum` carries the frame's checksum and axes, so that
the writer and any reader know what to expect without asking the instrument.
"""

from __future__ import annotations

import uuid
from typing import Any

from event_model import DataKey

from bluesky_em.acquisition.client import FrameHeader
from bluesky_em.acquisition.instrument_pc.protocol import THUMBNAIL
from bluesky_em.documents import DATASET, MIMETYPE, SPEC, Layout
from bluesky_em.errors import FrameMismatch
from bluesky_em.reference import Reference


def data_key(
    name: str, server: str, shape: list[int], dtype: str, dims: list[str], *, flown: bool = False
) -> DataKey:
    """Describe the frames behind a detector's references.

    Args:
        name: the detector's.
        server: address of its acquisition server.
        shape: of one frame, e.g. `[2048]`.
        dtype: numpy string, e.g. `<f4`.
        dims: one name per dimension, e.g. `["energy"]`.
        flown: the frames come with stream datums, not with references inside events.
    """
    return DataKey(
        source=f"{server}#{name}",
        dtype="array" if shape else "number",
        dtype_numpy=dtype,
        shape=list(shape),
        dims=list(dims),
        external="STREAM:" if flown else "FILESTORE:",
    )


def number_key(name: str, server: str, part: str, units: str, precision: int) -> DataKey:
    """Describe one number of the frames' summaries.

    Args:
        name: the detector's.
        server: address of its acquisition server.
        part: e.g. `total`.
        units: empty for a fraction.
        precision: decimal places to show.
    """
    return DataKey(
        source=f"{server}#{name}-{part}", dtype="number", dtype_numpy="<f8", shape=[],
        units=units, precision=precision,
    )  # fmt: skip


def thumbnail_key(name: str, server: str) -> DataKey:
    """Describe the thumbnails in the frames' summaries."""
    return DataKey(
        source=f"{server}#{name}-thumbnail", dtype="array", dtype_numpy="<f8",
        shape=[THUMBNAIL], units="counts",
    )  # fmt: skip


def resource(
    uid: str, root: str, path: str, server: str, detector: str, header: FrameHeader
) -> dict[str, Any]:
    """Compose a fresh `resource` for one detector's frames in one run; its uid is their base."""
    return {
        "uid": uid,
        "spec": SPEC,
        "root": root,
        "resource_path": path,
        "path_semantics": "posix",
        "resource_kwargs": {
            "dataset": DATASET,
            "swmr": True,
            "chunk_shape": [1, *header["shape"]],
            "server": server,
            "detector": detector,
        },
    }


def datum(reference: Reference, header: FrameHeader) -> dict[str, Any]:
    """Compose the fresh `datum` whose id is the reference."""
    return {
        "datum_id": str(reference),
        "resource": reference.base,
        "datum_kwargs": {
            "number": reference.number,
            "dtype": header["dtype"],
            "checksum": header["checksum"],
            "axes": [dict(axis) for axis in header["axes"]],
            "metadata": dict(header["metadata"]),
            "started": header["started"],
            "ended": header["ended"],
        },
    }


def stream_resource(
    uid: str,
    data_key: str,
    uri: str,
    server: str,
    detector: str,
    header: FrameHeader,
    *,
    base: str,
    first: int,
    start: int,
    block: int,
    frames: int,
    update: dict[str, Any] | None = None,
    map_shape: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Compose a fresh `stream_resource` for the frames of one fly scan of a detector.

    Args:
        uid: of the document.
        data_key: the detector's name.
        uri: of the file that will hold the frames.
        server: address of its acquisition server.
        detector: the driver's name for it.
        header: of the first block in the spool, which has shape `(block, *frame)`.
        base: references are `<base>/<number>`.
        first: number of the first frame.
        start: index of the first event in its stream datums.
        block: frames that share a block in the spool; the last one may be shorter.
        frames: the number of frames that was requested.
        update: how the stream's frames become one array, an `UpdateDeclaration.dump()`; None: each
            has an index of its own, or each line of a map.
        map_shape: of a map whose frames are its points: lines, and points of each line.
    """
    of_event = [1, map_shape[1]] if map_shape is not None else [block]
    own = {"index"}  # metadata of that one frame only
    return {
        "uid": uid,
        "data_key": data_key,
        "mimetype": MIMETYPE,
        "uri": uri,
        "parameters": {
            "dataset": DATASET,
            "swmr": True,
            "chunk_shape": [*of_event, *header["shape"][1:]],
            "server": server,
            "detector": detector,
            "base": base,
            "first": first,
            "start": start,
            "block": block,
            "frames": frames,
            "dtype": header["dtype"],
            "axes": [dict(axis) for axis in header["axes"]],
            "metadata": {k: v for k, v in header["metadata"].items() if k not in own},
            **({} if update is None else {"update": update}),
            **({} if map_shape is None else {"map": [*map_shape]}),
        },
    }


def stream_datum(resource_uid: str, indices: dict[str, int]) -> dict[str, Any]:
    """Compose a fresh `stream_datum`; the RunEngine fills in descriptor and seq_nums."""
    return {
        "uid": str(uuid.uuid4()),
        "stream_resource": resource_uid,
        "descriptor": "",
        "indices": indices,
        "seq_nums": {"start": 0, "stop": 0},
    }


def check_frame(reference: str, got: Layout, promised: Layout | None) -> None:
    """Check that a frame is what this run's descriptor promised.

    Args:
        reference: of the frame.
        got: its shape and dtype.
        promised: the same in the descriptor; None while there is none.

    Raises:
        FrameMismatch: they differ.
    """
    if promised and got != promised:
        raise FrameMismatch(
            f"{reference}: the frame has shape {got[0]} and dtype {got[1]}, but this run's "
            f"descriptor promised {promised[0]} and {promised[1]}. Change the frame size of "
            f"{Reference.parse(reference).detector} between runs, not within one"
        )
