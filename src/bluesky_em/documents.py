"""What our detectors put into documents, and which run a document belongs to. Pure functions.

Our `resource` has spec `HDF5`, which every Bluesky consumer knows how to open; `resource_kwargs`
add where the frame waits until it is in that file. Our `datum` carries the frame's checksum and
axes, so that the writer and any reader know what to expect without asking the instrument.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any, cast

import numpy as np
from event_model import unpack_datum_page, unpack_event_page

from .update_modes import UpdateDeclaration

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
    UpdateDeclaration.load(update)


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
