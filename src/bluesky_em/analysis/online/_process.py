"""Processed runs: results in a run of their own, linked to their input run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from event_model import compose_run
from numpy.typing import NDArray

from bluesky_em.data import Data, RunFollower
from bluesky_em.documents import PROCESSED
from bluesky_em.files import result_columns

from ._function import FrameFunction
from ._input import Batch, Frames, Values, input_of

Emit = Callable[[str, Any], Any]
"""A callback for documents: a `Storage`, a `TiledWriter`."""

MAX_BATCH_BYTES = 16 << 20  # of frames that are read and processed together
MAX_BATCH_FRAMES = 1000
_OF_ONE_FRAME = {"time", "scan", "index", "saturation_fraction", "warning"}
"""facts that do not hold for the frames of a run together"""


@dataclass(frozen=True, kw_only=True)
class ProcessingResult:
    """The result of the analysis of one run."""

    input: str
    """uid of the run that was followed"""
    run: str
    """uid of the processed run; empty if there were no frames"""
    points: int
    """number of frames that were processed"""
    failed: int
    """number of frames that were lost, and not processed"""
    error: str = ""
    """the error of the function; empty for none"""


def process(
    data: Data,
    run: str | RunFollower,
    function: FrameFunction,
    emit: Emit,
    *,
    detector: str | None = None,
    stream: str = "primary",
) -> ProcessingResult:
    """Run a function on the frames of one detector, or on results, as they become readable.

    The results are the events of a processed run, one for each frame, in the same order and with
    the same stream name: `reference` is that of the raw frame, and the value has the name of the
    function. `axes` are those of the value: of the frame, if the function has kept its shape. In a
    map, `scan` and `point` give its axes and the frame's place. `start` tells the provenance.

    An error in the function ends only the processed run, with exit status `fail` and the error as
    its reason. An interruption, e.g. Ctrl-C, ends it with `abort`. Frames that newer ones have
    replaced are left out.

    Args:
        data: where the run is read from.
        run: its uid, or a follower of it.
        function: see `FrameFunction`.
        emit: receives the documents.
        detector: whose frames to process; None: the only one of the run, or the results in it.
        stream: whose points to process.

    Raises:
        ValueError: the points have several detectors, and none was chosen; or the run has results
            that are no frames.
        NotReady: no new point for the follower's `patience`.
    """
    follower = data.follow(run, streams=stream) if isinstance(run, str) else run
    function = function.resolved(data)
    call = function.opened(data)
    results = _Results(data, emit, follower, function, stream)
    most, error = 1, ""  # the size of the first frame sets how many are read at once
    source: Frames | Values | None = None
    try:
        with follower as points:
            while not error and (batch := points.batch(most)):
                source = source or input_of(follower, detector, batch[0])
                for part in source.read(batch):
                    size = max(1, part.frames[0].nbytes)
                    most = max(1, min(MAX_BATCH_FRAMES, MAX_BATCH_BYTES // size))
                    try:
                        values = call(part.frames, part.axes)
                    except Exception as exc:  # the function is the user's
                        error = f"{type(exc).__name__}: {exc}"
                        break
                    results.add(source.key, part, values)
    except BaseException as exc:
        results.end("abort", f"ended early: {type(exc).__name__} {exc}".rstrip())
        raise
    results.end("fail" if error else "success", error)
    return ProcessingResult(
        input=follower.run, run=results.run, points=results.count,
        failed=source.failed if source else 0, error=error,
    )  # fmt: skip


def process_all(
    data: Data, function: FrameFunction, emit: Emit, *, detector: str, stream: str = "primary",
    last: int = 0, patience: float,
) -> Iterator[ProcessingResult]:  # fmt: skip
    """Process new runs; skip those without the detector, and processed runs.

    Args:
        data: where the runs are read from.
        function: see `FrameFunction`.
        emit: receives the documents.
        detector: whose frames to process.
        stream: whose points to process.
        last: begin with this number of the newest runs.
        patience: s without a new run until `NotReady`.

    Raises:
        NotReady: no run has begun for `patience` seconds.
    """
    for run in data.follow(streams=stream, last=last, patience=patience):
        if not result_columns.value_key(run.start):
            done = process(data, run, function, emit, detector=detector, stream=stream)
            if done.run or done.error:
                yield done


class _Results:
    """The documents of a processed run, which begins with the first results.

    Args:
        data: where the input is read from.
        emit: receives the documents.
        follower: of the input run.
        function: that is run.
        stream: whose points are processed.
    """

    def __init__(
        self, data: Data, emit: Emit, follower: RunFollower, function: FrameFunction, stream: str
    ):  # fmt: skip
        self.run = ""
        self.count = 0
        self._data = data
        self._emit = emit
        self._follower = follower
        self._function = function
        self._stream = stream
        self._bundle: Any = None
        self._descriptor: Any = None
        self._keys: dict[str, dict[str, Any]] = {}

    def add(self, source: str, batch: Batch, values: NDArray) -> None:
        """Emit the results of frames, one event for each."""
        axes = batch.axes if values.shape == batch.frames.shape else ()
        count = len(batch.references)
        columns = {
            result_columns.REFERENCE: [*batch.references],
            self._function.label: _column(values),
            result_columns.AXES: [result_columns.dump(axes)] * count,
        }
        if batch.scan:
            columns[result_columns.SCAN] = [result_columns.dump(batch.scan)] * count
            columns[result_columns.POINT] = [*batch.points]
        if not self.run:
            self._begin(source, batch, columns, values)
        now = [time.time()] * count
        first = self.count + 1
        self.count += count
        page = self._descriptor.compose_event_page(
            data={key: columns[key] for key in self._keys},
            timestamps=dict.fromkeys(self._keys, now),
            seq_num=[*range(first, self.count + 1)],
            time=now,
            validate=False,
        )
        self._emit("event_page", page)

    def end(self, status: str, reason: str) -> None:
        """Emit the stop document of a run that has begun."""
        if self.run:
            self._emit("stop", self._bundle.compose_stop(exit_status=status, reason=reason))

    def _begin(self, source: str, batch: Batch, columns: Iterable[str], values: NDArray) -> None:
        label, start = self._function.label, self._follower.start
        about = self._about_frame(batch.references[0])
        facts = {k: v for k, v in about.get("frame", {}).items() if k not in _OF_ONE_FRAME}
        provenance = self._provenance(start, source)
        self._bundle = compose_run(metadata={**provenance, "exposure": facts})
        shape = list(values.shape[1:])
        kinds = {
            label: {
                "dtype": "array" if shape else "number",
                "dtype_numpy": values.dtype.str,
                "shape": shape,
            },
            result_columns.POINT: {"dtype": "integer", "shape": []},
        }
        text = {"dtype": "string", "shape": []}
        self._keys = {
            key: {"source": self._function.name, **kinds.get(key, text)} for key in columns
        }
        self._descriptor = self._bundle.compose_descriptor(
            name=self._stream,
            data_keys=self._keys,
            configuration=about.get("configuration", {}),
            hints={"analysis": {"fields": [] if shape else [label]}},
            object_keys={"analysis": [*self._keys]},
        )
        self.run = self._bundle.start_doc["uid"]
        self._emit("start", self._bundle.start_doc)
        self._emit("descriptor", self._descriptor.descriptor_doc)

    def _provenance(self, start: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Return the metadata of the start document: which function of what, in every step.

        `input` and `analysis` are this step's, `earlier` those of the steps before; `raw` is the
        input of the first one.
        """
        about = {name: start[name] for name in ("sample", "user", "shape") if name in start}
        given = {"run": start["uid"], "stream": self._stream, "detector": source}
        earlier: list[Any] = []
        if result_columns.value_key(start):
            step = {"input": start["input"], PROCESSED: start[PROCESSED]}
            earlier = [*start.get("earlier", []), step]
        return {
            **about,
            "plan_name": "analyse",
            "purpose": "analysis",
            "input": given,
            "raw": earlier[0]["input"] if earlier else given,
            PROCESSED: self._function.provenance(),
            **({"earlier": earlier} if earlier else {}),
        }

    def _about_frame(self, reference: str) -> dict[str, Any]:
        """Return the metadata of a raw frame."""
        with suppress(LookupError):  # a newer frame has replaced it
            return self._data.open(reference).metadata
        return {}


def _column(values: NDArray) -> list[Any]:
    return [np.ascontiguousarray(v) for v in values] if values.ndim > 1 else values.tolist()
