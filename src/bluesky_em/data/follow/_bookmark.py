"""Where a follower was, for when it is started again."""

from __future__ import annotations

import json
from pathlib import Path

import stamina

from bluesky_em.errors import UnknownReference
from bluesky_em.files.atomic import write_whole


class Bookmark:
    """A small file that says which points a follower is done with.

    A point counts as done when the next one is asked for: whoever is killed while working on one
    is given it again.

    Args:
        path: of the file, made when there is something to remember.

    Raises:
        ValueError: there is a file that is no bookmark.
    """

    def __init__(self, path: Path):
        self.path = path
        self.run = ""
        """the run it lies in; empty if it has never been used"""
        self._done: dict[str, int] = {}
        self.ended = False
        """whether that run has been followed to its end"""
        try:
            told = json.loads(path.read_text())
            self.run, self._done, self.ended = told["run"], told["done"], told["ended"]
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as exc:
            raise ValueError(
                f"{path} is no bookmark of a follower ({exc!r}): give another path, or remove it"
            ) from exc

    def done(self, run: str, stream: str) -> int:
        """Tell how many points of a stream need not be given again."""
        return self._done.get(stream, 0) if run == self.run else 0

    def move(self, run: str, stream: str | None = None, points: int = 0) -> None:
        """Note how many points of a stream are done; without one, that the whole run is."""
        if run != self.run:
            self.run, self._done = run, {}
        self.ended = stream is None
        if stream is not None:
            self._done[stream] = points
        self._write()

    @stamina.retry(on=PermissionError, timeout=5.0)  # on Windows, while somebody reads it
    def _write(self) -> None:
        done = {"run": self.run, "done": self._done, "ended": self.ended}
        write_whole(self.path, json.dumps(done), sync=False)  # once per point: a sync is too slow


def lost_bookmark(run: str) -> UnknownReference:
    """Compose the error of a bookmark that lies in a run which is not there."""
    return UnknownReference(
        f"the bookmark lies in run {run}, which is not here (any more): remove its file to begin "
        "with the runs from now on, or give last= or since="
    )
