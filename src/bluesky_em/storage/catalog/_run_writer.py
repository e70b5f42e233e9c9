"""Write one run to Tiled; every repetition gives the same result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from bluesky_em.acquisition.instrument_pc.faults import step
from bluesky_em.files.tiled import results_container
from bluesky_em.files.tiled.columns import column_types, is_column, of_schema
from bluesky_em.files.tiled.file_uri import file_uri, unquoted
from bluesky_em.files.tiled.node_metadata import replace_entries
from bluesky_em.files.tiled.nodes import IdempotentNode
from bluesky_em.files.tiled.row_map import KEY
from bluesky_em.files.tiled.storable import has_node, is_ragged
from bluesky_em.files.tiled.values import address_name
from bluesky_em.frame import Frame
from bluesky_em.reference import Reference

from ._event_tables import EventTables
from ._fallback import Column, Fallback
from ._frame_arrays import FrameArrays, key_of
from ._key_groups import KeyGroups
from ._later_node import LaterNode
from ._plugins import PluginsRunWriter, truncate_json_overflow


class _Runs(IdempotentNode):
    """The catalog, in which each run names the place of what is published about it."""

    def create_container(self, key: str, **kwargs: Any) -> IdempotentNode:
        """Create the run `key`, or return the existing one."""
        metadata = {**kwargs.pop("metadata"), KEY: _link(key)}
        return super().create_container(key, metadata=metadata, **kwargs)


class TiledRunWriter(PluginsRunWriter):
    """Collects a run's normalised documents; `flush` writes them to Tiled.

    Extends bluesky-tiled-plugins' run writer, which defines the layout. Added here: nodes and rows
    of an earlier attempt are found instead of created twice; documents are flushed on request, not
    by count; all frames of a detector in a stream form one array, whatever resources they belong
    to; the first one of each array is read back.

    After any error this object is unusable: create another and pass it the run's documents again.

    Args:
        client: the catalog.
        frames_of: returns our frames of a datum id, or of a stream datum's uid; none for other
            packages' data.
        root: the storage folder.
        fallback: what is left out, since Tiled has refused the run.
    """

    def __init__(
        self,
        client: Any,
        frames_of: Callable[[str], list[Frame]],
        root: Path,
        fallback: Fallback,
    ):
        super().__init__(_Runs(client))
        self._frames_of = frames_of
        self._root = root
        self._frame_arrays = FrameArrays(root)
        self._event_tables = EventTables()
        self._data_keys: dict[str, dict[str, Any]] = {}
        self._groups: dict[str, KeyGroups] = {}
        self._descriptors: dict[str, list[str]] = {}
        self._other_uids: dict[str, None] = {}
        self._other_uids_described = 0
        self._second_tables: dict[str, Any] = {}
        self._fallback = fallback
        self._writing = ""
        self._guilty: set[Column] = set()

    @property
    def columns(self) -> dict[Column, dict[str, Any]]:
        """The data keys of the stream that was being written when an error was raised.

        Those of our frames are not among them: they never give way.
        """
        ours = self._frame_arrays.detectors
        keys = self._data_keys.get(self._writing, {})
        return {(self._writing, key): about for key, about in keys.items() if key not in ours}

    @property
    def guilty(self) -> set[Column]:
        """Those of `columns` that caused the error, as far as it is known."""
        return self._guilty & self.columns.keys()

    def flush(self) -> None:
        """Write what was added since the last flush: first the files' new rows, then the events."""
        if len(self._other_uids) > self._other_uids_described:
            self._describe_run({})
        for document in self.collected_stream_data.values():
            self._writing, key = self._column_of(document)
            self._guilty = {(self._writing, key)}
            self.write_stream_datum(document)
        self.collected_stream_data.clear()
        step("feed: files registered")
        for stream, rows in self.collected_rows.items():
            if rows:
                self._writing, self._guilty = stream, set()
                groups = self._groups[stream]
                for number, group_rows in enumerate(groups.divide(rows)):
                    self.data_keys = dict(groups.groups[number][1])  # type: ignore (TypedDicts)
                    self.write_rows(group_rows, self._group_node(stream, number))
                rows.clear()
        self._writing = ""
        step("feed: events appended")

    def note_failed(self, frame: Frame, reason: str) -> None:
        """Record for readers that a frame's row has no data, and why."""
        self._frame_arrays.fail(frame, reason, self._data_keys_of(frame))

    @property
    def tables(self) -> dict[str, dict[str, int]]:
        """The entry `tables` of the manifest: which rows each table has."""
        return self._event_tables.summaries

    def check_rows(self) -> None:
        """Check which rows Tiled has in tables and arrays, when all have been written.

        Raises:
            RowsDiffer: others than it acknowledged; the next attempt puts it right.
        """
        self._event_tables.check()
        for array in self.event_arrays.values():
            array.check()  # type: ignore (they are `ReplayedRows`)

    def conclude(self, manifest: dict[str, Any]) -> None:
        """Write the run's manifest, with the state of its references, into its metadata."""
        self._frame_arrays.conclude(self.external_arrays)
        if self.root_node is not None:
            self._describe_run(manifest)

    def descriptor(self, doc: Any) -> None:
        """Create the stream's node, or add a later descriptor to it once."""
        name = doc["name"]
        self._data_keys.setdefault(name, {}).update(doc["data_keys"])
        self._descriptors.setdefault(name, []).append(doc["uid"])
        node = self.stream_nodes.get(name)
        updates: Any = node.metadata.get("_config_updates", []) if node is not None else []
        if any(update["uid"] == doc["uid"] for update in updates):
            self.stream_nodes[doc["uid"]] = self.stream_nodes[name]
        else:
            super().descriptor(doc)
        is_first = name not in self._groups
        if is_first:
            self._groups[name] = KeyGroups(doc["data_keys"])
        has_new_keys = not is_first and bool(self._groups[name].add(doc["data_keys"]))
        self._set_arrays(name, name, 0)
        self._describe_stream(doc, is_first=is_first, has_new_keys=has_new_keys)

    def event(self, doc: Any) -> None:
        """Add an event."""
        self._groups[self.stream_nodes[doc["descriptor"]].item["id"]].count()
        super().event(doc)

    def stream_resource(self, doc: Any) -> None:
        """Add a resource; a quoted URI of another package's file becomes one that Tiled reads."""
        super().stream_resource({**doc, "uri": unquoted(doc["uri"])})  # type: ignore (a TypedDict)

    def stop(self, doc: Any) -> None:
        """Write what is left, then the stop document."""
        self.flush()
        super().stop(doc)

    def stream_datum(self, doc: Any) -> None:
        """Add the rows of a stream datum."""
        frames = self._frames_of(doc["uid"])
        if not frames and self._fallback.leaves_out(self._column_of(doc)):
            return
        if frames:
            self._add_frames(frames, doc["descriptor"])
            start, stop = frames[0].rows.start, frames[-1].rows.stop
            key = key_of(frames[0])
            if key not in self.resources:
                resource = self.resources[doc["stream_resource"]]
                ours = {**resource, "uid": key, "uri": file_uri(self._root / frames[0].path)}
                self.resources[key] = ours
            doc = {**doc, "stream_resource": key}
            doc["indices"] = {"start": start, "stop": stop}
            doc["seq_nums"] = {"start": start + 1, "stop": stop + 1}
        super().stream_datum(doc)

    def get_sres_node(self, sres_uid: str, desc_uid: str | None = None) -> Any:
        """Find or create the array of a stream resource, or of all our frames in a stream."""
        if sres_uid in self._frame_arrays and sres_uid not in self.external_arrays:
            assert desc_uid is not None, "a stream datum has one"
            stream, resource = self.stream_nodes[desc_uid], self.resources[sres_uid]
            consolidator = self._frame_arrays.consolidator(sres_uid, resource, stream.metadata)
            # a follower that finds the node at once waits for the row map
            source = self._frame_arrays.source(sres_uid, consolidator)
            self.consolidators[sres_uid] = consolidator
            self.external_arrays[sres_uid] = stream.new(
                key=consolidator.data_key, structure_family=source.structure_family,
                data_sources=[source], metadata={}, specs=[], access_tags=self.access_tags,
            )  # fmt: skip
        return super().get_sres_node(sres_uid, desc_uid)

    def _add_frames(self, frames: list[Frame], descriptor: str) -> None:
        stream = self.stream_nodes[descriptor].item["id"]
        number = self._descriptors[stream].index(descriptor)
        for frame in frames:
            self._frame_arrays.add(frame, number, self._data_keys_of(frame))
            uid = Reference.parse(frame.reference).run
            if uid != frame.run:
                self._other_uids[uid] = None

    def write_stream_datum(self, doc: Any) -> None:
        """Write the rows of a stream datum; those of our frames are described, too."""
        key = doc["stream_resource"]
        if key not in self._frame_arrays:
            super().write_stream_datum(doc)
            return
        node, consolidator, patch = self.consolidate(doc)
        self._frame_arrays.write(
            key, node, consolidator, lambda source: self.set_data_source(node, source, patch)
        )
        stream, source = self.stream_nodes[doc["descriptor"]], consolidator.get_data_source()
        tags = self.access_tags
        self._frame_arrays.write_axes(key, stream, source, tags, self.set_data_source)

    def write_rows(self, rows: list[dict[str, Any]], stream: Any) -> None:
        for key, about in self.data_keys.items():
            if is_ragged(about):
                self._write_ragged(stream, key, [row.pop(key) for row in rows])
        try:
            super().write_rows(rows, stream)
        except (pyarrow.ArrowException, OverflowError):
            columns = {key for row in rows for key in row} & self.data_keys.keys()
            for key in columns:
                if not is_column([row.get(key) for row in rows], self.data_keys[key]):
                    self._guilty.add((self._writing, key))
            raise

    def _write_ragged(self, stream: Any, key: str, arrays: list[np.ndarray]) -> None:
        """Write arrays of several lengths; their type is known even if all are empty."""
        import awkward
        import ragged

        content = awkward.from_numpy(np.concatenate(arrays), regulararray=True)
        array: Any = ragged.array(awkward.unflatten(content, [len(each) for each in arrays]))
        name = f"{stream.item['id']}/{key}"
        node = self.event_arrays.get(name)
        if node is not None:
            node.patch(array, offset=node.shape[0], extend=True)
            return
        shape = (len(arrays), *self.data_keys[key]["shape"])
        self.event_arrays[name] = stream.write_ragged(
            array, key=key, metadata=truncate_json_overflow(self.data_keys[key]),
            dims=self.dims(stream.item["id"], shape), access_tags=self.access_tags,
        )  # fmt: skip

    def append_rows(self, table_node: Any, rows: Any, stream: str) -> None:
        """Append the missing rows; if the result is unknown, the next attempt checks it.

        A table of an earlier attempt may have other columns: what it lacks is in a second table.
        """
        node: Any = self.stream_nodes[stream]
        is_new = not node.found
        rows = rows.cast(column_types(rows.schema, self.data_keys))
        if self._fallback.is_needed and not is_new:
            more = [name for name in rows.column_names if name not in table_node.columns]
            if more:
                columns = rows.select(more)
                self._event_tables.append(self._second_table(node, table_node, columns), columns)
            rows = of_schema(rows, table_node.structure().arrow_schema_decoded)
        self._event_tables.append(table_node, rows, is_new=is_new)

    def _second_table(self, node: Any, first: Any, columns: Any) -> Any:
        key = f"{first.item['id']}_text"
        if key not in self._second_tables:
            self._second_tables[key] = node.create_appendable_table(
                schema=columns.schema, key=key, metadata={}, access_tags=self.access_tags
            )
        return self._second_tables[key]

    def _column_of(self, stream_datum: Any) -> Column:
        resource: Any = self.resources[stream_datum["stream_resource"]]
        return self.stream_nodes[stream_datum["descriptor"]].item["id"], resource["data_key"]

    def _group_node(self, stream: str, number: int) -> Any:
        """Return the stream's node for a group of keys; see `KeyGroups`."""
        if number == 0:
            return self.stream_nodes[stream]
        node = LaterNode(self.stream_nodes[stream], number)
        name = node.item["id"]
        if name not in self.stream_nodes:
            self.stream_nodes[name] = node
            self.share_dims(name, stream)
            self._set_arrays(name, stream, number)
        return node

    def _set_arrays(self, name: str, stream: str, number: int) -> None:
        """Set which keys of a group the run writer writes as arrays; it leaves complex ones out."""
        _, keys = self._groups[stream].groups[number]
        self.set_event_arrays(name, {key for key, about in keys.items() if has_node(about)})

    def _describe_stream(self, doc: Any, *, is_first: bool, has_new_keys: bool) -> None:
        """Complete the metadata of a stream's node, which may be of an earlier attempt."""
        node = self.stream_nodes[doc["name"]]
        if is_first and self._fallback.is_needed:
            replace_entries(node, data_keys=truncate_json_overflow(doc["data_keys"]))
        if has_new_keys or self._fallback.is_needed:
            later = self._groups[doc["name"]].later
            ours = doc.get(KEY, {}) | ({"later_keys": later} if later else {})
            replace_entries(node, **{KEY: ours})

    def _describe_run(self, manifest: dict[str, Any]) -> None:
        """Describe the run: its manifest, and the other uids that references to it have."""
        assert self.root_node is not None, "a run begins with its start document"
        self._other_uids_described = len(self._other_uids)
        uids = {"uids": " ".join(self._other_uids)} if self._other_uids else {}
        ours = {**_link(self.root_node.item["id"]), **manifest, **uids}
        replace_entries(self.root_node, **{KEY: ours})

    def _data_keys_of(self, frame: Frame) -> dict[str, Any]:
        return self._data_keys.get(address_name(frame.stream), {})


def _link(run: str) -> dict[str, str]:
    return {"results": results_container.path_about(run)}
