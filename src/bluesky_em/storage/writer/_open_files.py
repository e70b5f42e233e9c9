"""The open frame files of the writer: two kinds behind one interface."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from bluesky_em.errors import FrameMismatch
from bluesky_em.files.hdf5 import (
    FramesFile,
    is_damage,
    is_torn,
    put_back,
    replace_damaged,
    set_aside,
)
from bluesky_em.files.hdf5.updates import Held, Update, open_updates
from bluesky_em.frame import Frame
from bluesky_em.update_modes import UpdateDeclaration, UpdateMode

from ._file_records import FileRecords

OPEN_LIMIT = 20  # files that one frame transfer keeps open, each with two handles

logger = logging.getLogger(__name__)


class FrameFile(Protocol):
    """A file that stores frames: a `FramesFile` or an `UpdatedFile`."""

    def write(self, frame: Frame, pixels: np.ndarray) -> None:
        """Write a frame at its place; writing it again changes nothing."""
        ...

    def extend(self, rows: int) -> None:
        """Add rows up to `rows`, if frames are rows here; a lost frame keeps its row."""
        ...

    def flush(self) -> None:
        """Flush all written frames, for readers and against a power cut."""
        ...

    def holds(self, frame: Frame) -> bool:
        """Check by the flushed bytes whether a frame is stored here."""
        ...

    def describe(self, frame: Frame) -> Frame:
        """Return a stored frame with the facts that are not in its documents."""
        ...

    def structure(self) -> bytes:
        """Return the structure of the HDF5 file as of the last flush."""
        ...

    def close(self) -> None:
        """Close the file, also against a power cut; closing twice is harmless."""
        ...


class UpdatedFile:
    """The file of a stream whose frames are updates of one array; a frame's row is its number.

    Args:
        path: created, with its folders, if absent.
        first: a frame of the stream, with the declaration of its updates.

    Raises:
        FrameMismatch: the file has another declaration.
    """

    def __init__(self, path: Path, first: Frame):
        assert first.update is not None, "a FramesFile stores frames without updates"
        self._declared = UpdateDeclaration.load(first.update)
        self._file = open_updates(path, self._declared, first.owner)

    def write(self, frame: Frame, pixels: np.ndarray) -> None:
        """Apply a frame; doing so again changes nothing.

        Raises:
            FrameMismatch: it does not fit the declaration, or another frame has its number.
        """
        self._file.write(_update(frame), pixels.reshape(frame.shape))

    def extend(self, rows: int) -> None:
        """Do nothing: the place of a lost frame in the array is unknown."""

    def flush(self) -> None:
        """Flush all written frames, for readers and against a power cut."""
        self._file.flush()

    def holds(self, frame: Frame) -> bool:
        """Check by the flushed bytes whether a frame is, or was before newer ones, stored here."""
        if frame.flown:
            return self._file.verify(frame.row) is not Held.ABSENT
        return self._file.holds(_update(frame))

    def describe(self, frame: Frame) -> Frame:
        """Return a stored frame with the facts that are not in its documents."""
        known = self._file.find(frame.row)
        assert known is not None, "only for a frame that is stored here"
        index = known.index if self._declared.mode is UpdateMode.ADD_SLICE else None
        return replace(frame, checksum=known.checksum, ended=known.time, index=index)

    def structure(self) -> bytes:
        """Return the structure of the HDF5 file as of the last flush."""
        return self._file.structure()

    def close(self) -> None:
        """Close the file, also against a power cut; closing twice is harmless."""
        self._file.close()


class FileTrouble(Exception):
    """A file cannot be written or read; frames of other files are not concerned.

    Args:
        path: of the file, relative to the storage folder.
        cause: what was raised.
    """

    def __init__(self, path: str, cause: Exception):
        why = getattr(cause, "strerror", None) or str(cause) or repr(cause)
        super().__init__(f"{path}: {why}")
        self.path = path
        self.is_damage = is_damage(cause)


class OpenFiles:
    """The files that one frame transfer writes, by path. Only those used last stay open.

    A file that an earlier writer let grow gets the structure back that was recorded last, since a
    power cut may have left any part of a newer one. A file that was not closed is checked: if a
    frame is not in it any more, or it cannot be written, another file takes its place.

    Args:
        root: the storage folder.
        records: what is recorded of the files.
        lost: called with recorded frames that are not in their file any more.
        limit: of the files that are open at once.
    """

    def __init__(
        self,
        root: Path,
        records: FileRecords,
        lost: Callable[[list[Frame]], None],
        limit: int = OPEN_LIMIT,
    ):
        self._root = root
        self._records = records
        self._lost = lost
        self._limit = limit
        self._open: dict[str, tuple[Frame, FrameFile]] = {}
        self._closed: dict[str, bytes | None] = {}
        """files that this object has closed, with a structure that is not recorded yet"""
        self._damaged: dict[str, str] = {}
        self._replaced: set[str] = set()

    def of(self, frame: Frame) -> FrameFile:
        """Return the file of a frame, opened if necessary; it may be closed by the next call.

        Raises:
            FrameMismatch: that file cannot store it.
        """
        if frame.path in self._open:
            self._open[frame.path] = self._open.pop(frame.path)  # the one used last
        else:
            self._make_room()
            self._open[frame.path] = frame, self._opened(frame)
            self._closed.pop(frame.path, None)
        first, file = self._open[frame.path]
        if first.update != frame.update:
            raise FrameMismatch(
                f"{frame.reference} was declared as {frame.update}, but {frame.path} was "
                f"declared as {first.update}: a stream has only one declaration"
            )
        return file

    def flush(self, path: str) -> None:
        """Flush a file, if it is open."""
        if path in self._open:
            self._open[path][1].flush()

    def structure(self, path: str) -> bytes | None:
        """Return the structure of a file as of its last flush; None if it is recorded already."""
        if path in self._open:
            return self._open[path][1].structure()
        structure = self._closed.get(path)
        if structure is not None:
            self._closed[path] = None
        return structure

    def finish(self, frame: Frame) -> None:
        """Close the file of a frame whose run has ended, also after an earlier writer's crash."""
        path = self._root / frame.path
        if frame.path not in self._open and path.exists() and self._needs_care(frame):
            self.of(frame)
        _, file = self._open.pop(frame.path, (None, None))
        if file is not None:
            file.close()
        self._closed.pop(frame.path, None)

    def drop(self, trouble: FileTrouble) -> None:
        """Close the file that is in trouble; if it is damaged, it is replaced before its next use.

        Raises:
            Exception: it cannot be closed, though its content is not to blame.
        """
        _, file = self._open.pop(trouble.path, (None, None))
        self._closed.pop(trouble.path, None)
        if trouble.is_damage:
            self._damaged[trouble.path] = str(trouble)
        if file is not None:
            with suppress(Exception) if trouble.is_damage else nullcontext():
                file.close()

    def close(self) -> None:
        """Close all files; `of` opens them again, with the structure that is recorded."""
        for _, file in self._open.values():
            file.close()
        self._open.clear()
        self._closed.clear()

    def _needs_care(self, frame: Frame) -> bool:
        """Check whether a file grew when its writer ended; updates are published by opening."""
        is_damaged = frame.path in self._damaged or self._is_torn(frame)
        return frame.update is not None or is_damaged or self._grew(frame) is not None

    def _grew(self, frame: Frame) -> bytes | None:
        """Return the recorded structure of a file that this object has not opened yet."""
        return None if frame.path in self._closed else self._records.structure(frame)

    def _is_torn(self, frame: Frame) -> bool:
        path = self._root / frame.path
        try:
            return path.exists() and is_torn(path)
        except ValueError:  # not even its beginning is whole
            return True

    def _opened(self, frame: Frame) -> FrameFile:
        """Open a file, or the one that takes the place of a damaged one."""
        was_torn, why = self._is_torn(frame), self._damaged.get(frame.path, "")
        try:
            if not why:
                return self._continued(frame, was_torn)
        except FrameMismatch:
            raise
        except Exception as exc:  # whatever HDF5 raises for damaged bytes
            if not is_damage(exc):
                raise
            why = str(exc)
        self._replace(frame, why)
        return self._continued(frame, False)

    def _continued(self, frame: Frame, was_torn: bool) -> FrameFile:
        """Open a file with its recorded structure; record it, if it has none."""
        path = self._root / frame.path
        structure = self._grew(frame)
        if structure is not None and path.exists():
            put_back(path, structure)
        file = self._new(frame)
        if was_torn and _keeps_all(frame):
            self._check(file, frame)
        if structure is None and frame.path not in self._closed:
            self._records.keep(frame, file.structure())
        return file

    def _check(self, file: FrameFile, frame: Frame) -> None:
        """Check that all frames recorded as stored are in a file.

        Raises:
            OSError: one is not.
        """
        try:
            for each in self._records.stored(frame):
                if not file.holds(each):
                    raise OSError(f"{each.reference} is not in it any more")
        except Exception:
            with suppress(Exception):
                file.close()
            raise

    def _replace(self, frame: Frame, why: str) -> None:
        """Replace a damaged file, once: if that does not help, the disk is to blame."""
        if frame.path in self._replaced:
            raise OSError(errno.EIO, f"{why}; it was replaced before")
        stored = self._records.stored(frame)
        self._records.forget(frame)  # before the new file, which it would damage
        if frame.update is None:
            kept, lost = replace_damaged(self._root / frame.path, frame, stored)
        else:  # values that are overwritten cannot be taken over one by one
            kept, lost = set_aside(self._root / frame.path), stored
        self._replaced.add(frame.path)
        self._damaged.pop(frame.path, None)
        logger.warning(
            "%s was damaged (%s), and was replaced: %d of its %d stored frames were taken over, "
            "the others come from the spool if it has them; the damaged file is kept as %s",
            frame.path, why.splitlines()[0], len(stored) - len(lost), len(stored), kept.name,
            extra={"action": "replace"},
        )  # fmt: skip
        self._lost(lost)

    def _make_room(self) -> None:
        """Flush and close the files that have not been used longest, so that another one fits."""
        while len(self._open) >= self._limit:
            path = next(iter(self._open))
            _, file = self._open[path]
            try:
                file.flush()
                structure = file.structure()
                file.close()
            except Exception as exc:  # it is that file's trouble
                raise FileTrouble(path, exc) from exc
            del self._open[path]
            self._closed[path] = structure

    def _new(self, frame: Frame) -> FrameFile:
        kind = FramesFile if frame.update is None else UpdatedFile
        return kind(self._root / frame.path, frame)


def _keeps_all(frame: Frame) -> bool:
    """Check whether no frame overwrites others, which newer ones might do before their record."""
    return frame.update is None or frame.update["mode"] == UpdateMode.ACCUMULATE


def _update(frame: Frame) -> Update:
    return Update(
        number=frame.row,
        shape=frame.shape,
        checksum=frame.checksum,
        time=frame.ended,
        index=frame.index,
    )
