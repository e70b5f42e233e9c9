"""Data: wait for references, open them, from any process and any PC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import httpx
import xarray

from bluesky_em.errors import NotReady, ReferenceFailed, UnknownReference
from bluesky_em.files.layout import Layout
from bluesky_em.files.results import Result
from bluesky_em.files.tiled.address import address_of
from bluesky_em.reference import Reference, ReferenceState

from ._folder_source import FolderSource
from ._progress import progress_bar
from ._reference_status import ReferenceStatus
from ._results import Results, ResultStore
from ._stored_frame import StoredFrame
from ._tiled_source import TiledSource
from .follow import Bookmark, RunFollower, RunsFollower

TILED_START = 60.0  # seconds; it takes 10-15
PATIENCE = 3600.0  # seconds that a follower waits for something new
HEARD = 3  # runs, the last ones asked about, whose results are listened for


class Data:
    """The reading side.

    Usage:
        data = Data("http://tiled-host:8000", api_key="…")   # any PC
        data = Data(storage="~/em-data")                     # a PC that has the storage folder
        data.wait(reference)
        data.open(reference).read()

    With the folder at hand, stages come from its ledger and frames from its files; without it,
    everything comes over HTTP from Tiled.

    Args:
        tiled: address of the Tiled server; with `storage`, defaults to the embedded one.
        api_key: its key; defaults to the environment's TILED_API_KEY, or to the embedded server's
            for reading.
        storage: the storage folder.

    Raises:
        ValueError: neither `tiled` nor `storage` was given.
    """

    def __init__(
        self,
        tiled: str | None = None,
        *,
        api_key: str | None = None,
        storage: str | Path | None = None,
    ):
        if tiled is None and storage is None:
            raise ValueError("Data needs a Tiled address, a storage folder, or both")
        self._tiled = tiled
        self._api_key = api_key
        self._layout = Layout(Path(storage).expanduser().absolute()) if storage else None
        self._tiled_source = TiledSource(self._connected)
        self._source: FolderSource | TiledSource = (
            FolderSource(self._layout.root) if self._layout else self._tiled_source
        )
        self._results: dict[str, Results] = {}
        self._parting: list[Results] = []
        self._publishing: dict[str, ResultStore] = {}

    @cached_property
    def catalog(self) -> Any:
        """The plain Tiled client, in which runs are bluesky-tiled-plugins' `BlueskyRun`.

        Raises:
            NotReady: the embedded server has not started within 60 s.
        """
        from tiled.client import from_uri  # seconds of imports: only for those who read

        if self._tiled is not None:
            return from_uri(self._tiled, api_key=self._api_key)
        assert self._layout is not None
        deadline = time.monotonic() + TILED_START
        while (address := address_of(self._layout)) is None:
            if time.monotonic() >= deadline:
                raise NotReady(
                    f"the embedded Tiled server of {self._layout.root} has not started within "
                    f"{TILED_START:g} s: is a Storage open on that folder? Its log: "
                    f"{self._layout.catalog / 'server.log'}"
                )
            time.sleep(0.1)
        return from_uri(address.uri, api_key=address.api_key)

    def status(self, reference: str) -> ReferenceStatus:
        """Tell how a reference stands, without waiting.

        Raises:
            UnknownReference: nobody handed it out.
            ValueError: it is no reference at all.
        """
        return self._source.statuses([str(reference)])[0]

    def open(self, reference: str) -> StoredFrame:
        """Open a frame.

        Raises:
            NotReady: it cannot be read yet.
            ReferenceFailed: it never will; the message tells why.
            UnknownReference: nobody handed it out.
            LookupError: it was added up with others, or a newer frame has taken its place.
        """
        status = self.status(reference)
        if not self._done(status, ReferenceState.STORED, "raise"):
            raise NotReady(f"{status}; {self._source.explain(status)}. `data.wait` waits for it")
        return self._source.open(status.reference)

    def stream(self, run: str, name: str = "primary") -> xarray.Dataset:
        """Open all of one stream of a run: what its events say, and the frames of our detectors.

        Usage:
            spectra = data.stream(run_uid)
            spectra.eels.sel(energy=slice(400, 600)).sum("energy").plot()

        Frames are read (in blocks of some MB, by dask) only where they are computed with or
        plotted. Scalars lie along `time`, frames along `time` and their own axes, maps along `y`,
        `x` and those. Where detectors have different axes of one name, these are called after
        them: `haadf_x`. Units are each one's `units`; `start` and `configuration` are attributes,
        as JSON text. Data of other packages' detectors: see `catalog`.

        Args:
            run: its uid.
            name: of the stream.

        Raises:
            NotReady: the run is not complete.
            UnknownReference: there is no such run (over HTTP: `NotReady`, it may still come).
            LookupError: the run has no such stream; the message lists those it has.
        """
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
        self,
        run: str | None = None,
        *,
        streams: str | Sequence[str] | None = "primary",
        latest_only: bool = False,
        last: int = 0,
        since: float | None = None,
        patience: float = PATIENCE,
        bookmark: str | Path | None = None,
    ) -> RunFollower | RunsFollower:
        """Follow runs as they come, or one run from its first point to its end.

        Usage:
            for run in data.follow():
                for point in run:
                    print(point.seq_num, point.data["eels-total"], point.references["eels"])
                    spectrum = point.open("eels").read()
                print(run.end.status, run.end.reason)

        Each point comes once what it refers to can be read. Whoever comes in the middle of a run,
        or after it, is given the same points in the same order; a server that goes away meanwhile
        is waited for. A slow follower slows nobody.

        Args:
            run: its uid, also of one that is yet to come; None: all that begin from now on.
            streams: the name of one; several, whose points of the same index are then given
                together, as a tuple; None: all, each in its own order.
            latest_only: give the newest point whenever one is asked for; its `skipped` says how
                many it leaves out.
            last: with `run=None`, begin with so many of the runs that there are already.
            since: with `run=None`, begin with those that began since then, s since the epoch.
            patience: raise NotReady when nothing new has come for so many seconds; for as long,
                whoever reads a point's frame waits for a server that is away.
            bookmark: a file that remembers which points are done; with it, a follower that was
                ended, or killed, goes on where it was.

        Raises:
            NotReady: see `patience`; the message tells what there was, and what is away.
            UnknownReference: `bookmark` lies in a run that is not here (any more).
            ValueError: `bookmark` is a file that is none, or there is no stream to follow.
        """
        several = [streams] if isinstance(streams, str) else streams
        names = None if several is None else tuple(several)
        if names == ():
            raise ValueError("give the streams to follow, e.g. streams='primary'; None: all")
        mark = Bookmark(Path(bookmark)) if bookmark is not None else None
        trouble = self._source.trouble

        def one(uid: str) -> RunFollower:
            return RunFollower(
                self._source.follow(uid, names, patience), streams=names, latest_only=latest_only,
                patience=patience, trouble=trouble, bookmark=mark,
            )  # fmt: skip

        if run is not None:
            return one(run)
        return RunsFollower(
            self._source.follow_runs(last=last, since=since, at=mark.run if mark else ""), one,
            patience=patience, trouble=trouble, bookmark=mark,
        )  # fmt: skip

    def publish(self, of: str, name: str, value: Any) -> None:
        """Publish a result of an analysis, for the run's plan.

        A plan that is wrapped in `plan_stubs.stop_when`, or asks with `wait_for_result`, has it
        at its next point. Publishing a name again replaces its value.

        Args:
            of: the uid of a run, or a reference.
            name: e.g. "aligned".
            value: a number, a string, True, False, None, or lists and mappings of such.

        Raises:
            ValueError: there is no run, or no name.
            TypeError: `value` is none of these.
            UnknownReference: there is no such run (yet), in the folder or in Tiled.
            PermissionError: the key may only read; the message tells which one may write.
        """
        result = Result(of=str(of), name=name, value=value, time=time.time())
        run = Reference.parse(result.of).run if "/" in result.of else result.of
        if run not in self._publishing:
            self._publishing = {run: self._source.results(run)}
        try:
            self._publishing[run].publish(result)
        except KeyError as exc:
            raise UnknownReference(
                f"there is no run {run!r} here (yet): give the uid of one that you follow"
            ) from exc
        except httpx.HTTPStatusError as exc:
            if exc.response.status_code not in (401, 403):
                raise
            raise PermissionError(
                "this key may only read what is in Tiled: publishing needs one that may write, of "
                "an embedded server the `analyst_key` in <storage>/catalog/address.json"
            ) from exc

    def results(self, run: str) -> Results:
        """Give what has been published of a run; grows meanwhile, wherever it was published."""
        if run not in self._results:
            places = {self._source, self._tiled_source}
            self._results[run] = Results(run, [place.results(run) for place in places])
            for before in list(self._results)[:-HEARD]:
                self._results[before].stop()  # waiting for its threads would hold up a plan
                self._parting.append(self._results.pop(before))
            self._parting = [before for before in self._parting if before.is_listening]
        return self._results[run]

    @overload
    def wait(  # type: ignore[reportOverlappingOverload] (a str is a Sequence[str], too)
        self, references: str, *, until: ReferenceState | str = ..., timeout: float = ...,
        any: bool = ..., failed: Literal["raise", "return"] = ..., progress: bool = ...,
    ) -> ReferenceStatus: ...  # fmt: skip

    @overload
    def wait(
        self, references: Sequence[str], *, until: ReferenceState | str = ..., timeout: float = ...,
        any: bool = ..., failed: Literal["raise", "return"] = ..., progress: bool = ...,
    ) -> list[ReferenceStatus]: ...  # fmt: skip

    def wait(
        self,
        references: str | Sequence[str],
        *,
        until: ReferenceState | str = ReferenceState.CATALOGUED,
        timeout: float = 60.0,
        any: bool = False,  # noqa: A002 (as in `any(...)`)
        failed: Literal["raise", "return"] = "raise",
        progress: bool = False,
    ) -> ReferenceStatus | list[ReferenceStatus]:
        """Wait for a reference, for several, or for a whole run.

        Args:
            references: one reference, several, or the uid of a run (until it is complete).
            until: "stored" or "catalogued".
            timeout: in s.
            any: of several, return as soon as one is there (then only those that are).
            failed: "return" counts a failed reference as done instead of raising.
            progress: show a progress bar.

        Returns:
            The status of the reference, or those of several.

        Raises:
            NotReady: not within `timeout`; says at which stage it is, and whether slow or stuck.
            ReferenceFailed: it never will be; says why.
            UnknownReference: nobody handed it out.
        """
        until = ReferenceState(until)
        if isinstance(references, str) and "/" not in references:
            return self._wait_for_run(references, timeout)
        wanted = [references] if isinstance(references, str) else [str(r) for r in references]
        deadline = time.monotonic() + timeout
        with progress_bar(len(wanted), progress) as bar:
            while True:
                done: list[ReferenceStatus] = []
                pending: list[ReferenceStatus] = []
                for status in self._source.statuses(wanted):
                    (done if self._done(status, until, failed) else pending).append(status)
                bar(len(done))
                if not pending or (any and done):
                    return done[0] if isinstance(references, str) else done
                if time.monotonic() >= deadline:
                    raise self._not_ready(pending[0], len(pending), until, timeout)
                time.sleep(self._source.poll)

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until every reference in the storage folder is catalogued or has failed.

        Raises:
            NotReady: that took longer than `timeout` seconds.
            RuntimeError: the storage folder is not at hand.
        """
        if not isinstance(self._source, FolderSource):
            raise RuntimeError("only who has the storage folder knows all its references")
        self.wait(self._source.unfinished(), timeout=timeout, failed="return")

    async def wait_async(self, references: Any, **options: Any) -> Any:
        """Await what `wait` waits for, with the same arguments."""
        return await asyncio.to_thread(self.wait, references, **options)

    def close(self) -> None:
        """Let go; closing twice is harmless."""
        for results in [*self._results.values(), *self._parting]:
            results.close()
        self._results.clear()
        self._source.close()
        client = self.__dict__.pop("catalog", None)  # only if there is one
        if client is not None:
            client.context.close()

    def _connected(self) -> Any:
        """Give the catalog, without waiting for an embedded server to start.

        Raises:
            ConnectionError: it is not ready.
        """
        starting = self._tiled is None and "catalog" not in self.__dict__
        if starting and self._layout is not None and address_of(self._layout) is None:
            raise ConnectionError(f"the Tiled server of {self._layout.root} is not ready")
        return self.catalog

    def _done(self, status: ReferenceStatus, until: ReferenceState, failed: str) -> bool:
        if status.stage is ReferenceState.FAILED:
            if failed == "raise":
                raise ReferenceFailed(str(status))
            return True
        return status.stage is not None and status.stage.reached(until)

    def _wait_for_run(self, run: str, timeout: float) -> ReferenceStatus:
        deadline = time.monotonic() + timeout
        while not self._source.run_complete(run):
            if time.monotonic() >= deadline:
                status = ReferenceStatus(reference=run, stage=None)
                explained = self._source.explain(status)
                raise NotReady(f"run {run} is not complete after {timeout:g} s; {explained}")
            time.sleep(self._source.poll)
        return ReferenceStatus(reference=run, stage=ReferenceState.CATALOGUED, remark="complete")

    def _not_ready(
        self, status: ReferenceStatus, missing: int, until: ReferenceState, timeout: float
    ) -> NotReady:
        more = f" (and {missing - 1} more)" if missing > 1 else ""
        return NotReady(
            f"{status}{more}; not {until.value} within {timeout:g} s, "
            f"{self._source.explain(status)}"
        )
