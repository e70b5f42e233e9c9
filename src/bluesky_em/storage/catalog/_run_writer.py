"""Write one run to Tiled; every repetition gives the same result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from bluesky_tiled_plugins.writing.tiled_writer import _RunWriter

from bluesky_em.acquisition.instrument_pc.faults import step
from bluesky_em.files.tiled.columns import column_types
from bluesky_em.files.tiled.nodes import IdempotentNode
from bluesky_em.files.tiled.row_map import KEY, RowMap
from bluesky_em.frame import Frame
from bluesky_em.reference import Reference

from ._key_groups import KeyGroups
from ._later_node import LaterNode
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
    """

    def __init__(
        self, client: Any, frames_of: Callable[[str], list[Frame]], uri_of: Callable[[str], str]
    ):
        super().__init__(IdempotentNode(client), batch_size=sys.maxsize)  # type: ignore
        self._frames_of = frames_of
        self._uri_of = uri_of
        self._maps: dict[str, RowMap] = {}
        self._rows_found: dict[str, int] = {}
        self._rows_given: dict[str, int] = {}
        self._tables: dict[str, Any] = {}
        self._data_keys: dict[str, dict[str, Any]] = {}
        self._groups: dict[str, KeyGroups] = {}
        self._descriptors: dict[str, list[str]] = {}
        self._other_uids: dict[str, None] = {}
        self._other_uids_described = 0

    def flush(self) -> None:
        """Write what was added since the last flush: first the files' new rows, then the events."""
        if len(self._other_uids) > self._other_uids_described:
            self._describe_run({})
        for document in self._external_data_cache.values():
            self._write_external_data(document)
        self._external_data_cache.clear()
        step("feed: files registered")
        for stream, rows in self._internal_data_cache.items():
            if rows:
                self.data_keys = dict(self._data_keys[stream])  # other streams may have others
                for number, group in enumerate(self._groups[stream].divide(rows)):
                    self._write_internal_data(group, self._group_node(stream, number))
                rows.clear()
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
        for key, rows in self._maps.items():
            if rows.is_behind and key in self._sres_nodes:
                _describe(self._sres_nodes[key], rows.dump())
        if self.root_node is not None:
            self._describe_run(manifest)

    def descriptor(self, doc: Any) -> None:
        """Create the stream's node, or add a later descriptor to it once."""
        name = doc["name"]
        self._data_keys.setdefault(name, {}).update(doc["data_keys"])
        self._descriptors.setdefault(name, []).append(doc["uid"])
        node = self._desc_nodes.get(name)
        updates: Any = node.metadata.get("_config_updates", []) if node is not None else []
        if any(update["uid"] == doc["uid"] for update in updates):
            self._desc_nodes[doc["uid"]] = self._desc_nodes[name]
        else:
            super().descriptor(doc)
        if name not in self._groups:
            self._groups[name] = KeyGroups(doc["data_keys"])
        elif self._groups[name].add(doc["data_keys"]):
            later = {**doc.get(KEY, {}), "later_keys": self._groups[name].later}
            _describe(self._desc_nodes[name], later)

    def event(self, doc: Any) -> None:
        """Add an event."""
        self._groups[self._desc_nodes[doc["descriptor"]].item["id"]].count()
        super().event(doc)

    def stop(self, doc: Any) -> None:
        """Write what is left, then the stop document."""
        self.flush()
        super().stop(doc)

    def stream_datum(self, doc: Any) -> None:
        """Add the rows of a stream datum."""
        frames = self._frames_of(doc["uid"])
        if frames:
            descriptor = self._descriptors[frames[0].stream].index(doc["descriptor"])
            for frame in frames:
                self._map_of(frame).add(frame, descriptor)
                uid = Reference.parse(frame.reference).run
                self._other_uids |= {} if uid == frame.run else {uid: None}
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
        about = rows.dump() if rows is not None and rows.changed else None
        if about is not None and not isinstance(rows, UpdateMap):
            # before the rows: a client that sees a row must find its reference
            _describe(node, about)
        source = consolidator.get_data_source()
        if rows is not None:  # a follower of the array waits for a row map of this size
            source.properties = {**source.properties, **rows.size}
        self._update_data_source_for_node(node, source, patch)
        if about is not None and isinstance(rows, UpdateMap):
            # after the array: an update that is counted must be readable
            _describe(node, about)

    def _append_with_retry(self, df_client: Any, table: Any, desc_name: str) -> None:
        """Append the missing rows; if the result is unknown, the next attempt checks it."""
        key = df_client.uri  # a stream of many columns has several tables
        self._tables[key] = df_client
        if key not in self._rows_found:
            found = bool(self._desc_nodes[desc_name].found)  # type: ignore (an IdempotentNode)
            self._rows_found[key] = _rows_of(df_client) if found else 0
        given = self._rows_given.get(key, 0)
        self._rows_given[key] = given + table.num_rows
        table = table.slice(max(0, self._rows_found[key] - given))
        if table.num_rows:
            df_client.append_partition(0, table.cast(column_types(table.schema, self.data_keys)))

    def _group_node(self, stream: str, number: int) -> Any:
        """Return the stream's node for a group of keys; see `KeyGroups`."""
        if number == 0:
            return self._desc_nodes[stream]
        node = LaterNode(self._desc_nodes[stream], number)
        name = node.item["id"]
        if name not in self._desc_nodes:
            self._desc_nodes[name] = node  # type: ignore (it is one to the run writer)
            _, keys = self._groups[stream].groups[number]
            self._int_array_keys[name], self._int_ragged_array_keys[name] = node.arrays(keys)
        return node

    def _describe_run(self, manifest: dict[str, Any]) -> None:
        """Describe the run: its manifest, and the other uids that references to it have."""
        assert self.root_node is not None, "a run begins with its start document"
        self._other_uids_described = len(self._other_uids)
        uids = {"uids": " ".join(self._other_uids)} if self._other_uids else {}
        _describe(self.root_node, {**manifest, **uids})

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
