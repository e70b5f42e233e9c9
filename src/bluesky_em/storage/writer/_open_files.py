"""The open files of a store: two kinds behind one interface."""

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


class FrameFile(Protocol):
    """A file that takes frames, `FramesFile` or `UpdatedFile`."""

    def write(self, frame: Frame, pixels: np.ndarray) -> None:
        """Put a frame where it belongs; doing so again changes nothing."""
        ...

    def extend(self, rows: int) -> None:
        """Have at least so many rows, if frames have rows here: one was lost."""
        ...

    def flush(self) -> None:
        """Make what was written visible to readers and safe against a power cut."""
        ...

    def holds(self, frame: Frame) -> bool:
        """Tell from flushed bytes whether a frame is safe here."""
        ...

    def describe(self, frame: Frame) -> Frame:
        """Add to a frame that is here what its documents did not tell."""
        ...

    def close(self) -> None:
        """Close it for good. Closing twice is harmless."""
        ...


class UpdatedFile:
    """The file of a stream whose frames are updates of one array, the frame's row their number.

    Args:
        path: made, with its folders, if absent.
        first: a frame of the stream, which tells how it was declared.

    Raises:
        FrameMismatch: the file holds something else.
    """

    def __init__(self, path: Path, first: Frame):
        assert first.update is not None, "else it is for a FramesFile"
        self._declared = UpdateDeclaration.load(first.update)
        self._file = open_updates(path, self._declared, first.owner)

    def write(self, frame: Frame, pixels: np.ndarray) -> None:
        """Apply a frame; doing so again changes nothing.

        Raises:
            FrameMismatch: it does not fit what was declared, or another has its number.
        """
        self._file.write(_update(frame), pixels.reshape(frame.shape))

    def extend(self, rows: int) -> None:
        """Do nothing: nobody knows where a frame that was lost would have gone."""

    def flush(self) -> None:
        """Make what was written visible to readers and safe against a power cut."""
        self._file.flush()

    def holds(self, frame: Frame) -> bool:
        """Tell from flushed bytes whether a frame is safe here, or was, until a newer one came."""
        if frame.flown:
            return self._file.verify(frame.row) is not Held.ABSENT
        return self._file.holds(_update(frame))

    def describe(self, frame: Frame) -> Frame:
        """Add to a frame that is here what its documents did not tell."""
        known = self._file.find(frame.row)
        assert known is not None, "it is held here"
        index = known.index if self._declared.mode is UpdateMode.ADD_SLICE else None
        return replace(frame, checksum=known.checksum, ended=known.time, index=index)

    def close(self) -> None:
        """Close it for good. Closing twice is harmless."""
        self._file.close()


class OpenFiles:
    """The files that a store writes, by path.

    Args:
        root: the storage folder.
    """

    def __init__(self, root: Path):
        self._root = root
        self._open: dict[str, tuple[dict[str, Any] | None, FrameFile]] = {}

    def of(self, frame: Frame) -> FrameFile:
        """Give the file in which a frame belongs.

        Raises:
            FrameMismatch: that file cannot take it.
        """
        if frame.path not in self._open:
            self._open[frame.path] = frame.update, self._new(frame)
        update, file = self._open[frame.path]
        if update != frame.update:
            raise FrameMismatch(
                f"{frame.reference} was declared as {frame.update}, but {frame.path} is of "
                f"{update}: one stream has one way"
            )
        return file

    def flush(self, frames: Iterable[Frame]) -> None:
        """Flush the files of some frames."""
        for path in {frame.path for frame in frames} & self._open.keys():
            self._open[path][1].flush()

    def finish(self, frame: Frame) -> None:
        """Close the file of a frame for good, also one that an earlier writer could not close."""
        _, file = self._open.pop(frame.path, (None, None))
        path = self._root / frame.path
        if file is not None:
            file.close()
        elif path.exists() and frame.update is None:
            repair(path)
        elif path.exists():
            self._new(frame).close()  # which also shows what was flushed last

    def close(self) -> None:
        """Close all, to be opened anew."""
        for _, file in self._open.values():
            file.close()
        self._open.clear()

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
