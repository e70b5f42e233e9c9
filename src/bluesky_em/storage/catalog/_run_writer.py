"""Write one run to Tiled; every repetition gives the same result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow
from bluesky_tiled_plugins.utils import truncate_json_overflow
from bluesky_tiled_plugins.writing.tiled_writer import _RunWriter

from bluesky_em.acquisition.instrument_pc.faults import step
from bluesky_em.files.tiled.columns import column_types, is_column, of_schema
from bluesky_em.files.tiled.nodes import IdempotentNode
from bluesky_em.files.tiled.row_map import KEY, RowMap
from bluesky_em.files.tiled.storable import has_node, is_ragged
from bluesky_em.frame import Frame

from ._fallback import Column, Fallback
from ._updates import UpdateMap, UpdatesConsolidator


class TiledRunWriter(_RunWriter):
    """Collects a run's normalised documents; `flush` writes them to Tiled.

    Extends bluesky-tiled-plugins' run writer (private; its version is pinned, and tests cover it),
    which defines the layout. Added here: nodes and rows of an earlier attempt are found instead of
    created twice; documents are flushed on request, not by count; all frames of a detector in a
    stream form one array, whatever resources they belong to.

    After any error this object is unusable: create another and pass it the run's documents again.

    Args:
        client: the catalog.
        frames_of: returns our frames of a datum id, or of a stream datum's uid; none for other
            packages' data.
        uri_of: returns the URI of a path in the storage folder.
        fallback: what is left out, since Tiled has refused the run.
    """

    def __init__(
        self,
        client: Any,
        frames_of: Callable[[str], list[Frame]],
        uri_of: Callable[[str], str],
        fallback: Fallback,
    ):
        super().__init__(IdempotentNode(client), batch_size=sys.maxsize)  # type: ignore
        self._frames_of = frames_of
        self._uri_of = uri_of
        self._maps: dict[str, RowMap] = {}
        self._rows_found: dict[str, int] = {}
        self._rows_given: dict[str, int] = {}
        self._tables: dict[str, Any] = {}
        self._data_keys: dict[str, dict[str, Any]] = {}
        self._fallback = fallback
        self._writing = ""
        self._guilty: set[Column] = set()

    @property
    def columns(self) -> dict[Column, dict[str, Any]]:
        """The data keys of the stream that was being written when an error was raised.

        Those of our frames are not among them: they never give way.
        """
        ours = {key.rpartition("/")[2] for key in self._maps}
        keys = self._data_keys.get(self._writing, {})
        return {(self._writing, key): about for key, about in keys.items() if key not in ours}

    @property
    def guilty(self) -> set[Column]:
        """Those of `columns` that caused the error, as far as it is known."""
        return self._guilty & self.columns.keys()

    def flush(self) -> None:
        """Write what was added since the last flush: first the files' new rows, then the events."""
        for document in self._external_data_cache.values():
            self._writing, key = self._column_of(document)
            self._guilty = {(self._writing, key)}
            self._write_external_data(document)
        self._external_data_cache.clear()
        step("feed: files registered")
        for stream, rows in self._internal_data_cache.items():
            if rows:
                self._writing, self._guilty = stream, set()
                self.data_keys = dict(self._data_keys[stream])  # other streams may have others
                self._write_internal_data(rows, self._desc_nodes[stream])
                rows.clear()
        self._writing = ""
        step("feed: events appended")

    def note_failed(self, frame: Frame, reason: str) -> None:
        """Record for readers that a frame's row has no data, and why."""
        self._map_of(frame).fail(frame, reason)

    def conclude(self, manifest: dict[str, Any]) -> None:
        """Write the run's manifest, with the state of its references, into its metadata.

        Raises:
            RuntimeError: events that Tiled acknowledged are missing. (A Tiled 0.2.20 server other
                than the embedded one shares a DuckDB connection between threads: a read may roll
                an append back.) The next attempt adds them.
        """
        for uri, table in self._tables.items():
            found, acknowledged = _rows_of(table), self._rows_given[uri]
            if found < acknowledged:
                raise RuntimeError(
                    f"Tiled acknowledged {acknowledged} events of {uri}, but has {found}"
                )
        if self.root_node is not None:
            _describe(self.root_node, manifest)

    def descriptor(self, doc: Any) -> None:
        """Create the stream's node, or add a later descriptor to it once."""
        self._data_keys.setdefault(doc["name"], {}).update(doc["data_keys"])
        node = self._desc_nodes.get(doc["name"])
        updates: Any = node.metadata.get("_config_updates", []) if node is not None else []
        if any(update["uid"] == doc["uid"] for update in updates):
            self._desc_nodes[doc["uid"]] = self._desc_nodes[doc["name"]]
        else:
            super().descriptor(doc)
        self._int_ragged_array_keys[doc["name"]].clear()  # written by `_write_ragged`
        for key, about in doc["data_keys"].items():
            if "external" not in about and has_node(about):  # also arrays of complex numbers
                self._int_array_keys[doc["name"]].add(key)
        if self._fallback.is_needed:  # the node may be of an earlier attempt
            metadata = {"data_keys": truncate_json_overflow(doc["data_keys"])}
            self._desc_nodes[doc["uid"]].update_metadata(metadata=metadata, drop_revision=True)

    def stream_datum(self, doc: Any) -> None:
        """Add the rows of a stream datum."""
        frames = self._frames_of(doc["uid"])
        if not frames and self._fallback.leaves_out(self._column_of(doc)):
            return
        if frames:
            for frame in frames:
                self._map_of(frame).add(frame)
            start, stop = frames[0].rows.start, frames[-1].rows.stop
            key = _key(frames[0])
            if key not in self._stream_resource_cache:
                resource = self._stream_resource_cache[doc["stream_resource"]]
                ours = {**resource, "uid": key, "uri": self._uri_of(frames[0].path)}
                self._stream_resource_cache[key] = ours  # type: ignore
            doc = {**doc, "stream_resource": key}
            doc["indices"] = {"start": start, "stop": stop}
            doc["seq_nums"] = {"start": start + 1, "stop": stop + 1}
        super().stream_datum(doc)

    def get_sres_node(self, sres_uid: str, desc_uid: str | None = None) -> Any:
        """Find or create the array; the shape of one that updates change comes from the updates."""
        updates = self._maps.get(sres_uid)
        if isinstance(updates, UpdateMap) and sres_uid not in self._sres_nodes:
            assert desc_uid is not None, "a stream datum has one"
            stream, resource = self._desc_nodes[desc_uid], self._stream_resource_cache[sres_uid]
            consolidator = UpdatesConsolidator(resource, stream.metadata, updates)
            source = consolidator.get_data_source()
            self._consolidators[sres_uid] = consolidator
            self._sres_nodes[sres_uid] = stream.new(
                key=consolidator.data_key, structure_family=source.structure_family,
                data_sources=[source], metadata={}, specs=[], access_tags=self.access_tags,
            )  # fmt: skip
        return super().get_sres_node(sres_uid, desc_uid)

    def _write_external_data(self, doc: Any) -> None:
        node, consolidator, patch = self._update_consolidator(doc)
        rows = self._maps.get(doc["stream_resource"])
        if rows is not None and rows.changed and not isinstance(rows, UpdateMap):
            # before the rows: a client that sees a row must find its reference
            _describe(node, rows.dump())
        source = consolidator.get_data_source()
        if rows is not None:  # a follower of the array waits for a row map of this size
            source.properties = {**source.properties, **rows.size}
        self._update_data_source_for_node(node, source, patch)
        if isinstance(rows, UpdateMap):
            # after the array: an update that is counted must be readable
            _describe(node, rows.dump())

    def _write_internal_data(self, data_cache: list[dict[str, Any]], desc_node: Any) -> None:
        stream = desc_node.item["id"]
        for key, about in self.data_keys.items():
            if "external" not in about and is_ragged(about):
                self._write_ragged(desc_node, key, [row.pop(key) for row in data_cache])
        try:
            super()._write_internal_data(data_cache, desc_node)
        except (pyarrow.ArrowException, OverflowError):
            columns = {key for row in data_cache for key in row} & self.data_keys.keys()
            for key in columns:
                if not is_column([row.get(key) for row in data_cache], self.data_keys[key]):
                    self._guilty.add((stream, key))
            raise

    def _write_ragged(self, stream: Any, key: str, arrays: list[np.ndarray]) -> None:
        """Write arrays of several lengths; their type is known even if all are empty."""
        import awkward
        import ragged

        content = awkward.from_numpy(np.concatenate(arrays), regulararray=True)
        array: Any = ragged.array(awkward.unflatten(content, [len(each) for each in arrays]))
        name = f"{stream.item['id']}/{key}"
        node = self._internal_arrays.get(name)
        if node is not None:
            node.patch(array, offset=node.shape[0], extend=True)
            return
        shape = (len(arrays), *self.data_keys[key]["shape"])
        self._internal_arrays[name] = stream.write_ragged(
            array, key=key, metadata=truncate_json_overflow(self.data_keys[key]),
            dims=self._internal_dims(stream.item["id"], shape), access_tags=self.access_tags,
        )  # fmt: skip

    def _append_with_retry(self, df_client: Any, table: Any, desc_name: str) -> None:
        """Append the missing rows; if the result is unknown, the next attempt checks it.

        A table of an earlier attempt may have other columns: what it lacks is in a second table.
        """
        found = bool(self._desc_nodes[desc_name].found)  # type: ignore (an IdempotentNode)
        table = table.cast(column_types(table.schema, self.data_keys))
        if found and self._fallback.is_needed:
            more = [name for name in table.column_names if name not in df_client.columns]
            if more:
                self._append(self._second_table(desc_name, table.select(more)), table.select(more))
            table = of_schema(table, df_client.structure().arrow_schema_decoded)
        self._append(df_client, table, found)

    def _second_table(self, stream: str, table: Any) -> Any:
        name = f"{stream}/internal_text"
        if name not in self._internal_tables:
            self._internal_tables[name] = self._desc_nodes[stream].create_appendable_table(
                schema=table.schema, key="internal_text", metadata={}, access_tags=self.access_tags
            )
        return self._internal_tables[name]

    def _append(self, df_client: Any, table: Any, found: bool = True) -> None:
        key = df_client.uri  # a stream of many columns has several tables
        self._tables[key] = df_client
        if key not in self._rows_found:
            self._rows_found[key] = _rows_of(df_client) if found else 0
        given = self._rows_given.get(key, 0)
        self._rows_given[key] = given + table.num_rows
        table = table.slice(max(0, self._rows_found[key] - given))
        if table.num_rows:
            df_client.append_partition(0, table)

    def _column_of(self, stream_datum: Any) -> Column:
        resource: Any = self._stream_resource_cache[stream_datum["stream_resource"]]
        return self._desc_nodes[stream_datum["descriptor"]].item["id"], resource["data_key"]

    def _map_of(self, frame: Frame) -> RowMap:
        key = _key(frame)
        if key not in self._maps:
            self._maps[key] = RowMap() if frame.update is None else UpdateMap(frame)
        return self._maps[key]


def _key(frame: Frame) -> str:
    return f"{frame.stream}/{frame.detector}"


def _rows_of(table: Any) -> int:
    """Return the number of a table's rows, reading one column only."""
    return len(table.read(table.columns[:1]))


def _describe(node: Any, what: dict[str, Any]) -> None:
    """Replace our metadata of a node; `update_metadata` would keep old entries."""
    patch = [{"op": "add", "path": f"/{KEY}", "value": what}]
    node.patch_metadata(metadata_patch=patch, drop_revision=True)
