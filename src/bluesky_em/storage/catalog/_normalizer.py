"""Normalise documents that Tiled cannot store as they are; record each change in `notes`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from bluesky_tiled_plugins.writing.tiled_writer import RunNormalizer

from bluesky_em.files.tiled.row_map import KEY
from bluesky_em.files.tiled.values import blank, columns, fit, json_ready

NOTES_LIMIT = 100  # notes of one run
_VALUE_LIMIT = 80  # characters of a value in a note


class Normalizer(RunNormalizer):
    """Changes the documents of a run so that Tiled can store all of them.

    A column is renamed, a value that does not match its descriptor is left out, and data without a
    datum document are missing. The run's `notes` in Tiled record this; the journal has everything.
    """

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[str, dict[str, Any]] = {}
        self._columns: dict[str, dict[str, str]] = {}
        self._names: dict[str, dict[str, str]] = {}
        self._omitted = 0

    def start(self, doc: Any) -> None:
        """Pass on the start document, with metadata that JSON can store."""
        super().start(json_ready(doc))

    def descriptor(self, doc: Any) -> None:
        """Pass on a descriptor, with column names that a database accepts."""
        doc = copy.deepcopy(doc)
        keys = {key: about for key, about in doc["data_keys"].items() if "external" not in about}
        of_stream = self._names.setdefault(doc["name"], {})
        names = columns(keys, of_stream)
        of_stream.update(names)
        renamed = {key: name for key, name in names.items() if key != name}
        self._keys[doc["uid"]], self._columns[doc["uid"]] = keys, renamed
        for key, name in renamed.items():
            self._note(f"{key!r} of stream {doc['name']!r} is column {name!r} here")
        doc["data_keys"] = _rename(doc["data_keys"], renamed)
        for obj, obj_keys in doc.get("object_keys", {}).items():
            doc["object_keys"][obj] = [renamed.get(key, key) for key in obj_keys]
        if columns_of_stream := {key: name for key, name in of_stream.items() if key != name}:
            doc[KEY] = {"columns": columns_of_stream}  # a reader must find the keys again
        for about in doc.get("configuration", {}).values():
            about["data"] = json_ready(about.get("data", {}))
        super().descriptor(doc)

    def event(self, doc: Any) -> None:
        """Pass on an event, with values of the types that its descriptor promises."""
        renamed, data = self._columns[doc["descriptor"]], dict(doc["data"])
        for key, about in self._keys[doc["descriptor"]].items():
            if key in data:
                data[key] = self._fitted(doc["seq_num"], key, data[key], about)
        doc = {**doc, "data": _rename(data, renamed)}
        for field in ("timestamps", "filled"):
            doc[field] = _rename(doc.get(field, {}), renamed)
        super().event(doc)

    def stop(self, doc: Any) -> None:
        """Pass on the stop document, with notes about references without a datum document."""
        missing = [ref for ref in self._ext_ref_cache if ref.datum_id not in self._datum_cache]
        self._ext_ref_cache = [ref for ref in self._ext_ref_cache if ref not in missing]
        for ref in missing:
            self._note(
                f"{ref.data_key} of event {ref.seq_num} refers to {ref.datum_id!r}, for which no "
                "datum document came"
            )
        if self._omitted:
            self.notes.append(f"and {self._omitted} more like these")
        super().stop(json_ready(doc))

    def _fitted(self, seq_num: int, key: str, value: Any, data_key: Mapping[str, Any]) -> Any:
        try:
            return fit(value, data_key)
        except (ValueError, TypeError):
            self._note(
                f"{key} of event {seq_num} is left out here: {str(value)[:_VALUE_LIMIT]!r} is not "
                f"of type {data_key['dtype']} and shape {data_key.get('shape')}, as its descriptor "
                "promises"
            )
            return blank(data_key)

    def _note(self, note: str) -> None:
        if len(self.notes) < NOTES_LIMIT:
            self.notes.append(note)
        else:
            self._omitted += 1


def _rename(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in fields.items()}
