"""Documents as Tiled can take them, with a note of each thing that it could not."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from bluesky_tiled_plugins.writing.tiled_writer import RunNormalizer

from bluesky_em.files.tiled.values import blank, columns, fit, json_ready

MOST = 100  # notes of one run
_LONG = 80  # characters of a value in a note


class Normalizer(RunNormalizer):
    """Lets a run into Tiled, whole, though some of it cannot be there as it was.

    A column is renamed, a value that is not what its descriptor promises is left out, and what no
    datum document tells of is missing. The run's `notes` in Tiled say so; the journal has it all.
    """

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[str, dict[str, Any]] = {}
        self._columns: dict[str, dict[str, str]] = {}
        self._unsaid = 0

    def start(self, doc: Any) -> None:
        """Take the start document, with metadata as JSON can hold them."""
        super().start(json_ready(doc))

    def descriptor(self, doc: Any) -> None:
        """Take a descriptor, with the columns that a database can have."""
        doc = copy.deepcopy(doc)
        keys = {key: about for key, about in doc["data_keys"].items() if "external" not in about}
        names = columns(keys)
        renamed = {key: name for key, name in names.items() if key != name}
        self._keys[doc["uid"]], self._columns[doc["uid"]] = keys, renamed
        for key, name in renamed.items():
            self._note(f"{key!r} of stream {doc['name']!r} is column {name!r} here")
        doc["data_keys"] = _rename(doc["data_keys"], renamed)
        for obj, obj_keys in doc.get("object_keys", {}).items():
            doc["object_keys"][obj] = [renamed.get(key, key) for key in obj_keys]
        for about in doc.get("configuration", {}).values():
            about["data"] = json_ready(about.get("data", {}))
        super().descriptor(doc)

    def event(self, doc: Any) -> None:
        """Take an event, with values of the types that its descriptor promises."""
        renamed, data = self._columns[doc["descriptor"]], dict(doc["data"])
        for key, about in self._keys[doc["descriptor"]].items():
            if key in data:
                data[key] = self._fitted(doc["seq_num"], key, data[key], about)
        doc = {**doc, "data": _rename(data, renamed)}
        for field in ("timestamps", "filled"):
            doc[field] = _rename(doc.get(field, {}), renamed)
        super().event(doc)

    def stop(self, doc: Any) -> None:
        """End the run, with a note of data that its events refer to and no document tells of."""
        missing = [ref for ref in self._ext_ref_cache if ref.datum_id not in self._datum_cache]
        self._ext_ref_cache = [ref for ref in self._ext_ref_cache if ref not in missing]
        for ref in missing:
            self._note(
                f"{ref.data_key} of event {ref.seq_num} refers to {ref.datum_id!r}, for which no "
                "datum document came"
            )
        if self._unsaid:
            self.notes.append(f"and {self._unsaid} more like these")
        super().stop(json_ready(doc))

    def _fitted(self, seq_num: int, key: str, value: Any, data_key: Mapping[str, Any]) -> Any:
        try:
            return fit(value, data_key)
        except (ValueError, TypeError):
            promised = f"{data_key['dtype']} of shape {data_key.get('shape')}"
            self._note(
                f"{key} of event {seq_num} is left out here: {str(value)[:_LONG]!r} is no "
                f"{promised}, which its descriptor promised"
            )
            return blank(data_key)

    def _note(self, note: str) -> None:
        if len(self.notes) < MOST:
            self.notes.append(note)
        else:
            self._unsaid += 1


def _rename(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in fields.items()}
