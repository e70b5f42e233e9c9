"""Publishing results, and receiving those that others publish."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from bluesky_em.errors import UnknownReference
from bluesky_em.files.results import Result
from bluesky_em.reference import Reference

from ._results import Results, ResultStore

MAX_RESULT_LISTENERS = 3  # receive results of the three most recently requested runs


class ResultExchange:
    """Publish results to a store, and receive results from all stores.

    Args:
        stores: each returns the store of a run's results; results are published to the first.
    """

    def __init__(self, stores: Sequence[Callable[[str], ResultStore]]):
        self._stores = stores
        self._listeners: dict[str, Results] = {}
        self._stopping: list[Results] = []
        self._publishing: dict[str, ResultStore] = {}

    def publish(self, of: str, name: str, value: Any) -> None:
        """Publish a result; see `Data.publish`."""
        result = Result(of=str(of), name=name, value=value, time=time.time())
        run = Reference.parse(result.of).run if "/" in result.of else result.of
        if run not in self._publishing:
            self._publishing = {run: self._stores[0](run)}
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
                "this key may only read what is in Tiled. Publishing needs a key that may write; "
                "for an embedded server, the `analyst_key` in <storage>/catalog/address.json"
            ) from exc

    def results(self, run: str) -> Results:
        """Return the results of a run, which threads receive from now on."""
        if run not in self._listeners:
            self._listeners[run] = Results(run, [store(run) for store in self._stores])
            for oldest in list(self._listeners)[:-MAX_RESULT_LISTENERS]:
                self._listeners[oldest].stop()  # waiting for its threads would delay a plan
                self._stopping.append(self._listeners.pop(oldest))
            self._stopping = [results for results in self._stopping if results.is_listening]
        return self._listeners[run]

    def close(self) -> None:
        """End all threads; closing twice is harmless."""
        for results in [*self._listeners.values(), *self._stopping]:
            results.close()
        self._listeners.clear()
