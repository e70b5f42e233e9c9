"""The private parts of bluesky-tiled-plugins that this package uses, under public names.

Its run writer defines how a run looks in Tiled, and it is private. No other module names anything
private of it; so this one is what a new version is compared with. The version is pinned exactly.
Which hooks would make this module unnecessary: docs/explanations/hooks-for-a-resumable-feed.md.
"""

from __future__ import annotations

import sys
from typing import Any

from bluesky_tiled_plugins.utils import truncate_json_overflow
from bluesky_tiled_plugins.writing.consolidators import (
    HDF5Consolidator,
    Patch,
    consolidator_factory,
)
from bluesky_tiled_plugins.writing.tiled_writer import RunNormalizer, _RunWriter

__all__ = [
    "HDF5Consolidator", "Patch", "PluginsNormalizer", "PluginsRunWriter", "consolidator_factory",
    "truncate_json_overflow",
]  # fmt: skip


class PluginsRunWriter(_RunWriter):
    """The run writer, which collects documents and writes them on request.

    Args:
        client: the catalog.
    """

    _desc_nodes: Any
    _sres_nodes: Any
    _internal_arrays: Any

    def __init__(self, client: Any):
        super().__init__(client, batch_size=sys.maxsize)

    @property
    def stream_nodes(self) -> dict[str, Any]:
        """The streams' nodes, by name and by the uid of each descriptor."""
        return self._desc_nodes

    @property
    def external_arrays(self) -> dict[str, Any]:
        """The nodes of arrays in files, by the uid of their stream resource."""
        return self._sres_nodes

    @property
    def event_arrays(self) -> dict[str, Any]:
        """The nodes of arrays that are in events, by `<stream>/<data key>`."""
        return self._internal_arrays

    @property
    def resources(self) -> dict[str, Any]:
        """The stream resources, by uid."""
        return self._stream_resource_cache  # type: ignore (TypedDicts)

    @property
    def consolidators(self) -> dict[str, Any]:
        """How the files of each stream resource form an array, by its uid."""
        return self._consolidators

    @property
    def collected_rows(self) -> dict[str, list[dict[str, Any]]]:
        """The events that have not been written, by stream, each as a row."""
        return self._internal_data_cache

    @property
    def collected_stream_data(self) -> dict[str, Any]:
        """The stream datums that have not been written, by the uid of their stream resource."""
        return self._external_data_cache  # type: ignore (TypedDicts)

    def set_event_arrays(self, stream: str, keys: set[str]) -> None:
        """Set which data keys of a stream are written as arrays; none as ragged ones."""
        self._int_array_keys[stream] = keys
        self._int_ragged_array_keys[stream] = set()

    def dims(self, stream: str, shape: tuple[int | None, ...]) -> tuple[str, ...]:
        """Return the names of the dimensions of an array that is in events."""
        return self._internal_dims(stream, shape)

    def share_dims(self, stream: str, other: str) -> None:
        """Name the dimensions of a stream's arrays as those of another's."""
        self._int_dims_names[stream] = self._int_dims_names[other]

    def write_rows(self, rows: list[dict[str, Any]], stream: Any) -> None:
        """Write events to the arrays and tables of a stream's node."""
        self._write_internal_data(rows, stream)

    def append_rows(self, table_node: Any, rows: Any, stream: str) -> None:
        """Append rows to a table of a stream."""
        super()._append_with_retry(table_node, rows, stream)

    def write_stream_datum(self, doc: Any) -> None:
        """Write the rows of a stream datum."""
        super()._write_external_data(doc)

    def consolidate(self, doc: Any) -> tuple[Any, Any, Patch]:
        """Add a stream datum; return its array's node and consolidator, and what it changes."""
        return self._update_consolidator(doc)

    def set_data_source(self, node: Any, source: Any, patch: Patch | None = None) -> None:
        """Send to Tiled which files and which shape an array has now."""
        super()._update_data_source_for_node(node, source, patch)

    def _append_with_retry(self, df_client: Any, table: Any, desc_name: str) -> None:
        self.append_rows(df_client, table, desc_name)

    def _write_external_data(self, doc: Any) -> None:
        self.write_stream_datum(doc)

    def _update_data_source_for_node(
        self, node: Any, data_source: Any, patch: Patch | None = None
    ) -> None:
        self.set_data_source(node, data_source, patch)


class PluginsNormalizer(RunNormalizer):
    """The normaliser of documents, which can forget references that nothing explains."""

    def take_unexplained_references(self) -> list[Any]:
        """Return the references without a datum document, and forget them.

        Each has `datum_id`, `data_key` and `seq_num`.
        """
        missing = [ref for ref in self._ext_ref_cache if ref.datum_id not in self._datum_cache]
        self._ext_ref_cache = [ref for ref in self._ext_ref_cache if ref not in missing]
        return missing
