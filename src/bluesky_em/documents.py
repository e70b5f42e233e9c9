"""What our detectors put into documents, and which run a document belongs to. Pure functions.

Our `resource` has spec `HDF5`, which every Bluesky consumer knows how to open; `resource_kwargs`
add where the frame waits until it is in that file. Our `datum` carries the frame's checksum and
axes, so that the writer and any reader know what to expect without asking the instrument.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from event_model import DataKey, unpack_datum_page, unpack_event_page

from .reference import Reference

Document = Mapping[str, Any]

DATASET = "/entry/data/data"
"""Path of the frames inside every file that bluesky-em writes: shape `(frames, *frame)`."""
SPEC = "HDF5"
"""The resource spec; Tiled reads it as `application/x-hdf5`."""


def data_key(name: str, server: str, shape: list[int], dtype: str, dims: list[str]) -> DataKey:
    """Describe the frames behind a detector's references.

    Args:
        name: the detector's.
        server: address of its acquisition server.
        shape: of one frame, e.g. `[2048]`.
        dtype: numpy string, e.g. `<f4`.
        dims: one name per dimension, e.g. `["energy"]`.
    """
    return DataKey(
        source=f"{server}#{name}",
        dtype="array",
        dtype_numpy=dtype,
        shape=list(shape),
        dims=list(dims),
        external="FILESTORE:",
    )


def resource(
    uid: str, root: str, path: str, server: str, detector: str, header: Document
) -> dict[str, Any]:
    """Compose a fresh `resource` for one detector's frames in one run."""
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


def datum(reference: Reference, resource_uid: str, header: Document) -> dict[str, Any]:
    """Compose the fresh `datum` whose id is the reference."""
    return {
        "datum_id": str(reference),
        "resource": resource_uid,
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


def is_ours(resource_doc: Document) -> bool:
    """Tell whether a `resource` is one of ours, whose frames wait in a spool."""
    kwargs = resource_doc.get("resource_kwargs", {})
    return resource_doc.get("spec") == SPEC and "server" in kwargs and "detector" in kwargs


def events(name: str, document: Document) -> Iterator[Document]:
    """Give the events in an `event` or `event_page`, nothing for other documents."""
    if name == "event":
        yield document
    elif name == "event_page":
        yield from unpack_event_page(cast(Any, document))


def datums(name: str, document: Document) -> Iterator[Document]:
    """Give the datums in a `datum` or `datum_page`, nothing for other documents."""
    if name == "datum":
        yield document
    elif name == "datum_page":
        yield from unpack_datum_page(cast(Any, document))


def references(run: Iterable[tuple[str, Document]]) -> list[str]:
    """Give the references that a run's documents hand out, in order."""
    ours: set[str] = set()
    found: list[str] = []
    for name, document in run:
        if name == "resource" and is_ours(document):
            ours.add(document["uid"])
        found += [d["datum_id"] for d in datums(name, document) if d["resource"] in ours]
    return found


class RunOf:
    """Which run a document belongs to, learnt from the documents before it."""

    def __init__(self) -> None:
        self._runs: dict[str, str] = {}
        self._members: dict[str, list[str]] = {}

    def __call__(self, name: str, document: Document) -> str | None:
        """Give the run's uid, or None where no earlier document tells."""
        if name == "start":
            run: str | None = document["uid"]
        elif name in ("event", "event_page", "stream_datum"):
            run = self._runs.get(document["descriptor"])
        elif name in ("datum", "datum_page"):
            run = self._runs.get(document["resource"])
        else:
            run = document.get("run_start")
        if run is not None and name in ("descriptor", "resource"):
            self._runs[document["uid"]] = run
            self._members.setdefault(run, []).append(document["uid"])
        return run

    def forget(self, run: str) -> None:
        """Drop what was learnt of a run that has stopped."""
        for uid in self._members.pop(run, []):
            self._runs.pop(uid, None)
