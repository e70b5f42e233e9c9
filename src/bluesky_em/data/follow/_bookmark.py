"""The position of a follower, for a follower that is started again."""

from __future__ import annotations

import json
from pathlib import Path

import stamina

from bluesky_em.errors import UnknownReference
from bluesky_em.files.atomic import write_whole


class Bookmark:
    """A small file that records which points a follower has done.

    A point is done when the next one is requested: a process that is killed while it works on a
    point receives that point again.

    Args:
        path: of the file, created with the first position.

    Raises:
        ValueError: the file exists and is not a bookmark.
    """

    def __init__(self, path: Path):
        self.path = path
        self.run = ""
        """uid of its run; empty if it has never been used"""
        self._done: dict[str, int] = {}
        self.ended = False
        """whether that run has been followed to its end"""
        try:
            saved = json.loads(path.read_text())
            self.run, self._done, self.ended = saved["run"], saved["done"], saved["ended"]
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as exc:
            raise ValueError(
                f"{path} is not a bookmark of a follower ({exc!r}): give another path, or remove it"
            ) from exc

    def done(self, run: str, stream: str) -> int:
        """Return the number of points of a stream that are done."""
        return self._done.get(stream, 0) if run == self.run else 0

    def move(self, run: str, stream: str | None = None, points: int = 0) -> None:
        """Record the number of points of a stream that are done; no stream: the whole run is."""
        if run != self.run:
            self.run, self._done = run, {}
        self.ended = stream is None
        if stream is not None:
            self._done[stream] = points
        self._write()

    @stamina.retry(on=PermissionError, timeout=5.0)  # on Windows, while another process reads it
    def _write(self) -> None:
        done = {"run": self.run, "done": self._done, "ended": self.ended}
        write_whole(self.path, json.dumps(done), sync=False)  # once per point: a sync is too slow


def lost_bookmark(run: str) -> UnknownReference:
    """Return the error of a bookmark in a run that does not exist here."""
    return UnknownReference(
        f"the bookmark is in run {run}, which is not here (any more): remove its file to begin "
        "with the runs from now on, or give last= or since="
    )
