"""A Tiled server as a source of references, for PCs without the storage folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import xarray

from bluesky_em.axes import Axis
from bluesky_em.files import manifest
from bluesky_em.files.map_rows import MapRows
from bluesky_em.files.tiled import results_container
from bluesky_em.files.tiled.address import runs_of
from bluesky_em.files.tiled.row_map import (
    KEY,
    axes_at,
    find,
    lengths,
    read_update,
    reference_at,
    rows_taken,
)
from bluesky_em.files.tiled.stream_keys import streams
from bluesky_em.reference import Reference, ReferenceState

from ._frame_metadata import metadata_in_tiled
from ._reference_status import ReferenceStatus
from ._results import ResultStore
from ._stored_frame import StoredFrame
from ._superseded import superseded
from ._tiled_connection import TROUBLE, ask_until
from ._unknown_reference import unknown_in_run
from .follow import RunSource, RunsSource, TiledRun, TiledRuns, lost_bookmark


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Where a reference is in Tiled."""

    run: Any
    """the run's node"""
    stream: str
    node: Any
    """the stream's node"""
    array: Any
    """the array's node"""
    row: int

    @property
    def about(self) -> dict[str, Any]:
        """The array's row map."""
        return self.array.metadata[KEY]


class TiledSource:
    """A Tiled server, which knows a reference once it can be read.

    Args:
        client: returns the connected Tiled client.
    """

    poll = 0.2
    """time between two queries while waiting, s; a request costs the server about 10 ms"""

    def __init__(self, client: Callable[[], Any]):
        self._client = client

    def statuses(self, references: list[str]) -> list[ReferenceStatus]:
        """Return the status of each reference.

        Raises:
            UnknownReference: a run is complete and does not have it.
        """
        return [self._status(reference) for reference in references]

    def explain(self, status: ReferenceStatus) -> str:
        """Describe what a reference waits for, as far as Tiled shows it."""
        return (
            "not in Tiled (yet). To learn whether storage is slow or stuck, try "
            "`bluesky-em status` on the PC of the storage folder"
        )

    def full_uid(self, beginning: str) -> str:
        """Return the uid of the run that begins so; `beginning` if none does (yet).

        Raises:
            UnknownReference: several do.
        """
        return results_container.full_uid(self._client(), beginning)

    def run_complete(self, run: str) -> bool:
        """Return whether every reference of a run has ended, and its stop document has come."""
        try:
            return _is_complete(results_container.find_run(self._client(), run))
        except KeyError:
            return False

    def run_remark(self, run: str) -> str:
        """Return in words how complete a complete run is."""
        node = results_container.find_run(self._client(), run)
        return manifest.remark(node.metadata.get(KEY, {}))

    def open(self, reference: str) -> StoredFrame:
        """Open a catalogued frame; `read()` fetches its pixels over HTTP.

        The pixels of an update are fetched now: the next update may overwrite them.

        Raises:
            LookupError: it was an update, and its own values no longer exist.
        """
        found = self._find(reference)
        assert found is not None, "only a catalogued reference is opened"
        axes = axes_at(found.about["segments"], found.row)
        return StoredFrame(
            reference=reference, axes=axes,
            metadata=metadata_in_tiled(
                Reference.parse(reference).detector, found.row, found.about,
                found.run.metadata["start"], found.node.metadata,
            ),
            _read=self._reader(reference, found, axes),
        )  # fmt: skip

    def stream(self, run: str, stream: str) -> xarray.Dataset:
        """Open the stream of a complete run; pixels come over HTTP when they are used.

        Raises:
            LookupError: the run has no such stream.
        """
        from . import _stream  # importing dask takes long: only when it is needed

        return _stream.from_catalog(results_container.find_run(self._client(), run), run, stream)

    trouble = (*TROUBLE, httpx.HTTPError)
    """errors while the server is away"""

    def follow(self, run: str, streams: tuple[str, ...] | None, patience: float) -> RunSource:
        """Follow a run as it grows; to begin, and to read a frame, waits `patience` s for Tiled."""
        client = ask_until(
            time.monotonic() + patience, lambda: self._client().include_data_sources()
        )
        return TiledRun(client, run, streams, patience)

    def follow_runs(self, *, last: int, since: float | None, at: str) -> RunsSource:
        """Follow runs as they begin: first the `last` ones, those since a time, or from `at` on."""
        from tiled.queries import Key

        client = self._client()
        if at:
            uids = list(client)
            if at not in uids:
                raise lost_bookmark(at)
            return TiledRuns(client, uids.index(at))
        if since is not None:
            return TiledRuns(client, len(client.search(Key("start.time") < since)), since)
        count = len(client)
        first = max(0, count - last)
        if last and results_container.NAME in client.keys()[max(0, first - 1) : count]:
            first = max(0, first - 1)  # it is among the nodes, and no run
        return TiledRuns(client, first)

    def results(self, run: str) -> ResultStore:
        """Return the store of a run's results."""
        from ._tiled_results import TiledResults

        return TiledResults(self._client, run, self.trouble)

    def close(self) -> None:
        """Do nothing: the client belongs to `Data`."""

    def _status(self, reference: str) -> ReferenceStatus:
        found = self._find(reference)
        if found is None:
            run = self._raw_run(Reference.parse(reference).run)
            if run is not None and _is_complete(run):
                raise unknown_in_run(reference, _references(run))
            return ReferenceStatus(reference=reference, stage=None)
        reason = found.about["failed"].get(str(found.row))
        if reason is not None:
            return ReferenceStatus(reference=reference, stage=ReferenceState.FAILED, reason=reason)
        return ReferenceStatus(reference=reference, stage=ReferenceState.CATALOGUED)

    def _reader(self, reference: str, found: _Found, axes: tuple[Axis, ...]) -> Callable[[], Any]:
        update = found.about.get("update")
        if update is None:
            rows = MapRows(found.array) if "points" in found.about else found.array
            return lambda: rows[found.row]
        try:
            values = read_update(found.array, found.row, axes, update)
        except LookupError as exc:
            raise superseded(reference, update["mode"], found.stream) from exc
        return lambda: values

    def _find(self, reference: str) -> _Found | None:
        """Find a reference that can be read."""
        parts = Reference.parse(reference)
        run = self._raw_run(parts.run)
        if run is None:
            run = self._run_with(parts.run)
        if run is None:
            return None
        for stream, node in streams(run).items():
            array = node.base.get(parts.detector)
            if array is not None:
                about = array.metadata.get(KEY, {})
                row = find(about.get("segments", []), parts)
                if row is not None and row < _count(array):
                    return _Found(run=run, stream=stream, node=node, array=array, row=row)
        return None

    def _run_with(self, uid: str) -> Any:
        """Find the run whose references have another uid: several runs were open then."""
        from tiled.client.container import Container
        from tiled.queries import Contains

        # not the client's own `search`: bluesky-tiled-plugins' looks in the start document
        found = Container.search(runs_of(self._client()), Contains(f"{KEY}.uids", uid))
        return next(iter(found.values()), None)

    def _raw_run(self, uid: str) -> Any:
        """Return the run that has the frames of references; runs of results have none."""
        try:
            return runs_of(self._client())[uid]
        except KeyError:
            return None


def _references(run: Any) -> Iterator[str]:
    """Yield the first and the last reference of each part of each array of a run."""
    for node in streams(run).values():
        for detector, array in node.base.items():
            segments = array.metadata.get(KEY, {}).get("segments", [])
            begins = [each["row"] for each in segments]
            rows = lengths(segments, _count(array)) if segments else []
            ends = [begin + length for begin, length in zip(begins, rows, strict=True)]
            for row in [*begins, *(end - 1 for end in ends)]:
                yield reference_at(segments, detector, row)


def _count(array: Any) -> int:
    """Return the row after the last frame that an array has taken in."""
    about = array.metadata.get(KEY, {})
    if "update" in about:
        return about["update"]["count"]
    return rows_taken(array) if "points" in about else array.shape[0]


def _is_complete(run: Any) -> bool:
    return "stop" in run.metadata or bool(run.metadata.get(KEY, {}).get("abandoned"))
