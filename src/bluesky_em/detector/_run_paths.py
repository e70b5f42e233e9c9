"""RunPaths: what a detector asks of storage, and the adapter for a plain `PathProvider`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from ophyd_async.core import PathInfo, PathProvider


class RunPaths(PathProvider, Protocol):
    """A `PathProvider` that knows the open runs, and can make detectors wait.

    A Storage's `path_provider` is one.
    """

    @property
    def run(self) -> str | None:
        """The uid of the one open run; None if there is none, or more than one."""
        ...

    @property
    def open_runs(self) -> Collection[str]:
        """The uids of all open runs."""
        ...

    @property
    def held(self) -> str:
        """Why detectors must wait before they expose; empty if they need not."""
        ...

    def check_room(self, size: int) -> None:
        """Check that `size` bytes of frames can be stored.

        Raises:
            NotEnoughSpace: they cannot.
        """
        ...

    def why_unreadable(self, path: Path) -> str:
        """Return why Tiled may not read a file or folder, and what to do; empty if it may."""
        ...


NAMES = ("run", "open_runs", "held", "check_room", "why_unreadable")
"""what `RunPaths` adds to a `PathProvider`"""


def as_run_paths(provider: PathProvider) -> RunPaths:
    """Return `provider` if it is a `RunPaths`, else adapt it: no run is known, nothing is held.

    Raises:
        TypeError: it has only some of the names of `RunPaths`. It is not taken for a plain one:
            detectors would no longer wait when storage is full.
    """
    missing = [name for name in NAMES if not hasattr(provider, name)]
    if not missing:
        return provider  # type: ignore (checked by name)
    if len(missing) == len(NAMES):
        return _PlainPaths(provider)
    raise TypeError(
        f"path_provider is a {type(provider).__name__} without {', '.join(missing)}: give a "
        f"Storage's path_provider, which has {', '.join(NAMES)}, or an ophyd-async PathProvider, "
        "which has none of them"
    )


class _PlainPaths:
    """Frames without a Storage: no run is known, nothing is held, room is not checked."""

    def __init__(self, provider: PathProvider):
        self._provider = provider
        self.run: str | None = None
        self.open_runs: frozenset[str] = frozenset()
        self.held = ""

    def check_room(self, size: int) -> None:
        """Check nothing."""

    def why_unreadable(self, path: Path) -> str:
        """Return that nothing is known against it."""
        return ""

    def __call__(self, datakey_name: str | None = None) -> PathInfo:
        return self._provider(datakey_name)
