"""Processed runs: results in a run of their own, linked to their input run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from event_model import compose_run
from numpy.typing import NDArray

from bluesky_em.axes import Axis
from bluesky_em.data import Data, Point, RunFollower
from bluesky_em.documents import PROCESSED

from ._function import FrameFunction

Emit = Callable[[str, Any], Any]
"""A callback for documents: a `Storage`, a `TiledWriter`."""

MAX_BATCH_BYTES = 16 << 20  # of frames that are read and processed together
MAX_BATCH_FRAMES = 1000


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
    """Run a function on the frames of one detector, as they become readable.

    The results are the events of a processed run, one for each frame, in the same order and with
    the same stream name: `reference` is that of the frame, and the value has the name of the
    function. The start document has `input` (run, stream, detector) and `analysis` (function,
    version, source, parameters, references).

    An error in the function ends only the processed run, with exit status `fail` and the error as
    its reason. An interruption, e.g. Ctrl-C, ends it with `abort`. Frames that newer ones have
    replaced are left out.

    Args:
        data: where the run is read from.
        run: its uid, or a follower of it.
        function: see `FrameFunction`.
        emit: receives the documents.
        detector: whose frames to process; None: the only one of the run.
        stream: whose points to process.

    Raises:
        ValueError: the points have several detectors, and none was chosen.
        NotReady: no new point for the follower's `patience`.
    """
    follower = data.follow(run, streams=stream) if isinstance(run, str) else run
    call = function.opened(data)
    results = _Results(emit, follower, function, stream)
    most, failed, error = 1, 0, ""  # the size of the first frame sets how many are read at once
    try:
        with follower as points:
            while not error and (batch := points.batch(most)):
                chosen = detector = detector or _only_detector(batch[0])
                good = [p for p in batch if chosen in p.references.keys() - p.failed]
                failed += sum(chosen in point.failed for point in batch)
                for part, axes, frames in _read(points, good, chosen):
                    most = max(
                        1, min(MAX_BATCH_FRAMES, MAX_BATCH_BYTES // max(1, frames[0].nbytes))
                    )
                    try:
                        values = call(frames, axes)
                    except Exception as exc:  # the function is the user's
                        error = f"{type(exc).__name__}: {exc}"
                        break
                    results.add(chosen, [point.references[chosen] for point in part], values)
    except BaseException as exc:
        results.end("abort", f"ended early: {type(exc).__name__} {exc}".rstrip())
        raise
    results.end("fail" if error else "success", error)
    return ProcessingResult(
        input=follower.run, run=results.run, points=results.count, failed=failed, error=error
    )


def _read(
    follower: RunFollower, points: Sequence[Point], detector: str
) -> Iterator[tuple[Sequence[Point], Sequence[Axis], NDArray]]:
    """Yield frames, those of the same axes together, without frames that newer ones replaced."""
    for axes, group in groupby(points, key=lambda point: follower.axes(point, detector)):
        part = [*group]
        try:
            frames = follower.read(part, detector)
        except LookupError:
            for point in part:
                with suppress(LookupError):
                    yield [point], axes, point.open(detector).read()[None]
        else:
            yield part, axes, frames


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
        if PROCESSED not in run.start:
            done = process(data, run, function, emit, detector=detector, stream=stream)
            if done.run or done.error:
                yield done


class _Results:
    """The documents of a processed run, which begins with the first results.

    Args:
        emit: receives them.
        follower: of the input run.
        function: that is run.
        stream: whose points are processed.
    """

    def __init__(self, emit: Emit, follower: RunFollower, function: FrameFunction, stream: str):
        self.run = ""
        self.count = 0
        self._emit = emit
        self._follower = follower
        self._function = function
        self._stream = stream
        self._bundle: Any = None
        self._descriptor: Any = None

    def add(self, detector: str, references: Sequence[str], values: NDArray) -> None:
        """Emit the results of frames, one event for each."""
        if not self.run:
            self._begin(detector, values)
        now = [time.time()] * len(references)
        first = self.count + 1
        self.count += len(references)
        key = self._function.label
        page = self._descriptor.compose_event_page(
            data={"reference": [*references], key: _column(values)},
            timestamps={"reference": now, key: now},
            seq_num=[*range(first, self.count + 1)],
            time=now,
            validate=False,
        )
        self._emit("event_page", page)

    def end(self, status: str, reason: str) -> None:
        """Emit the stop document of a run that has begun."""
        if self.run:
            self._emit("stop", self._bundle.compose_stop(exit_status=status, reason=reason))

    def _begin(self, detector: str, values: NDArray) -> None:
        key, source, start = self._function.label, self._function.name, self._follower.start
        about = {name: start[name] for name in ("sample", "shape") if name in start}
        self._bundle = compose_run(
            metadata={
                **about,
                "plan_name": "analyse",
                "purpose": "analysis",
                "input": {"run": start["uid"], "stream": self._stream, "detector": detector},
                PROCESSED: self._function.provenance(),
            }
        )
        shape = list(values.shape[1:])
        self._descriptor = self._bundle.compose_descriptor(
            name=self._stream,
            data_keys={
                "reference": {"source": source, "dtype": "string", "shape": []},
                key: {
                    "source": source,
                    "dtype": "array" if shape else "number",
                    "dtype_numpy": values.dtype.str,
                    "shape": shape,
                },
            },
            hints={"analysis": {"fields": [] if shape else [key]}},
            object_keys={"analysis": ["reference", key]},
        )
        self.run = self._bundle.start_doc["uid"]
        self._emit("start", self._bundle.start_doc)
        self._emit("descriptor", self._descriptor.descriptor_doc)


def _only_detector(point: Point) -> str:
    if len(point.references) != 1:
        raise ValueError(
            f"the points of {point.run}/{point.stream} have frames of "
            f"{', '.join(point.references) or 'no detector'}: choose a detector"
        )
    return next(iter(point.references))


def _column(values: NDArray) -> list[Any]:
    return [np.ascontiguousarray(v) for v in values] if values.ndim > 1 else values.tolist()
