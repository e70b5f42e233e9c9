"""Results of analyses in Tiled, beside their run, for plans on another PC."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pyarrow
from tiled.client.utils import ClientError
from tiled.structures.core import Spec

from bluesky_em.files.results import RESULTS, Result, plain_data
from bluesky_em.files.tiled import results_container
from bluesky_em.files.tiled.address import plain
from bluesky_em.files.tiled.nodes import IdempotentNode

from .follow import PublishedResults, read_rows

logger = logging.getLogger(__name__)

FORBIDDEN = 403  # HTTP status: the key may not do that
RETRY_INTERVAL = 1.0  # seconds, while the Tiled server is away
_TEXT = {"dtype": "string", "shape": [], "source": results_container.SOURCE}
_KEYS = ("of", "name", "value")
_SCHEMA = pyarrow.schema(
    [("seq_num", pyarrow.int64()), ("time", pyarrow.float64())]
    + [(key, pyarrow.string()) for key in _KEYS]
    + [(f"ts_{key}", pyarrow.float64()) for key in _KEYS]
)


class TiledResults:
    """Results as a stream `results/about-<uid of the run>` in Tiled.

    Args:
        client: returns the catalog.
        run: its uid.
        trouble: errors while the server is away.
    """

    def __init__(
        self, client: Callable[[], Any], run: str, trouble: tuple[type[Exception], ...]
    ):  # fmt: skip
        self._client = client
        self._run = run
        self._trouble = trouble
        self._table: Any = None
        self._count = 0

    def publish(self, result: Result) -> None:
        """Append a result; the first one creates the stream.

        Raises:
            KeyError: the run is not in Tiled.
            tiled.client.utils.ClientError: the key may not add results.
        """
        if self._table is None:
            self._table, is_new = self._find_or_create(result.time)
            self._count = 0 if is_new else len(self._table.read(["seq_num"]))
        self._count += 1
        value = json.dumps(result.value, default=plain_data)
        text = {"of": result.of, "name": result.name, "value": value}
        times = {f"ts_{key}": result.time for key in _KEYS}
        row = {"seq_num": self._count, "time": result.time, **text, **times}
        self._table.append_partition(0, pyarrow.Table.from_pylist([row], schema=_SCHEMA))

    def follow(self, stopped: threading.Event) -> Iterator[Result]:
        """Yield results as they are published, until stopped."""
        with ExitStack() as stack:
            source: PublishedResults | None = None
            while not stopped.is_set():
                try:
                    if source is None:
                        client = self._client().include_data_sources()
                        yield from self._from_raw_run(client)
                        source = PublishedResults(client, self._run)
                        stack.callback(source.close)
                    for point in source.collect(timeout=0.5):
                        yield from _result(point.data, point.time)
                except (*self._trouble, TimeoutError):
                    stopped.wait(RETRY_INTERVAL)

    def _from_raw_run(self, client: Any) -> Iterator[Result]:
        """Yield the results that an earlier version published: in the raw run itself."""
        try:
            stream = results_container.child(client, f"{self._run}/{RESULTS}")
            table = plain(stream)["internal"]
        except KeyError:
            return
        if results_container.is_published(stream):
            for row in read_rows(table):
                yield from _result(row, row["time"])

    def _find_or_create(self, now: float) -> tuple[Any, bool]:
        """Return the table of results, and whether it is new."""
        client = self._client()
        results_container.find_run(client, self._run)
        descriptor = {
            "name": RESULTS,
            "time": now,
            "data_keys": {key: dict(_TEXT) for key in _KEYS},
            "configuration": {},
            "hints": {},
            "object_keys": {"publish": [*_KEYS]},
            "run": self._run,
        }
        specs = [Spec("BlueskyEventStream", version="3.0"), Spec("composite")]
        key, container = results_container.key_about(self._run), IdempotentNode(_container(client))
        stream = container.create_container(key, metadata=descriptor, specs=specs).base
        return stream.create_appendable_table(_SCHEMA, "internal", metadata={}), not stream.found


def _container(client: Any) -> Any:
    """Return the container of results, which is created unless it exists.

    Raises:
        PermissionError: it does not exist, and the key may not create it.
    """
    try:
        return results_container.find_or_create(client)
    except ClientError as exc:
        if exc.response.status_code != FORBIDDEN:
            raise
        raise PermissionError(
            f"the catalog has no container {results_container.NAME!r} for results yet, and this "
            "key may not create it. The writer creates it with the next run that it feeds"
        ) from exc


def _result(event: Mapping[str, Any], published: float) -> Iterator[Result]:
    """Yield the result in an event; nothing if it is none: other programs may add to the stream."""
    values = {key: event.get(key) for key in _KEYS}
    try:
        yield Result(**{**values, "value": json.loads(values["value"])}, time=published)  # type: ignore
    except (ValueError, TypeError) as exc:
        logger.warning("%r is not a result: %s", values, exc, extra={"action": "results"})
