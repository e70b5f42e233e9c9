"""One thread per acquisition server: fetch, write, verify, note, release."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import sqlite3
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.filesize import decimal

from bluesky_em.acquisition.client import Client
from bluesky_em.acquisition.instrument_pc.faults import step
from bluesky_em.acquisition.instrument_pc.server import MAX_FETCH
from bluesky_em.errors import FrameMismatch
from bluesky_em.files.layout import plain
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState
from bluesky_em.update_modes import UpdateMode

from ._open_files import OpenFiles

logger = logging.getLogger(__name__)

BATCH_BYTES = 64 << 20  # of pixels that share one flush
BATCH_FRAMES = 256
BACKOFF = (0.2, 10.0)  # seconds, first and longest wait while a server or a disk is away
SPARE = 32 << 20  # bytes of the storage disk that are left to ledger, catalog and journals
TRIES = 5  # of a frame that comes wrong, before it is called failed


class Corrupt(Exception):
    """A frame's bytes came from the spool with the wrong checksum."""


class Lost(Exception):
    """A frame is nowhere any more."""


class FrameTransfer:
    """Moves frames of one acquisition server into their files, oldest first.

    A frame leaves the server's spool only after its bytes in the file have been read back and
    match the checksum taken at the exposure. While the server or the disk is away it waits and
    tries again; other servers' frames go on in their own threads.

    Args:
        server: its address.
        root: the storage folder.
        ledger: where stages are noted.
    """

    def __init__(self, server: str, root: Path, ledger: LedgerWriter):
        self.trouble = ""
        self._line = Client(server)
        self._root = root
        self._ledger = ledger
        self._files = OpenFiles(root)
        self._tasks: deque[Frame | Callable[[], None]] = deque()
        self._wake = threading.Event()
        self._ended: set[str] = set()
        self._reconciled = False
        self._stopping = threading.Event()
        self._backoff = BACKOFF[0]
        self._tries = 0
        self._thread = threading.Thread(target=self._work, name=f"store {server}", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """How many frames and files wait for this thread."""
        return len(self._tasks)

    def add(self, frame: Frame) -> None:
        """Take a frame on, after those before it."""
        self._tasks.append(frame)
        self._wake.set()

    def finish(self, run: str, frames: Iterable[Frame], done: Callable[[], None]) -> None:
        """After the frames before, close a run's files for good, then call `done`.

        The files are those of `frames`, one of each. What its spool still holds then is in no
        event and may go: points that were interrupted and taken again, and frames that were
        refused.
        """

        def close() -> None:
            for frame in frames:
                self._files.finish(frame)
            self._ended.add(run)
            self._reconciled = False
            done()

        self._tasks.append(close)
        self._wake.set()

    def stop(self) -> None:
        """Finish the batch at hand and end the thread."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout=30.0)
        with contextlib.suppress(Exception):  # the next writer repairs them
            self._files.close()

    def _work(self) -> None:
        while not self._stopping.is_set():
            if not self._tasks and self._reconciled:
                self._wake.wait(timeout=1.0)
                self._wake.clear()
                continue
            try:
                self._step()
                self.trouble, self._backoff = "", BACKOFF[0]
            except Corrupt as exc:
                self._blame(exc)
            except Exception as exc:  # a server or a disk that is away, or a fault of ours
                self._pause(exc)

    def _step(self) -> None:
        """Do the next thing; on any error nothing is taken off the list."""
        if self._tasks and callable(action := self._tasks[0]):
            action()
            self._tasks.popleft()
            return
        batch = self._next_batch()
        lost = self._given_up(batch)
        if not self._reconciled and (not batch or len(lost) < len(batch)):
            self._reconcile()
        if not batch:
            return
        stored = self._write(batch, lost)
        self._ledger.mark_stored(stored)
        for reference, reason in lost.items():
            self._ledger.mark_failed(reference, reason)
        step("writer: noted")
        for _ in batch:
            self._tasks.popleft()
        self._tries = 0
        self._reconciled = False  # until the server has heard of it
        if stored:
            self._line.call("release", [frame.reference for frame in stored])
            self._reconciled = True

    def _given_up(self, batch: list[Frame]) -> dict[str, str]:
        """Give those that somebody has called failed while they waited here, and why."""
        stages = self._ledger.stages([frame.reference for frame in batch])
        return {
            ref: reason for ref, (stage, reason) in stages.items() if stage is ReferenceState.FAILED
        }

    def _write(self, batch: list[Frame], lost: dict[str, str]) -> list[Frame]:
        """Bring frames into their files, flushed and verified; add to `lost` those that are.

        A lost frame holds its row, if it has one, with the fill value.

        Returns:
            Those that are not lost, with all that their spool knows of them.
        """
        self._check_room(batch)
        stored: list[Frame] = []
        for frame in batch:
            try:
                written = self._bring(frame, frame.reference in lost)
            except (Lost, FrameMismatch) as exc:  # trying again would not help
                lost[frame.reference] = str(exc)
            else:
                stored += written
        step("writer: written")
        self._files.flush(batch)
        step("writer: flushed")
        for frame in stored:
            if not self._files.of(frame).holds(frame):
                raise OSError(f"{frame.reference}: its bytes in {frame.path} are not its own")
        return stored

    def _bring(self, frame: Frame, is_lost: bool) -> list[Frame]:
        """Write a frame, not flushed yet; give it with all that its spool knows, unless it is lost.

        Raises:
            Lost: it is neither in the spool nor in the file.
            FrameMismatch: the file cannot take it.
        """
        file = self._files.of(frame)
        file.extend(frame.row + frame.count)
        if is_lost:
            return []
        try:
            frame, pixels = self._fetch(frame)
        except LookupError as exc:
            if file.holds(frame):  # stored by a writer that could not note it any more
                return [file.describe(frame)]
            raise Lost(str(exc)) from exc
        step("writer: writing")
        file.write(frame, pixels)
        return [frame]

    def _check_room(self, batch: list[Frame]) -> None:
        """Refuse before HDF5 is torn by a full disk."""
        free, size = shutil.disk_usage(self._root).free, sum(frame.nbytes for frame in batch)
        if free < size + SPARE:
            raise OSError(
                errno.ENOSPC,
                f"the disk of {self._root} has {decimal(free)} free, of which {decimal(SPARE)} "
                "are kept for documents: frames stay in their spools until there is more",
            )

    def _reconcile(self) -> None:
        """Have the spool let go of what is safe: an earlier release may not have arrived."""
        waiting: list[str] = self._line.call("references")
        known = self._ledger.stages(waiting)
        nowhere = [ref for ref in waiting if ref not in known and self._has_ended(ref)]
        self._line.call("release", self._ledger.releasable(waiting) + nowhere)
        self._reconciled = True

    def _has_ended(self, reference: str) -> bool:
        run = plain(reference.partition("/")[0])  # as its journal is named
        return run in self._ended or bool(self._ledger.is_complete(run))

    def _next_batch(self) -> list[Frame]:
        batch: list[Frame] = []
        size = 0
        most = 1 if self._tries else BATCH_FRAMES  # after a fault, find out which frame it is
        for task in list(islice(self._tasks, most)):
            if not isinstance(task, Frame) or size > BATCH_BYTES:
                break
            batch.append(task)
            size += task.nbytes
        return batch

    def _fetch(self, frame: Frame) -> tuple[Frame, np.ndarray]:
        """Fetch a frame's pixels, and what only its spool knows of it."""
        checksum, size = frame.checksum, frame.nbytes
        if frame.flown:
            header = self._line.call("header", frame.reference)
            checksum, size = header["checksum"], header["nbytes"]
            frame = replace(frame, ended=header["ended"], index=_index(frame, header))
        blocks = [
            self._line.call("fetch", frame.reference, start, MAX_FETCH)
            for start in range(0, size, MAX_FETCH)
        ]
        step("writer: fetching")
        data = b"".join(blocks)
        if len(data) != size or size < frame.nbytes or zlib.crc32(data) != checksum:
            raise Corrupt(
                f"{frame.reference}: {len(data)} bytes came with CRC-32 {zlib.crc32(data):08x}, "
                f"expected {size} bytes with {checksum:08x}"
            )
        covered = memoryview(data)[: frame.nbytes]  # of a flight's last block, perhaps not all
        if len(covered) < size:
            checksum = zlib.crc32(covered)
        pixels = np.frombuffer(covered, dtype=frame.dtype).reshape(frame.count, *frame.shape)
        return replace(frame, checksum=checksum), pixels

    def _blame(self, exc: Corrupt) -> None:
        """Try a frame again that came wrong; after some tries call it failed and go on."""
        self._tries += 1
        head = self._tasks[0]
        if self._tries < TRIES or not isinstance(head, Frame):
            self._pause(exc)
            return
        try:
            file = self._files.of(head)
            file.extend(head.row + head.count)
            file.flush()
            self._ledger.mark_failed(head.reference, f"given up after {TRIES} tries: {exc}")
            self._tasks.popleft()
            self._tries = 0
        except Exception as trouble:
            self._pause(trouble)

    def _pause(self, exc: Exception) -> None:
        """Wait and try again, with files opened anew: their handles may not survive a full disk."""
        trouble = getattr(exc, "strerror", None) or str(exc) or repr(exc)
        if trouble != self.trouble:
            expected = isinstance(exc, (Corrupt, OSError, sqlite3.OperationalError))
            details = None if expected else exc
            logger.warning("waiting: %s", trouble, exc_info=details, extra={"action": "store"})
        self.trouble = trouble
        try:
            self._files.close()
        except Exception:  # HDF5 cannot let go of a file that a full disk has torn
            logger.exception("ending, to begin anew with whole files", extra={"action": "store"})
            os._exit(1)
        self._stopping.wait(self._backoff)
        self._backoff = min(2 * self._backoff, BACKOFF[1])


def _index(frame: Frame, header: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Give the place in its array that only the instrument knows."""
    place = header["metadata"].get("index")
    has_one = frame.update is not None and frame.update.get("mode") == UpdateMode.ADD_SLICE
    return tuple(place) if has_one and place is not None else None
