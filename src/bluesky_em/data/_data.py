"""Data: wait for references and open them, in any process and on any PC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import xarray

from bluesky_em.errors import NotReady
from bluesky_em.files.layout import Layout
from bluesky_em.reference import ReferenceState

from ._catalog import Catalog
from ._folder_source import FolderSource
from ._full_names import full_reference, full_uid
from ._reference_status import ReferenceStatus
from ._result_exchange import ResultExchange
from ._results import Results
from ._stored_frame import StoredFrame
from ._tiled_connection import ask_until
from ._tiled_source import TiledSource
from ._waiting import OnFailed, Waiting, is_done
from .follow import Bookmark, RunFollower, RunsFollower

REQUEST_TIMEOUT = 10.0  # seconds
PATIENCE = 3600.0  # seconds that a follower waits for the next point or run


class Data:
    """The reading side.

    Usage:
        data = Data("http://tiled-host:8000", api_key="…")   # any PC
        data = Data(storage="~/em-data")                     # a PC that has the storage folder
        data.wait(reference)
        data.open(reference).read()

    With a storage folder, states come from its ledger and frames from its files; without one,
    everything comes over HTTP from Tiled: each method raises `TiledUnreachable` when it does not
    answer, `TiledFailed` when it answers with an error of its own, and `TiledRefused` when it
    refuses the key. Of a run's uid its beginning is enough, wherever a run or a reference is given,
    if no other run begins so.

    Args:
        tiled: address of the Tiled server; with `storage`, defaults to the embedded one.
        api_key: its key; defaults to the environment's TILED_API_KEY, or to the embedded server's
            key for reading.
        storage: the storage folder.
        timeout: in which Tiled must answer a request, s; what waits longer, as `wait` and `follow`
            do, asks again.

    Raises:
        ValueError: neither `tiled` nor `storage` was given.
    """

    def __init__(
        self,
        tiled: str | None = None,
        *,
        api_key: str | None = None,
        storage: str | Path | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ):
        if tiled is None and storage is None:
            raise ValueError("Data needs a Tiled address, a storage folder, or both")
        layout = Layout.of(storage) if storage else None
        self._catalog = Catalog(tiled, api_key, layout, timeout)
        in_tiled = TiledSource(self._catalog.connect_now)
        self._source: FolderSource | TiledSource = FolderSource(layout.root) if layout else in_tiled
        self._waiting = Waiting(self._source)
        sources = [self._source, in_tiled] if layout else [in_tiled]
        self._exchange = ResultExchange([source.results for source in sources])

    @property
    def catalog(self) -> Any:
        """The plain Tiled client, in which runs are bluesky-tiled-plugins' `BlueskyRun`.

        Raises:
            NotReady: the embedded server has not started within 180 s.
        """
        return self._catalog.connect()

    @property
    def results_catalog(self) -> Any:
        """The plain Tiled client of the catalog's container `results`, for what analysts add.

        Runs of results are in it, by uid, and what is published about a run, as `about-<uid>`.

        Raises:
            NotReady: the embedded server has not started within 180 s.
            KeyError: the catalog has no such container yet.
        """
        from bluesky_em.files.tiled import results_container

        return results_container.find(self.catalog)

    def status(self, reference: str) -> ReferenceStatus:
        """Return the status of a reference, without waiting.

        Raises:
            UnknownReference: no run has handed it out, or it is not a reference.
            TiledUnreachable: over HTTP: Tiled does not answer.
        """
        return self._source.statuses([full_reference(reference, self._source.full_uid)])[0]

    def open(self, reference: str) -> StoredFrame:
        """Open a frame.

        Raises:
            NotReady: it cannot be read yet.
            ReferenceFailed: the frame is lost; the message gives the reason.
            UnknownReference: no run has handed it out.
            LookupError: it was added to other frames, or a newer frame has replaced it.
        """
        status = self.status(reference)
        if not is_done(status, ReferenceState.STORED, "raise"):
            raise NotReady(f"{status}; {self._source.explain(status)}. `data.wait` waits for it")
        return self._source.open(status.reference)

    def stream(self, run: str, name: str = "primary") -> xarray.Dataset:
        """Open one stream of a run completely: the values in its events, and our frames.

        Usage:
            spectra = data.stream(run_uid)
            spectra.eels.sel(energy=slice(400, 600)).sum("energy").plot()

        Frames are read by dask, in blocks of some MB, only when they are plotted or used in a
        computation. Scalars lie along `time`, frames along `time` and their own axes, maps along
        `y`, `x` and their own axes. Where detectors have different axes of one name, the detector
        comes first: `haadf_x`. Each variable has its `units`; `start` and `configuration` are
        attributes, as JSON text. Frames of other packages' detectors: see `catalog`.

        Args:
            run: its uid.
            name: of the stream.

        Raises:
            NotReady: the run is not complete.
            UnknownReference: there is no such run (over HTTP: `NotReady`, it may still come).
            LookupError: the run has no such stream; the message lists its streams.
        """
        run = full_uid(run, self._source.full_uid)
        if not self._source.run_complete(run):
            status = ReferenceStatus(reference=run, stage=None)
            raise NotReady(
                f"run {run} is not complete: {self._source.explain(status)}. "
                f"`data.wait({run!r})` waits for it"
            )
        return self._source.stream(run, name)

    @overload
    def follow(
        self, run: None = ..., *, streams: str | Sequence[str] | None = ...,
        latest_only: bool = ..., last: int = ..., since: float | None = ...,
        patience: float = ..., bookmark: str | Path | None = ...,
    ) -> RunsFollower: ...  # fmt: skip

    @overload
    def follow(
        self, run: str, *, streams: str | Sequence[str] | None = ...,
        latest_only: bool = ..., last: int = ..., since: float | None = ...,
        patience: float = ..., bookmark: str | Path | None = ...,
    ) -> RunFollower: ...  # fmt: skip

    def follow(
        self, run: str | None = None, *, streams: str | Sequence[str] | None = "primary",
        latest_only: bool = False, last: int = 0, since: float | None = None,
        patience: float = PATIENCE, bookmark: str | Path | None = None,
    ) -> RunFollower | RunsFollower:  # fmt: skip
        """Follow runs as they begin, or one run from its first point to its end.

        Usage:
            for run in data.follow():
                for point in run:
                    print(point.seq_num, point.data["eels-total"], point.references["eels"])
                    spectrum = point.open("eels").read()
                print(run.end.status, run.end.reason)

        Each point comes once, when everything it refers to can be read. A follower that begins in
        the middle of a run, or after it, receives the same points in the same order; while the
        server is away, it waits. A slow follower delays no other client and no plan.

        Args:
            run: its uid; it may begin later; None: all runs that begin from now on.
            streams: the name of one stream; several names: points of the same index come
                together, as a tuple; None: all streams, each in its own order.
            latest_only: return the newest point each time; its `skipped` counts the points
                that were left out.
            last: with `run=None`, begin with this number of existing runs.
            since: with `run=None`, begin with the runs since this time, s since the epoch.
            patience: raise NotReady when nothing new has come for this number of seconds; reading
                a point's frame waits for the same time for a server that is away.
            bookmark: a file that records which points are done; a follower that is started again
                with the same file, also after a kill, continues there.

        Raises:
            NotReady: see `patience`; the message says what has come, and what is away.
            TiledUnreachable: Tiled has not answered for `patience` seconds when this begins.
            UnknownReference: the bookmark's run is not here (any more).
            ValueError: `bookmark` is another kind of file, or `streams` is empty.
        """
        several = [streams] if isinstance(streams, str) else streams
        names = None if several is None else tuple(several)
        if names == ():
            raise ValueError("give the streams to follow, e.g. streams='primary'; None: all")
        mark = Bookmark(Path(bookmark)) if bookmark is not None else None

        def one(uid: str) -> RunFollower:
            return RunFollower(
                self._source.follow(uid, names, patience), streams=names, latest_only=latest_only,
                patience=patience, trouble=self._source.trouble, bookmark=mark,
            )  # fmt: skip

        deadline = time.monotonic() + patience
        if run is not None:
            return one(ask_until(deadline, lambda: full_uid(run, self._source.full_uid)))
        at = mark.run if mark else ""
        runs = ask_until(deadline, lambda: self._source.follow_runs(last=last, since=since, at=at))
        return RunsFollower(
            runs, one, patience=patience, trouble=self._source.trouble, bookmark=mark
        )

    def publish(self, of: str, name: str, value: Any) -> None:
        """Publish a result of an analysis, for the run's plan.

        A plan that is wrapped in `plan_stubs.stop_when`, or that calls `wait_for_result`, has it
        at its next point. Publishing a name again replaces its value.

        Args:
            of: the uid of a run, or a reference.
            name: e.g. "aligned".
            value: a number, a string, True, False, None, or lists and mappings of these.

        Raises:
            ValueError: `of` or `name` is empty.
            TypeError: `value` is of another type.
            UnknownReference: there is no such run (yet), in the folder or in Tiled.
            PermissionError: the key may not add results; the message names the key that may.
        """
        full = full_reference if "/" in str(of) else full_uid
        self._exchange.publish(full(of, self._source.full_uid), name, value)

    def results(self, run: str) -> Results:
        """Return the results published for a run, from anywhere; new ones are added as they come.

        The threads that receive them serve the three runs that were requested last.
        """
        return self._exchange.results(full_uid(run, self._source.full_uid))

    @overload
    def wait(  # type: ignore[reportOverlappingOverload] (a str is a Sequence[str], too)
        self, references: str, *, until: ReferenceState | str = ..., timeout: float = ...,
        any: bool = ..., failed: OnFailed = ..., progress: bool = ...,
    ) -> ReferenceStatus: ...  # fmt: skip

    @overload
    def wait(
        self, references: Sequence[str], *, until: ReferenceState | str = ..., timeout: float = ...,
        any: bool = ..., failed: OnFailed = ..., progress: bool = ...,
    ) -> list[ReferenceStatus]: ...  # fmt: skip

    def wait(
        self,
        references: str | Sequence[str],
        *,
        until: ReferenceState | str = ReferenceState.CATALOGUED,
        timeout: float = 60.0,
        any: bool = False,  # noqa: A002 (as in `any(...)`)
        failed: OnFailed = "raise",
        progress: bool = False,
    ) -> ReferenceStatus | list[ReferenceStatus]:
        """Wait for a reference, for several, or for a whole run.

        Args:
            references: one reference, several, or the uid of a run (until it is complete).
            until: "stored" or "catalogued".
            timeout: in s.
            any: of several, return as soon as one is done; only those that are done are returned.
            failed: "return" counts a failed reference as done instead of raising.
            progress: show a progress bar.

        Returns:
            The status of the reference, or the statuses of several.

        Raises:
            NotReady: not done within `timeout`; the message gives the state it has reached, and
                whether storage is slow or stuck.
            ReferenceFailed: the frame is lost; the message gives the reason.
            UnknownReference: no run has handed it out.
            TiledUnreachable: Tiled was still away after `timeout`.
        """
        until = ReferenceState(until)
        is_one = isinstance(references, str)
        if is_one and "/" not in references:
            return self._waiting.for_run(references, timeout)
        done = self._waiting.for_references(
            [references] if is_one else list(references), until, timeout,
            first_only=any, failed=failed, progress=progress,
        )  # fmt: skip
        return done[0] if is_one else done

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until every reference in the storage folder is catalogued or has failed.

        Raises:
            NotReady: that took longer than `timeout` seconds.
            RuntimeError: this Data has no storage folder.
        """
        if not isinstance(self._source, FolderSource):
            raise RuntimeError(
                "only a Data with the storage folder knows all its references: Data(storage=...)"
            )
        self.wait(self._source.unfinished(), timeout=timeout, failed="return")

    async def wait_async(self, references: Any, **options: Any) -> Any:
        """Await what `wait` waits for, with the same arguments."""
        return await asyncio.to_thread(self.wait, references, **options)

    def close(self) -> None:
        """Close files and connections and end all threads; closing twice is harmless."""
        self._exchange.close()
        self._source.close()
        self._catalog.close()
