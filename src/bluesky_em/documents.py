"""What our detectors put into documents, and which run a document belongs to. Pure functions.

Our `resource` has spec `HDF5`, which every Bluesky consumer knows how to open; `resource_kwargs`
add where the frame waits until it is in that file. Our `datum` carries the frame's checksum and
axes, so that the writer and any reader know what to expect without asking the instrument.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any, cast

import numpy as np
from event_model import DataKey, unpack_datum_page, unpack_event_page

from .acquisition.instrument_pc.summary import THUMBNAIL
from .errors import FrameMismatch
from .reference import Reference
from .update_modes import Declaration, Mode

Document = Mapping[str, Any]
Layout = tuple[list[int], str]
"""A frame's shape and dtype."""

DATASET = "/entry/data/data"
"""Path of the frames inside every file that bluesky-em writes: shape `(frames, *frame)`."""
SPEC = "HDF5"
"""The resource spec; Tiled reads it as `MIMETYPE`."""
MIMETYPE = "application/x-hdf5"
PROCESSED = "analysis"
"""Where the start document of a processed run tells of the function that made it."""

_Kind = tuple[Any, str]
_TEXT: _Kind = (str, "a string")
_NUMBER: _Kind = (Real, "a number")
_MAPPING: _Kind = (Mapping, "a mapping")
_COLUMN: _Kind = ((list, tuple, np.ndarray), "a list")
_EVENT: dict[str, _Kind] = {"descriptor": _TEXT, "data": _MAPPING, "timestamps": _MAPPING}
_DATUM: dict[str, _Kind] = {"resource": _TEXT, "datum_kwargs": _MAPPING}
_FIELDS: dict[str, dict[str, _Kind]] = {
    "start": {"uid": _TEXT, "time": _NUMBER},
    "descriptor": {
        "uid": _TEXT, "run_start": _TEXT, "time": _NUMBER, "name": _TEXT, "data_keys": _MAPPING,
    },
    "event": _EVENT | {"uid": _TEXT, "time": _NUMBER, "seq_num": _NUMBER},
    "event_page": _EVENT | {"uid": _COLUMN, "time": _COLUMN, "seq_num": _COLUMN},
    "resource": {
        "uid": _TEXT, "spec": _TEXT, "root": _TEXT, "resource_path": _TEXT,
        "resource_kwargs": _MAPPING,
    },
    "datum": _DATUM | {"datum_id": _TEXT},
    "datum_page": _DATUM | {"datum_id": _COLUMN},
    "stream_resource": {"uid": _TEXT, "data_key": _TEXT},
    "stream_datum": {"uid": _TEXT, "descriptor": _TEXT, "stream_resource": _TEXT},
    "stop": {"uid": _TEXT, "run_start": _TEXT, "time": _NUMBER, "exit_status": _TEXT},
}  # fmt: skip
"""What a document cannot do without, if it is to be filed and catalogued."""
_ADDRESSABLE = re.compile(r"[^/\\?#%\x00-\x1f\x7f]+")
"""What can be a part of a URL: Tiled addresses streams and arrays by their names."""
_FRAME = {"number", "dtype", "checksum", "axes", "metadata", "ended"}
"""What our datums cannot do without, in their `datum_kwargs`."""
_FLIGHT = {"base", "first", "start", "block", "frames", "dtype", "axes", "metadata"}
"""The same of our stream resources, in their `parameters`."""


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


def stream_resource(
    uid: str,
    data_key: str,
    uri: str,
    server: str,
    detector: str,
    header: Document,
    *,
    base: str,
    first: int,
    start: int,
    block: int,
    frames: int,
    update: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Compose a fresh `stream_resource` for the frames of one flight of a detector.

    Args:
        uid: of the document.
        data_key: the detector's name.
        uri: of the file that will hold the frames.
        server: address of its acquisition server.
        detector: the driver's name for it.
        header: of the first block in the spool, whose array has shape `(block, *frame)`.
        base: references are `<base>/<number>`.
        first: number of the first frame.
        start: index of the first frame, in the stream datums that will come.
        block: frames that share a block in the spool; the last one may be shorter.
        frames: how many were asked for.
        update: how the stream's frames become one array, a `Declaration.dump()`; None: each has
            an index of its own, one behind the other.
    """
    own = {"index"}  # of that one frame
    return {
        "uid": uid,
        "data_key": data_key,
        "mimetype": MIMETYPE,
        "uri": uri,
        "parameters": {
            "dataset": DATASET,
            "swmr": True,
            "chunk_shape": [block, *header["shape"][1:]],
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
    """Refuse a frame that is not what this run's descriptor promised.

    Args:
        reference: of the frame.
        got: its shape and dtype.
        promised: the descriptor's; None while there is none.

    Raises:
        FrameMismatch: they differ.
    """
    if promised and got != promised:
        raise FrameMismatch(
            f"{reference}: the frame has shape {got[0]} and dtype {got[1]}, but this run's "
            f"descriptor promised {promised[0]} and {promised[1]}. Change the frame size of "
            f"{Reference.parse(reference).detector} between runs, not within one"
        )


def check(name: str, document: Document) -> None:
    """Refuse a document that could be neither filed nor catalogued.

    Raises:
        ValueError: it is of no known kind, or lacks what that kind cannot do without.
    """
    if name not in _FIELDS:
        raise ValueError(f"there is no {name!r} document; there are: {', '.join(_FIELDS)}")
    if not isinstance(document, Mapping):
        raise ValueError(f"this {name} document is no mapping, but {document!r}")
    for field, (kind, words) in _FIELDS[name].items():
        if field not in document:
            raise ValueError(f"this {name} document has no {field!r}, only {[*document]}")
        if not isinstance(document[field], kind):
            value = document[field]
            raise ValueError(f"this {name} document has {value!r} as {field!r}; give {words}")
    if not isinstance(document.get("filled", {}), Mapping):
        raise ValueError(f"this {name} document has {document['filled']!r} as 'filled'")
    if name == "descriptor":
        for kind, word in [
            ("stream", document["name"]),
            *(("key", k) for k in document["data_keys"]),
        ]:
            if not _ADDRESSABLE.fullmatch(word) or word in (".", ".."):
                raise ValueError(
                    f"this descriptor document has a {kind} named {word!r}; it is to be a part of "
                    "an address, so give a name without any of / \\ ? # % or control characters"
                )
    if name == "start" and (not document["uid"] or "/" in document["uid"]):
        raise ValueError(
            f"this start document has {document['uid']!r} as 'uid'; give one without '/'"
        )
    if name == "stream_resource" and is_ours_flown(document):
        _check_update(document["parameters"].get("update"))
    if name.endswith("_page"):
        _check_columns(name, document)


def _check_update(update: Any) -> None:
    if update is None:
        return
    if not isinstance(update, Mapping):
        raise ValueError(f"this stream_resource document has {update!r} as 'update', no mapping")
    if Declaration.load(update).mode is Mode.ADD:
        raise ValueError(
            "this stream_resource document declares updates of mode 'add': leave 'update' out, "
            "since frames are rows of their array without it"
        )


def _check_columns(name: str, page: Document) -> None:
    columns = {field: page[field] for field, kind in _FIELDS[name].items() if kind is _COLUMN}
    for field in ("data", "timestamps", "filled", "datum_kwargs"):
        columns |= {f"{field}.{key}": column for key, column in page.get(field, {}).items()}
    if not all(isinstance(column, _COLUMN[0]) for column in columns.values()):
        raise ValueError(f"this {name} document has columns that are no lists: {columns}")
    lengths = {field: len(column) for field, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"this {name} document has columns of different lengths: {lengths}")


def check_ours(datum_doc: Document) -> None:
    """Refuse a `datum` of ours from which no frame could be made.

    Raises:
        ValueError: it lacks something.
    """
    missing = _FRAME - datum_doc["datum_kwargs"].keys()
    if missing:
        raise ValueError(
            f"the datum document of {datum_doc['datum_id']!r} lacks {sorted(missing)} in its "
            "datum_kwargs: RefDetector puts them there"
        )


def is_ours(resource_doc: Document) -> bool:
    """Tell whether a `resource` is one of ours, whose frames wait in a spool."""
    return resource_doc.get("spec") == SPEC and _is_addressed(
        resource_doc.get("resource_kwargs", {})
    )


def is_ours_flown(stream_resource_doc: Document) -> bool:
    """Tell the same of a `stream_resource`."""
    parameters = stream_resource_doc.get("parameters", {})
    return _is_addressed(parameters) and parameters.keys() >= _FLIGHT


def _is_addressed(fields: Document) -> bool:
    return isinstance(fields.get("server"), str) and isinstance(fields.get("detector"), str)


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


def numbers(flight: Document, stream_datum_doc: Document) -> range:
    """Give the frame numbers that a `stream_datum` refers to; `flight` is its `stream_resource`."""
    shift = flight["parameters"]["first"] - flight["parameters"]["start"]
    indices = stream_datum_doc["indices"]
    return range(indices["start"] + shift, indices["stop"] + shift)


def references(run: Iterable[tuple[str, Document]], *, last: bool = False) -> list[str]:
    """Give the references that a run's documents hand out, in order.

    Args:
        run: the documents.
        last: of a fly scan only the last of each document's: what becomes of the others has become
            of them before.
    """
    ours: set[str] = set()
    flights: dict[str, Document] = {}
    found: list[str] = []
    for name, document in run:
        if name == "resource" and is_ours(document):
            ours.add(document["uid"])
        elif name == "stream_resource" and is_ours_flown(document):
            flights[document["uid"]] = document
        elif name == "stream_datum" and document["stream_resource"] in flights:
            flight = flights[document["stream_resource"]]
            base, flown = flight["parameters"]["base"], numbers(flight, document)
            found += [f"{base}/{number}" for number in (flown[-1:] if last else flown)]
        found += [d["datum_id"] for d in datums(name, document) if d["resource"] in ours]
    return found


class RunOf:
    """Which run a document belongs to, learnt from the documents before it."""

    def __init__(self) -> None:
        self._runs: dict[str, str] = {}
        self._members: dict[str, set[str]] = {}

    def __call__(self, name: str, document: Document) -> str | None:
        """Give the run's uid, or None where no earlier document tells.

        Raises:
            ValueError: a descriptor of another run has the same uid.
        """
        if name == "start":
            return document["uid"]
        if name in ("event", "event_page", "stream_datum"):
            return self._runs.get(document["descriptor"])
        if name in ("datum", "datum_page"):
            return self._runs.get(document["resource"])
        run = document.get("run_start")
        if name == "descriptor" and self._runs.get(document["uid"], run) != run:
            raise ValueError(
                f"the descriptor {document['uid']!r} belongs to run "
                f"{self._runs[document['uid']]!r}, and cannot belong to {run!r}, too: give each "
                "run descriptors of its own"
            )
        return run

    def learn(self, name: str, document: Document, run: str) -> None:
        """Take note of a document that has been kept."""
        if name in ("descriptor", "resource"):
            self._runs[document["uid"]] = run
            self._members.setdefault(run, set()).add(document["uid"])

    def forget(self, run: str) -> None:
        """Drop what was learnt of a run that has stopped."""
        for uid in self._members.pop(run, ()):
            if self._runs.get(uid) == run:  # a resource may be another run's by now
                del self._runs[uid]
