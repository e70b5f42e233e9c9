"""Frames in, results out: a run of its own in the catalog, linked to the run it came from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from event_model import compose_run
from numpy.typing import NDArray

from ..data import Data, Point, RunFollower
from ._function import Function

Emit = Callable[[str, Any], Any]
"""Takes documents: a `Storage`, a `TiledWriter`."""

BATCH_BYTES = 16 << 20  # of frames that are read, and processed, at a time
BATCH = 1000  # frames
MARK = "analysis"
"""Where a start document tells of the function; runs that have it are not processed again."""


@dataclass(frozen=True, kw_only=True)
class Processed:
    """What became of one run."""

    input: str
    """uid of the run that was followed"""
    run: str
    """uid of the processed run; empty if there was nothing to process"""
    points: int
    """how many frames were processed"""
    failed: int
    """how many could not be: they were lost"""
    error: str = ""
    """what the function raised; empty if it went well"""


def process(
    data: Data,
    run: str | RunFollower,
    function: Function,
    emit: Emit,
    *,
    detector: str | None = None,
    stream: str = "primary",
) -> Processed:
    """Run a function on the frames of one detector as they become readable, or on a finished run.

    The results are the events of a processed run, one for each frame, in the same order and under
    the same stream name: `reference` says of which frame, and the value is called after the
    function. Its start document has `input` (run, stream, detector) and `analysis` (function,
    version, source, parameters, references).

    An error in the function ends the processed run, with exit status `fail` and the error as its
    reason, and nothing else.

    Args:
        data: where the run is read from.
        run: its uid, or a follower of it.
        function: see there.
        emit: takes the documents.
        detector: whose frames; None: the only one there is.
        stream: whose points.

    Raises:
        ValueError: the points have several detectors, and none was chosen.
        NotReady: nothing new has come for the follower's `patience`.
    """
    follower = data.follow(run, streams=stream) if isinstance(run, str) else run
    call = function.opened(data)
    results: _Results | None = None
    most, failed, error = 1, 0, ""  # the first frame tells how many may be read at once
    with follower as points:
        while batch := points.batch(most):
            chosen = detector = detector or _only_detector(batch[0])
            good = [point for point in batch if chosen in point.references.keys() - point.failed]
            failed += sum(chosen in point.failed for point in batch)
            if not good:
                continue
            try:
                axes = good[0].open(chosen).axes
                frames = points.read(good, chosen)
                most = max(1, min(BATCH, BATCH_BYTES // max(1, frames[0].nbytes)))
                values = call(frames, axes)
                results = results or _Results(emit, points.start, function, chosen, stream, values)
                results.add([point.references[chosen] for point in good], values)
            except Exception as exc:  # whatever somebody's function does
                error = f"{type(exc).__name__}: {exc}"
                break
    if results is not None:
        results.end(error)
    return Processed(
        input=follower.run, run=results.run if results else "", failed=failed, error=error,
        points=results.count if results else 0,
    )  # fmt: skip


def process_all(
    data: Data, function: Function, emit: Emit, *, detector: str, stream: str = "primary",
    last: int = 0, patience: float,
) -> Iterator[Processed]:  # fmt: skip
    """Process runs as they come; those without the detector, and processed ones, are left out.

    Args:
        data: where the runs are read from.
        function: see `Function`.
        emit: takes the documents.
        detector: whose frames.
        stream: whose points.
        last: begin with so many of the runs that there are already.
        patience: in s, without a new run.

    Raises:
        NotReady: no run has begun for `patience` seconds.
    """
    for run in data.follow(streams=stream, last=last, patience=patience):
        if MARK not in run.start:
            done = process(data, run, function, emit, detector=detector, stream=stream)
            if done.run or done.error:
                yield done


class _Results:
    """The documents of a processed run."""

    def __init__(
        self, emit: Emit, input_start: Mapping[str, Any], function: Function, detector: str,
        stream: str, values: NDArray,
    ):  # fmt: skip
        about = {key: input_start[key] for key in ("sample", "shape") if key in input_start}
        bundle = compose_run(
            metadata={
                **about,
                "plan_name": "analyse",
                "purpose": "analysis",
                "input": {"run": input_start["uid"], "stream": stream, "detector": detector},
                MARK: function.provenance(),
            }
        )
        self.run: str = bundle.start_doc["uid"]
        self.count = 0
        self._emit = emit
        self._key = function.label
        self._stop = bundle.compose_stop
        shape = list(values.shape[1:])
        self._descriptor = bundle.compose_descriptor(
            name=stream,
            data_keys={
                "reference": {"source": function.name, "dtype": "string", "shape": []},
                self._key: {
                    "source": function.name,
                    "dtype": "array" if shape else "number",
                    "dtype_numpy": values.dtype.str,
                    "shape": shape,
                },
            },
            hints={"analysis": {"fields": [] if shape else [self._key]}},
            object_keys={"analysis": ["reference", self._key]},
        )
        emit("start", bundle.start_doc)
        emit("descriptor", self._descriptor.descriptor_doc)

    def add(self, references: Sequence[str], values: NDArray) -> None:
        """Emit the results of frames, an event each."""
        now = [time.time()] * len(references)
        first = self.count + 1
        self.count += len(references)
        page = self._descriptor.compose_event_page(
            data={"reference": [*references], self._key: _column(values)},
            timestamps={"reference": now, self._key: now},
            seq_num=[*range(first, self.count + 1)],
            time=now,
            validate=False,
        )
        self._emit("event_page", page)

    def end(self, error: str) -> None:
        """Emit the stop document."""
        status = "fail" if error else "success"
        self._emit("stop", self._stop(exit_status=status, reason=error))


def _only_detector(point: Point) -> str:
    if len(point.references) != 1:
        raise ValueError(
            f"the points of {point.run}/{point.stream} have frames of "
            f"{', '.join(point.references) or 'no detector'}: choose a detector"
        )
    return next(iter(point.references))


def _column(values: NDArray) -> list[Any]:
    return [np.ascontiguousarray(v) for v in values] if values.ndim > 1 else values.tolist()
