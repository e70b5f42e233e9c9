"""Normalise documents that Tiled cannot store as they are; record each change in `notes`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from event_model import schema_validators

from bluesky_em.files.plain_values import encodable
from bluesky_em.files.tiled.row_map import KEY
from bluesky_em.files.tiled.storable import as_text, storable
from bluesky_em.files.tiled.values import (
    address_name,
    blank,
    columns,
    fit,
    json_ready,
    text,
    text_name,
)

from ._fallback import Fallback
from ._plugins import PluginsNormalizer

NOTES_LIMIT = 100  # notes of one run
_VALUE_LIMIT = 80  # characters of a value in a note
_REASON_LIMIT = 200  # characters of an error in a note


class Normalizer(PluginsNormalizer):
    """Changes the documents of a run so that Tiled can store all of them.

    A column is renamed, or becomes text; a value that does not match its descriptor is left out,
    and data without a datum document are missing. The run's `notes` in Tiled record this; the
    journal has everything.

    Args:
        fallback: what is text or left out in any case, since Tiled has refused the run.
    """

    def __init__(self, fallback: Fallback | None = None) -> None:
        super().__init__()
        self._fallback = fallback or Fallback()
        self._keys: dict[str, dict[str, Any]] = {}
        self._texts: dict[str, set[str]] = {}
        self._columns: dict[str, dict[str, str]] = {}
        self._names: dict[str, dict[str, str]] = {}
        self._arrays: dict[str, str] = {}
        self._refused: dict[str, dict[str, Any]] = {}
        self._omitted = 0

    def stray(self, doc: Any) -> None:
        """Note a document that belongs to no run; only the journal has it."""
        self._note(f"a {doc['name']} document is only in the journal: {doc['why']}")

    def start(self, doc: Any) -> None:
        """Pass on the start document, with metadata that JSON can store."""
        if self._fallback.frames_only:
            rest = {key: value for key, value in doc.items() if key not in ("uid", "time")}
            doc = {"uid": doc["uid"], "time": doc["time"], "as_text": text(rest)}
        doc = json_ready(doc)
        for name in ("tiled_specs", "tiled_access_tags"):  # they have a meaning for the run writer
            if not isinstance(doc.get(name) or [], list):
                doc[f"{name}_"] = doc.pop(name)
                self._note(f"{name!r} is no list, so it is metadata {name + '_'!r} here")
        super().start(doc)

    def descriptor(self, doc: Any) -> None:
        """Pass on a descriptor, with data keys and names that Tiled accepts."""
        doc = copy.deepcopy(doc)
        if self._fallback.frames_only:
            doc = self._frames_only(doc)
        about = self._rename_stream(doc)
        given = {key: about for key, about in doc["data_keys"].items() if "external" not in about}
        names = self._name(doc, given)
        stored = {key: self._storable(doc["name"], key, about) for key, about in given.items()}
        self._keys[doc["uid"]], self._columns[doc["uid"]] = stored, names
        self._texts[doc["uid"]] = {
            key
            for key, about in given.items()
            if stored[key]["dtype"] != about.get("dtype") or self._is_refused(doc["name"], key)
        }
        doc["data_keys"] = _rename(doc["data_keys"] | stored, names)
        for obj, keys in doc.get("object_keys", {}).items():
            doc["object_keys"][obj] = [names[key] for key in keys if key in names]
        of_stream = self._names[doc["name"]]
        if renamed := {key: name for key, name in of_stream.items() if key != name}:
            about["columns"] = renamed
        if refused := self._refused.get(doc["name"]):
            about["refused"] = refused
        if about:
            doc[KEY] = about  # a reader must find the names again
        for device in doc.get("configuration", {}).values():
            device["data"] = json_ready(device.get("data", {}))
        super().descriptor(doc)

    def event(self, doc: Any) -> None:
        """Pass on an event, with values of the types that its descriptor promises."""
        names, texts = self._columns[doc["descriptor"]], self._texts[doc["descriptor"]]
        data = {key: value for key, value in doc["data"].items() if key in names}
        for key, about in self._keys[doc["descriptor"]].items():
            if key in texts and key in data:
                data[key] = text(data[key])
            elif key in data:
                data[key] = self._fitted(doc["seq_num"], key, data[key], about)
        doc = {**doc, "data": _rename(data, names)}
        for field in ("timestamps", "filled"):
            kept = {key: value for key, value in doc.get(field, {}).items() if key in names}
            doc[field] = _rename(kept, names)
        super().event(doc)

    def stream_resource(self, doc: Any) -> None:
        """Pass on a stream resource, with the name that its array has."""
        key = doc.get("data_key", "")
        doc = {**doc, "data_key": self._arrays.get(key, key)}
        super().stream_resource(doc)

    def stop(self, doc: Any) -> None:
        """Pass on the stop document, with notes about references without a datum document."""
        for ref in self.take_unexplained_references():
            self._note(
                f"{ref.data_key} of event {ref.seq_num} refers to {ref.datum_id!r}, for which no "
                "datum document came"
            )
        if self._omitted:
            self.notes.append(f"and {self._omitted} more like these")
        super().stop(json_ready(doc))

    def emit(self, name: Any, doc: Any) -> None:
        """Pass on a document, with a note if its schema forbids it: a run must not be missing."""
        try:
            schema_validators[name].validate(doc)
        except Exception as exc:  # a ValidationError, or what an unexpected value raises
            why = getattr(exc, "message", str(exc))[:_REASON_LIMIT]
            self._note(f"the {name.name} document breaks its schema: {why}")
        self.dispatcher.process(name, doc)

    def _frames_only(self, doc: Any) -> Any:
        """Return a descriptor of the data in files; only the journal has everything else."""
        self._note(
            f"values and configuration of stream {doc['name']!r} are only in the journal, since "
            f"Tiled refused them: {self._fallback.why[:_REASON_LIMIT]}"
        )
        kept = {key: doc[key] for key in ("uid", "run_start", "time", "name")}
        external = {key: about for key, about in doc["data_keys"].items() if "external" in about}
        return {**kept, "data_keys": external, "configuration": {}, "hints": {}, "object_keys": {}}

    def _rename_stream(self, doc: Any) -> dict[str, Any]:
        """Rename a stream if Tiled refuses its name; return the entry `name` of `StreamKeys`."""
        name = doc["name"]
        doc["name"] = address_name(name)
        if doc["name"] == name:
            return {}
        self._note(f"the stream {name!r} is {doc['name']!r} here")
        return {"name": name}

    def _name(self, doc: Any, internal: Mapping[str, Any]) -> dict[str, str]:
        """Return the name that each data key has in Tiled; it is the same in later descriptors."""
        stream, known = doc["name"], self._names.setdefault(doc["name"], {})
        names = columns(internal, known)
        for key in internal.keys() - known.keys():
            if (stream, names[key]) in self._fallback.text:
                names[key] = text_name(names[key], {*known.values(), *names.values()})
                self._refused.setdefault(stream, {})[names[key]] = storable(internal[key])
        for key in doc["data_keys"].keys() - internal.keys():
            names[key] = self._arrays[key] = address_name(key)
        for key, name in names.items():
            if key != name:
                self._note(f"{key!r} of stream {stream!r} is column {name!r} here")
        known.update(names)
        return names

    def _is_refused(self, stream: str, key: str) -> bool:
        return self._names[stream][key] in self._refused.get(stream, {})

    def _storable(self, stream: str, key: str, about: Mapping[str, Any]) -> dict[str, Any]:
        stored = storable(about)
        if self._is_refused(stream, key):
            reason = self._fallback.why[:_REASON_LIMIT]
            self._note(
                f"{key!r} of stream {stream!r} is JSON text here, since Tiled refused it: {reason}"
            )
            return as_text(about)
        if stored["dtype"] != about.get("dtype"):
            self._note(f"{key!r} of stream {stream!r} is JSON text here")
        return stored

    def _fitted(self, seq_num: int, key: str, value: Any, data_key: Mapping[str, Any]) -> Any:
        try:
            return fit(value, data_key)
        except Exception:  # whatever the conversion of an unexpected value raises
            self._note(
                f"{key} of event {seq_num} is left out here: {str(value)[:_VALUE_LIMIT]!r} is not "
                f"of type {data_key['dtype']} and shape {data_key.get('shape')}, as its descriptor "
                "promises"
            )
            return blank(data_key)

    def _note(self, note: str) -> None:
        note = encodable(note)
        if note in self.notes:  # of an earlier descriptor
            return
        if len(self.notes) < NOTES_LIMIT:
            self.notes.append(note)
        else:
            self._omitted += 1


def _rename(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in fields.items()}
