"""Recognise and check documents: which run they belong to, which references they hold.

Our `resource` has spec `HDF5`, which every Bluesky consumer can open; its `resource_kwargs` add
where the frame waits until it is in that file. Our `datum` carries the frame's checksum and axes,
so that the writer and any reader know what to expect without asking the instrument. Documents of
a fly scan (`stream_resource`, `stream_datum`) carry the same for many frames at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, cast

import numpy as np
from event_model import unpack_datum_page, unpack_event_page

from .errors import DuplicateReference
from .reference import Reference
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
"""Key of a start document; in a processed run it describes the function that made the run."""
STRAY = "stray"
"""Name of a journal's record of a document that cannot belong to any run; no document has it."""

_Kind = tuple[Any, str]
_TEXT: _Kind = (str, "a string")
_NUMBER: _Kind = ((float, int, Real), "a number")  # the usual types first: abstract ones are slow
_MAPPING: _Kind = ((dict, Mapping), "a mapping")
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
"""The fields without which a document can be neither filed nor catalogued."""
_FRAME = {"number", "dtype", "checksum", "axes", "metadata", "ended"}
"""Required keys of our datums' `datum_kwargs`."""
_FLY_SCAN = {"base", "first", "start", "block", "frames", "dtype", "axes", "metadata"}
"""Required keys of our stream resources' `parameters`."""


def check(name: str, document: Document) -> None:
    """Refuse a document that could be neither filed nor catalogued.

    Raises:
        ValueError: its kind is unknown, or it lacks a required field of its kind.
    """
    if not isinstance(name, str) or name not in _FIELDS:
        raise ValueError(f"there is no {name!r} document; there are: {', '.join(_FIELDS)}")
    if not isinstance(document, _MAPPING[0]):
        raise ValueError(f"this {name} document is not a mapping, but {document!r}")
    for field, (kind, words) in _FIELDS[name].items():
        if field not in document:
            raise ValueError(f"this {name} document has no {field!r}, only {[*document]}")
        if not isinstance(document[field], kind):
            value = document[field]
            raise ValueError(f"this {name} document has {value!r} as {field!r}; give {words}")
    if not isinstance(document.get("filled", {}), _MAPPING[0]):
        value = document["filled"]
        raise ValueError(f"this {name} document has {value!r} as 'filled'; give a mapping")
    if name == "descriptor":
        _check_keys(document)
    if name == "start" and (not document["uid"] or "/" in document["uid"]):
        raise ValueError(
            f"this start document has {document['uid']!r} as 'uid'; give one without '/'"
        )
    if name == "stream_resource" and _is_our_fly_scan(document):
        _check_update(document["parameters"].get("update"))
    if name.endswith("_page"):
        _check_columns(name, document)


def _check_keys(descriptor: Document) -> None:
    for key, about in descriptor["data_keys"].items():
        if not isinstance(key, str) or not isinstance(about, Mapping):
            raise ValueError(
                f"this descriptor document has {about!r} as data key {key!r}; give a string, and "
                "a mapping that describes it"
            )


def _check_update(update: Any) -> None:
    if update is None:
        return
    if not isinstance(update, Mapping):
        raise ValueError(
            f"this stream_resource document has {update!r} as 'update'; give a mapping"
        )
    UpdateDeclaration.load(update)


def _check_columns(name: str, page: Document) -> None:
    columns = {field: page[field] for field, kind in _FIELDS[name].items() if kind is _COLUMN}
    for field in ("data", "timestamps", "filled", "datum_kwargs"):
        columns |= {f"{field}.{key}": column for key, column in page.get(field, {}).items()}
    if not all(isinstance(column, _COLUMN[0]) for column in columns.values()):
        raise ValueError(f"this {name} document has columns that are not lists: {columns}")
    lengths = {field: len(column) for field, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"this {name} document has columns of different lengths: {lengths}")


def check_ours(datum_doc: Document) -> None:
    """Refuse a `datum` of ours that does not describe its frame completely.

    Raises:
        ValueError: required keys are missing; the message lists them.
    """
    missing = _FRAME - datum_doc["datum_kwargs"].keys()
    if missing:
        raise ValueError(
            f"the datum document of {datum_doc['datum_id']!r} lacks {sorted(missing)} in its "
            "datum_kwargs: RefDetector puts them there"
        )


def is_ours(resource_doc: Document) -> bool:
    """Return whether a `resource` is one of ours, whose frames wait in a spool."""
    return resource_doc.get("spec") == SPEC and _is_addressed(
        resource_doc.get("resource_kwargs", {})
    )


def _is_our_fly_scan(stream_resource_doc: Document) -> bool:
    parameters = stream_resource_doc.get("parameters", {})
    return _is_addressed(parameters) and parameters.keys() >= _FLY_SCAN


def _is_addressed(fields: Document) -> bool:
    return isinstance(fields.get("server"), str) and isinstance(fields.get("detector"), str)


def events(name: str, document: Document) -> Iterator[Document]:
    """Yield the events in an `event` or `event_page`, nothing for other documents."""
    if name == "event":
        yield document
    elif name == "event_page":
        yield from unpack_event_page(cast(Any, document))


def datums(name: str, document: Document) -> Iterator[Document]:
    """Yield the datums in a `datum` or `datum_page`, nothing for other documents."""
    if name == "datum":
        yield document
    elif name == "datum_page":
        yield from unpack_datum_page(cast(Any, document))


@dataclass(frozen=True, kw_only=True)
class FlyScanFrames:
    """The frames to which one `stream_datum` of ours refers."""

    scan: Document
    """the `stream_resource` of their fly scan"""
    numbers: range
    """their numbers, which count the detector's exposures in its run"""
    end: int
    """the number after the last frame of the fly scan, as far as it is known"""

    @property
    def base(self) -> str:
        """The part of their references that they share, `<run uid>.<detector>`."""
        return self.scan["parameters"]["base"]

    @property
    def references(self) -> list[str]:
        """Their references, in order."""
        return [f"{self.base}/{number}" for number in self.numbers]


class ReferenceTracker:
    """Find the references of our detectors in the documents of one run.

    Give `learn` each document, in order. Ask about an event before it is learnt: a reference
    belongs to one event.
    """

    def __init__(self) -> None:
        self._resources: dict[str, Document] = {}
        self._fly_scans: dict[str, Document] = {}
        self._ends: dict[str, int] = {}
        self._datums: dict[str, Document] = {}
        self._newest: dict[str, int] = {}

    def learn(self, name: str, document: Document) -> bool:
        """Take note of a document; return whether it is a resource or stream_resource of ours."""
        if name in ("event", "event_page"):
            for event in events(name, document):
                for value in event["data"].values():
                    if isinstance(value, str):
                        self._datums.pop(value, None)
        elif name in ("datum", "datum_page"):
            self._datums.update((datum["datum_id"], datum) for datum in datums(name, document))
        elif name == "resource" and is_ours(document):
            self._resources[document["uid"]] = document
            return True
        elif name == "stream_resource" and _is_our_fly_scan(document):
            self._fly_scans[document["uid"]] = document
            parameters = document["parameters"]
            closed = parameters.get("closes", document["uid"])
            self._ends[closed] = parameters["first"] + parameters["frames"]
            return True
        return False

    def hand_out(self, name: str, document: Document) -> None:
        """Take note of the references that a document hands out; a detector's numbers increase.

        Raises:
            DuplicateReference: one has been handed out before.
            ValueError: one is not a reference.
        """
        for datum in self.datums(name, document):
            try:
                reference = Reference.parse(datum["datum_id"])
            except ValueError as exc:
                raise ValueError(f"the datum_id of a datum document is wrong: {exc}") from exc
            if reference.number <= self._newest.get(reference.base, -1):
                raise DuplicateReference(
                    f"an earlier datum document has handed out {str(reference)!r}, which would "
                    "now mean two frames: do two devices of this run have the same name? Give "
                    "each device its own name"
                )
            self._newest[reference.base] = reference.number

    def awaits(self, value: str) -> bool:
        """Return whether a datum has this id, ours or another package's, and no event has it."""
        return value in self._datums

    def events(self, name: str, document: Document) -> Iterator[tuple[Document, dict[str, str]]]:
        """Yield the events in a document, each with its references by data key."""
        for event in events(name, document):
            yield (
                event,
                {
                    key: value
                    for key, value in event["data"].items()
                    if isinstance(value, str)
                    and value in self._datums
                    and self._datums[value]["resource"] in self._resources
                },
            )

    def datums(self, name: str, document: Document) -> list[Document]:
        """Return the datums of ours in a `datum` or `datum_page`; none for other documents."""
        return [d for d in datums(name, document) if d["resource"] in self._resources]

    def fly_scan_frames(self, name: str, document: Document) -> FlyScanFrames | None:
        """Return the frames that a `stream_datum` refers to; None if it is not one of ours."""
        scan = self._fly_scans.get(document["stream_resource"]) if name == "stream_datum" else None
        if scan is None:
            return None
        parameters, indices = scan["parameters"], document["indices"]
        first, end = parameters["first"], self._ends[scan["uid"]]
        _, points = parameters.get("map", (0, 1))
        start, stop = (
            min(end, first + points * (indices[key] - parameters["start"]))
            for key in ("start", "stop")
        )
        return FlyScanFrames(scan=scan, numbers=range(start, stop), end=end)

    def end_of(self, fly_scan: str) -> int:
        """Return the number after the last frame of a fly scan, as far as it is known."""
        return self._ends[fly_scan]

    def handed_out(self, name: str, document: Document, *, last: bool = False) -> list[str]:
        """Return the references that a document hands out; with `last`, see `references`."""
        if name in ("datum", "datum_page"):
            return [datum["datum_id"] for datum in self.datums(name, document)]
        frames = self.fly_scan_frames(name, document)
        if frames is None:
            return []
        if last:
            return [f"{frames.base}/{number}" for number in frames.numbers[-1:]]
        return frames.references

    def datum(self, reference: str) -> Document:
        """Return the datum of a reference that no event has had yet."""
        return self._datums[reference]

    def resource(self, datum_doc: Document) -> Document:
        """Return the resource of a datum of ours."""
        return self._resources[datum_doc["resource"]]

    def unused(self) -> list[Document]:
        """Return the datums of ours that no event has had yet."""
        return [d for d in self._datums.values() if d["resource"] in self._resources]


def references(run: Iterable[tuple[str, Document]], *, last: bool = False) -> list[str]:
    """Return the references that a run's documents hand out, in order.

    Args:
        run: the documents.
        last: of a fly scan, only the last reference of each `stream_datum`: when it has ended, the
            ones before it have ended.
    """
    tracker = ReferenceTracker()
    found: list[str] = []
    for name, document in run:
        tracker.learn(name, document)
        found += tracker.handed_out(name, document, last=last)
    return found


class RunOf:
    """Find the run to which a document belongs, from the documents before it."""

    def __init__(self) -> None:
        self._runs: dict[str, str] = {}
        self._members: dict[str, set[str]] = {}

    def __call__(self, name: str, document: Document) -> str | None:
        """Return the run's uid; None if no earlier document names it.

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
                f"{self._runs[document['uid']]!r}, and cannot belong to {run!r} as well: give each "
                "run its own descriptors"
            )
        return run

    def learn(self, name: str, document: Document, run: str) -> None:
        """Take note of a document that has been stored."""
        if name in ("descriptor", "resource"):
            self._runs[document["uid"]] = run
            self._members.setdefault(run, set()).add(document["uid"])

    def forget(self, run: str) -> None:
        """Forget the documents of a run that has stopped."""
        for uid in self._members.pop(run, ()):
            if self._runs.get(uid) == run:  # a later run may use the same resource
                del self._runs[uid]
