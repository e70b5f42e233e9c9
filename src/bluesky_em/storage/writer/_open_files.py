"""The open frame files of the writer: two kinds behind one interface."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bluesky_em.errors import FrameMismatch
from bluesky_em.files.hdf5 import FramesFile, repair
from bluesky_em.files.hdf5.updates import Held, Update, open_updates
from bluesky_em.frame import Frame
from bluesky_em.update_modes import UpdateDeclaration, UpdateMode

OPEN_LIMIT = 20  # files that one frame transfer keeps open, each with two handles


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

    def close(self) -> None:
        """Flush and close the file; closing twice is harmless."""
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

    def close(self) -> None:
        """Flush and close the file; closing twice is harmless."""
        self._file.close()


class OpenFiles:
    """The files that one frame transfer writes, by path. Only those used last stay open.

    Args:
        root: the storage folder.
        limit: of the files that are open at once.
    """

    def __init__(self, root: Path, limit: int = OPEN_LIMIT):
        self._root = root
        self._limit = limit
        self._open: dict[str, tuple[dict[str, Any] | None, FrameFile]] = {}

    def of(self, frame: Frame) -> FrameFile:
        """Return the file of a frame, opened if necessary; it may be closed by the next call.

        Raises:
            FrameMismatch: that file cannot store it.
        """
        if frame.path in self._open:
            self._open[frame.path] = self._open.pop(frame.path)  # the one used last
        else:
            self._make_room()
            self._open[frame.path] = frame.update, self._new(frame)
        update, file = self._open[frame.path]
        if update != frame.update:
            raise FrameMismatch(
                f"{frame.reference} was declared as {frame.update}, but {frame.path} was "
                f"declared as {update}: a stream has only one declaration"
            )
        return file

    def flush(self, frames: Iterable[Frame]) -> None:
        """Flush the files of these frames."""
        for path in {frame.path for frame in frames} & self._open.keys():
            self._open[path][1].flush()

    def finish(self, frame: Frame) -> None:
        """Close the file of a frame whose run has ended, also after an earlier writer's crash."""
        _, file = self._open.pop(frame.path, (None, None))
        path = self._root / frame.path
        if file is not None:
            file.close()
        elif path.exists() and frame.update is None:
            repair(path)
        elif path.exists():
            self._new(frame).close()  # this also publishes what was flushed last

    def close(self) -> None:
        """Close all files; `of` opens them again."""
        for _, file in self._open.values():
            file.close()
        self._open.clear()

    def _make_room(self) -> None:
        """Flush and close the files that have not been used longest, so that another one fits."""
        while len(self._open) >= self._limit:
            path = next(iter(self._open))
            self._open[path][1].close()
            del self._open[path]

    def _new(self, frame: Frame) -> FrameFile:
        kind = FramesFile if frame.update is None else UpdatedFile
        return kind(self._root / frame.path, frame)


def _update(frame: Frame) -> Update:
    return Update(
        number=frame.row,
        shape=frame.shape,
        checksum=frame.checksum,
        time=frame.ended,
        index=frame.index,
    )
