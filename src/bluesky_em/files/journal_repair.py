"""Repair of a damaged journal: what is whole in it can be read again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bluesky_em.documents import Document

from .atomic import write_whole
from .codec import records
from .damaged import free_name

_BLANK = b"\xc0"  # nil, which readers skip
_BEGINNING = re.compile(rb"(?=(?:\xce.{4}|\xcd.{2}|\xcc.|[\x00-\x7f])\x92[\xa0-\xbf])", re.DOTALL)
"""How msgpack begins a checksum, and behind it a list of two whose first element is a string."""
_NEEDED = {
    "descriptor": ["run_start"],
    "stop": ["run_start"],
    "resource": ["run_start"],
    "stream_resource": ["run_start"],
    "datum": ["resource"],
    "datum_page": ["resource"],
    "event": ["descriptor"],
    "event_page": ["descriptor"],
    "stream_datum": ["stream_resource", "descriptor"],
}
"""The fields of a document that have the uid of an earlier one."""


def repair(path: Path, offset: int) -> Path:
    """Blank what is damaged in a journal that no process writes; cut off what ends it.

    A document that needs a lost one, as an event needs its descriptor, is blanked, too.

    Args:
        path: of the journal.
        offset: where the damage begins, in bytes.

    Returns:
        The path of a copy of the damaged journal.
    """
    data = path.read_bytes()
    kept = free_name(path)
    write_whole(kept, data)
    usable = list(_usable(data, offset))
    end = usable[-1].stop if usable else offset
    rest = bytearray(_BLANK * (end - offset))
    for place in usable:
        rest[place.start - offset : place.stop - offset] = data[place.start : place.stop]
    with open(path, "r+b") as file:  # in place: it is being read, and no document ever moves
        file.seek(offset)
        file.write(rest)
        file.truncate()
        os.fsync(file.fileno())
    return kept


def has_hidden_documents(path: Path, offset: int) -> bool:
    """Check whether documents follow one that looks torn, since its length is damaged."""
    with open(path, "rb") as file:
        file.seek(offset)
        return next(_found(file.read(), 0), None) is not None


def _usable(data: bytes, offset: int) -> Iterator[range]:
    """Yield the places of the documents behind `offset` that are whole and need no lost one."""
    known: set[Any] = set()
    for (name, document), _ in records(data[:offset]):
        known.update(_given(name, document))
    for (name, document), place in _found(data, offset):
        if known.issuperset(_needed(name, document)):
            known.update(_given(name, document))
            yield place


def _found(data: bytes, offset: int) -> Iterator[tuple[Any, range]]:
    """Yield each whole record behind `offset`, and its place."""
    end = offset
    for match in _BEGINNING.finditer(data, offset):
        if match.start() < end:
            continue
        end = match.start()
        try:
            for record, stop in records(data, end):
                yield record, range(end, stop)
                end = stop
        except Exception:  # damaged bytes can raise anything in a decoder
            continue


def _given(name: str, document: Document) -> list[Any]:
    """Return the uids, or datum ids, that later documents may need."""
    if name in ("datum", "datum_page"):
        return _strings(document.get("datum_id"))
    return _strings(document.get("uid"))


def _needed(name: str, document: Document) -> list[Any]:
    """Return the uids, and datum ids, of the earlier documents that a document needs."""
    uids = [uid for field in _NEEDED.get(name, []) for uid in _strings(document.get(field))]
    if name in ("event", "event_page"):
        for key, filled in document.get("filled", {}).items():
            if filled is False or isinstance(filled, list) and not any(filled):
                uids += _strings(document["data"].get(key))
    return uids


def _strings(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]
