"""Results of analyses as a stream of their run in Tiled, for plans on another PC."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pyarrow
from tiled.structures.core import Spec

from bluesky_em.files.results import RESULTS, Result, plain_data
from bluesky_em.files.tiled.nodes import IdempotentNode

from .follow import Point
from .follow._tiled_run import TiledRun

logger = logging.getLogger(__name__)

AGAIN = 1.0  # seconds until a Tiled server that is away is asked again
_TEXT = {"dtype": "string", "shape": [], "source": "bluesky_em.Data.publish"}
_KEYS = ("of", "name", "value")
_SCHEMA = pyarrow.schema(
    [("seq_num", pyarrow.int64()), ("time", pyarrow.float64())]
    + [(key, pyarrow.string()) for key in _KEYS]
    + [(f"ts_{key}", pyarrow.float64()) for key in _KEYS]
)


class TiledResults:
    """Results as a stream of the run in Tiled.

    Args:
        client: gives the catalog.
        run: its uid.
        trouble: what a server that is away raises.
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
        """Append a result; the first one makes the stream.

        Raises:
            KeyError: the run is not in Tiled.
            tiled.client.utils.ClientError: the key may not write.
        """
        if self._table is None:
            self._table = self._find_or_make(result.time)
            self._count = len(self._table.read(["seq_num"]))
        self._count += 1
        value = json.dumps(result.value, default=plain_data)
        text = {"of": result.of, "name": result.name, "value": value}
        times = {f"ts_{key}": result.time for key in _KEYS}
        row = {"seq_num": self._count, "time": result.time, **text, **times}
        self._table.append_partition(0, pyarrow.Table.from_pylist([row], schema=_SCHEMA))

    def follow(self, stopped: threading.Event) -> Iterator[Result]:
        """Give results as they come, until stopped."""
        with ExitStack() as stack:
            source: TiledRun | None = None
            while not stopped.is_set():
                try:
                    if source is None:
                        client = self._client().include_data_sources()
                        source = TiledRun(client, self._run, (RESULTS,), patience=0.0)
                        stack.callback(source.close)
                    for point in source.collect(timeout=0.5):
                        yield from _result_in(point)
                except (*self._trouble, TimeoutError):
                    stopped.wait(AGAIN)

    def _find_or_make(self, now: float) -> Any:
        client = self._client()
        run = IdempotentNode(getattr(client, "v3", client)[self._run].base)
        descriptor = {
            "name": RESULTS,
            "time": now,
            "data_keys": {key: dict(_TEXT) for key in _KEYS},
            "configuration": {},
            "hints": {},
            "object_keys": {"publish": [*_KEYS]},
        }
        specs = [Spec("BlueskyEventStream", version="3.0"), Spec("composite")]
        stream = run.create_container(RESULTS, metadata=descriptor, specs=specs)
        return stream.base.create_appendable_table(_SCHEMA, "internal", metadata={})


def _result_in(point: Point) -> Iterator[Result]:
    """Give the result in an event; none in those of a plan that has such a stream of its own."""
    told = {key: point.data.get(key) for key in _KEYS}
    try:
        yield Result(**{**told, "value": json.loads(told["value"])}, time=point.time)  # type: ignore
    except (ValueError, TypeError) as exc:
        logger.warning("%r is not a result: %s", told, exc, extra={"action": "results"})
