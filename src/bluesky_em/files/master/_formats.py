"""Choose the master file's format; write it atomically."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from bluesky_em.frame import Frame

from ..atomic import put_in_place
from ..layout import Layout
from ..manifest import checksums
from ..run_documents import RunDocuments

logger = logging.getLogger(__name__)

GROUP = "bluesky_em.master_formats"
"""Entry points of formats."""
VARIABLE = "BLUESKY_EM_MASTER_FORMAT"
"""The environment variable of the writer that selects the format."""
DEFAULT = "nexus"


@dataclass(frozen=True, kw_only=True)
class CompleteRun:
    """All that is known about a complete run."""

    documents: RunDocuments
    frames: list[Frame]
    """those in its files, file by file, by row; also failed ones, whose row holds the fill value"""
    manifest: Mapping[str, Any]
    """see `manifest.compose`; `failed` lists the failed frames, with reasons"""


Format = Callable[[CompleteRun, Path], str]
"""Writes a file to a path in the run's folder, and returns the suffix of its final name."""


def write(
    layout: Layout, journal: Path, frames: Iterable[Frame], manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a run's master file, replacing an earlier one; never raises.

    Returns:
        `format`; `path`, relative to the storage folder, empty on failure; `failure`, the reason;
        and, unless it failed, `bytes`, `block` and `checksums` of the file (`manifest.checksums`).
    """
    name = os.environ.get(VARIABLE, DEFAULT)
    try:
        path = _write(_format(name), layout, journal, frames, manifest)
        written = checksums(path)
    except Exception as exc:  # the run is complete also without it
        about = {"action": "master", "run": manifest["run"]}
        logger.exception("run %s has no master file", manifest["run"], extra=about)
        return {"format": name, "path": "", "failure": str(exc) or repr(exc)}
    place = path.relative_to(layout.root).as_posix()
    return {"format": name, "path": place, "failure": "", **written}


def _format(name: str) -> Format:
    found = entry_points(group=GROUP)
    if name not in found.names:
        raise ValueError(
            f"{VARIABLE} asks for the master format {name!r}; installed are: "
            f"{', '.join(sorted(found.names))}"
        )
    return found[name].load()


def _write(
    to_file: Format,
    layout: Layout,
    journal: Path,
    frames: Iterable[Frame],
    manifest: Mapping[str, Any],
) -> Path:
    run = CompleteRun(
        documents=RunDocuments.load(journal), frames=_by_file(frames), manifest=manifest
    )
    uid, started = run.documents.start["uid"], run.documents.start["time"]
    part = layout.master_of(uid, started, ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        path = layout.master_of(uid, started, to_file(run, part))
        put_in_place(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _by_file(frames: Iterable[Frame]) -> list[Frame]:
    """Sort frames by file, in the order of their first ones, and by row; drop those in no file."""
    files: dict[str, list[Frame]] = {}
    for frame in frames:
        if frame.path:
            files.setdefault(frame.path, []).append(frame)
    return [frame for one in files.values() for frame in sorted(one, key=lambda f: f.row)]
