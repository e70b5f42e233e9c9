"""One thread per acquisition server: fetch, write, verify, record, release."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rich.filesize import decimal

from bluesky_em.acquisition.client import SpoolClient
from bluesky_em.acquisition.instrument_pc.faults import step
from bluesky_em.errors import FrameMismatch, ServerUnreachable
from bluesky_em.files.atomic import sync_file
from bluesky_em.files.damaged import kept_copies
from bluesky_em.files.layout import Layout, plain
from bluesky_em.files.ledger_writer import KeptStructure, LedgerWriter
from bluesky_em.frame import Frame
from bluesky_em.reference import ReferenceState, run_of

from .._periodic import Backoff
from ..activity import Activity
from ._fetch import Corrupt, fetch
from ._file_records import IN_FILE, FileRecords, kept
from ._frame_queue import Ending, FrameQueue
from ._open_files import FileTrouble, OpenFiles
from ._spool_fill import SpoolFillRecord

logger = logging.getLogger(__name__)

BATCH_BYTES = 64 << 20  # of pixels that share one flush
BATCH_FRAMES = 256  # that share one flush, at most
BACKOFF = (0.2, 10.0)  # seconds, first and longest pause while a server or a disk is away
SPARE_BYTES = 32 << 20  # of the storage disk, kept for ledger, catalog and journals


class Lost(Exception):
    """A frame is neither in the spool nor in its file."""


class Unfetched(Exception):
    """The server cannot read a frame now, or refuses to send it."""


class FrameTransfer:
    """Moves frames from one acquisition server into their files, oldest first.

    A frame is removed from the server's spool only after its bytes in the file have been read
    back and match the checksum from the exposure. While the server or the disk is away, the
    transfer waits and tries again; other servers have their own threads.

    Args:
        server: its address.
        root: the storage folder.
        ledger: the states of the frames are recorded there.
    """

    def __init__(self, server: str, root: Path, ledger: LedgerWriter):
        self.activity = Activity(f"storing frames of {server}")
        self._trouble = ""
        self._spool = SpoolClient(server)
        self._root = root
        self._layout = Layout(root)
        self._ledger = ledger
        self._fill = SpoolFillRecord(self._spool, ledger)
        self._records = FileRecords(ledger)
        self._files = OpenFiles(root, self._records, self._take_back)
        self._queue = FrameQueue(BACKOFF)
        self._taken_back: list[Frame] = []
        self._wake = threading.Event()
        self._ended: set[str] = set()
        self._reconciled = False
        self._stopping = threading.Event()
        self._backoff = Backoff(*BACKOFF)
        self._thread = threading.Thread(target=self._work, name=f"transfer {server}", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """The number of frames and runs that wait for this thread."""
        return len(self._queue)

    @property
    def trouble(self) -> str:
        """What keeps frames from being stored; empty if nothing does."""
        return "; ".join(filter(None, (self._trouble, self._queue.trouble)))

    def add(self, frame: Frame) -> None:
        """Add a frame to the end of the queue."""
        self._queue.add(frame)
        self._wake.set()

    def finish(self, run: str, frames: Iterable[Frame], done: Callable[[], None]) -> None:
        """Close a run's files after the frames already in the queue, then call `done`.

        `frames` has one frame of each file. Frames of the run that are then still in the spool are
        in no event, and are removed: points that were interrupted and repeated, and frames that
        were refused.
        """
        self._queue.add(Ending(run, tuple(frames), done))
        self._wake.set()

    def stop(self) -> None:
        """Finish the current batch and end the thread."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout=30.0)
        with contextlib.suppress(Exception):  # the next writer repairs the files
            self._files.close()

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._queue.resume()
            if self._queue.head is None and self._reconciled:
                self.activity.rest()
                if not self._wake.wait(timeout=1.0) and not len(self._queue):
                    self._fill.forget()
                self._wake.clear()
                continue
            self.activity.progress()
            try:
                self._step()
                self._trouble = ""
                self._backoff.reset()
            except FileTrouble as exc:
                self._hold(exc)
            except Exception as exc:  # a server or a disk that is away, or our own mistake
                self._pause(exc)

    def _step(self) -> None:
        """Do the next task; it stays in the queue on any error."""
        if isinstance(ending := self._queue.head, Ending):
            self._end(ending)
            return
        batch = self._queue.batch(BATCH_FRAMES, BATCH_BYTES)
        lost = self._given_up(batch)
        if not self._reconciled and (not batch or len(lost) < len(batch)):
            self._reconcile()
        if not batch:
            return
        if len(lost) < len(batch):  # given-up frames need no server
            self._fill.update()
        stored = self._write(batch, lost)
        self._ledger.mark_stored(stored, self._structures(batch))
        for reference, reason in lost.items():
            self._ledger.mark_failed(reference, reason)
        step("writer: noted")
        self._queue.remove(len(batch))
        self._queue.clear_trouble({name for f in batch for name in (f.path, f.reference)})
        self._add_taken_back()
        self._reconciled = False  # until the server has released them
        if stored:
            self._spool.release([frame.reference for frame in stored])
            self._reconciled = True

    def _end(self, ending: Ending) -> None:
        for frame in ending.frames:
            with _charged_to(frame.path):
                self._files.finish(frame)
        if self._taken_back:  # first the frames that a damaged file had lost
            self._queue.remove(1)
            self._add_taken_back()
            self._queue.add(ending)
            return
        self._ended.add(ending.run)
        self._reconciled = False
        ending.done()
        self._queue.remove(1)
        self._queue.clear_trouble({frame.path for frame in ending.frames})

    def _take_back(self, lost: list[Frame]) -> None:
        """Note that frames are not in their file any more; the spool may still have them."""
        self._records.take_back(lost)
        self._taken_back += lost

    def _add_taken_back(self) -> None:
        self._queue.add(*self._taken_back)
        self._taken_back.clear()

    def _given_up(self, batch: list[Frame]) -> dict[str, str]:
        """Return the reasons of frames that were given up while they waited here."""
        stages = self._ledger.stages([frame.reference for frame in batch])
        return {
            ref: reason for ref, (stage, reason) in stages.items() if stage is ReferenceState.FAILED
        }

    def _write(self, batch: list[Frame], lost: dict[str, str]) -> list[Frame]:
        """Write frames into their files, flush and verify; add frames that are lost to `lost`.

        Frames that cannot be fetched now are held, and removed from `batch`. The row of a lost
        frame, if it has one, keeps the fill value.

        Returns:
            The frames that are not lost, with all facts that their spool has.
        """
        self._check_room(batch)
        stored: list[Frame] = []
        for frame in list(batch):
            try:
                written = self._write_one(frame, frame.reference in lost)
            except (Lost, Corrupt, FrameMismatch) as exc:  # trying again would not help
                lost[frame.reference] = str(exc)
            except Unfetched as exc:
                batch.remove(frame)
                if self._queue.hold_frame(frame, str(exc)):
                    logger.warning("waiting: %s", exc, extra={"action": "store"})
            else:
                stored += written
        step("writer: written")
        for path in {frame.path for frame in batch}:
            with _charged_to(path):
                self._files.flush(path)
        for run in {frame.run for frame in stored}:  # their events must not be lost without them
            with contextlib.suppress(FileNotFoundError):  # a user has removed it
                sync_file(self._layout.journal_of(run))
        step("writer: flushed")
        for frame in stored:
            with _charged_to(frame.path):
                if not self._files.of(frame).holds(frame):
                    raise OSError(f"the bytes of {frame.reference} in it are not its own")
        return stored

    def _structures(self, batch: list[Frame]) -> Iterator[KeptStructure]:
        """Yield the structures of the files of some frames, as far as they have changed."""
        for path, frame in {frame.path: frame for frame in batch}.items():
            with _charged_to(path):
                structure = self._files.structure(path)
            if structure is not None:
                yield kept(frame, structure)

    def _write_one(self, frame: Frame, is_lost: bool) -> list[Frame]:
        """Write a frame without flushing; return it with its spool's facts, unless it is lost.

        Raises:
            Lost: it is neither in the spool nor in the file.
            Corrupt: its bytes in the spool are damaged.
            FrameMismatch: the file cannot store it.
            Unfetched: its server cannot send it now.
        """
        with _charged_to(frame.path):
            file = self._files.of(frame)
            file.extend(frame.end_row)
        if is_lost:
            return []
        try:
            frame, pixels = fetch(self._spool, frame, self.activity.progress)
        except LookupError as exc:
            with _charged_to(frame.path):
                if file.holds(frame):  # stored by a writer that ended before it could record it
                    return [file.describe(frame)]
            raise Lost(str(exc)) from exc
        except (Corrupt, ServerUnreachable):
            raise
        except Exception as exc:  # whatever the server raises about this frame
            raise Unfetched(f"{frame.reference} cannot be fetched: {_words(exc)}") from exc
        step("writer: writing")
        with _charged_to(frame.path):
            file.write(frame, pixels)
        return [frame]

    def _check_room(self, batch: list[Frame]) -> None:
        """Raise OSError before a full disk could damage an HDF5 file."""
        free, size = shutil.disk_usage(self._root).free, sum(frame.nbytes for frame in batch)
        if free < size + SPARE_BYTES:
            raise OSError(
                errno.ENOSPC,
                f"the disk of {self._root} has {decimal(free)} free, of which "
                f"{decimal(SPARE_BYTES)} are kept for documents: frames stay in their spools "
                "until more is free",
            )

    def _reconcile(self) -> None:
        """Release all stored frames from the spool: an earlier release may not have arrived."""
        waiting = self._spool.references()
        stages = {ref: stage for ref, (stage, _) in self._ledger.stages(waiting).items()}
        nowhere = [ref for ref in waiting if ref not in stages and self._has_ended(ref)]
        released = self._ledger.releasable(waiting) + nowhere
        self._spool.release(
            [ref for ref in released if stages.get(ref) in IN_FILE or not self._is_event_lost(ref)]
        )
        self._reconciled = True

    def _has_ended(self, reference: str) -> bool:
        run = plain(run_of(reference))  # the stem of its journal's name
        return run in self._ended or bool(self._ledger.is_complete(run))

    def _is_event_lost(self, reference: str) -> bool:
        """Check whether a damaged journal may have had the event of a frame that is in none."""
        return bool(kept_copies(self._layout.journal_of(run_of(reference))))

    def _hold(self, exc: FileTrouble) -> None:
        """Hold the frames of a file; others are stored meanwhile."""
        if self._queue.hold(exc.path, str(exc)):
            logger.warning("waiting: %s", exc, extra={"action": "store"})
        self._close(lambda: self._files.drop(exc))

    def _pause(self, exc: Exception) -> None:
        """Wait, and open the files again for the next try: handles may not survive a full disk."""
        trouble = _words(exc)
        if trouble != self._trouble:
            expected = isinstance(exc, (OSError, sqlite3.OperationalError))
            details = None if expected else exc
            logger.warning("waiting: %s", trouble, exc_info=details, extra={"action": "store"})
        self._trouble = trouble
        self._close(self._files.close)
        self.activity.rest()
        self._stopping.wait(self._backoff.next_delay())

    def _close(self, close: Callable[[], None]) -> None:
        try:
            close()
        except Exception:  # HDF5 cannot close a file that a full disk has damaged
            logger.exception("ending: the next writer repairs the files", extra={"action": "store"})
            os._exit(1)


@contextlib.contextmanager
def _charged_to(path: str) -> Iterator[None]:
    """Charge an error to a file, but for those that concern one frame only."""
    try:
        yield
    except (Lost, Corrupt, FrameMismatch, FileTrouble):
        raise
    except Exception as exc:  # of the disk, or whatever HDF5 raises for damaged bytes
        raise FileTrouble(path, exc) from exc


def _words(exc: Exception) -> str:
    words = getattr(exc, "strerror", None) or str(exc) or repr(exc)
    name = getattr(exc, "filename", None)
    return f"{words}: {name}" if name else words
