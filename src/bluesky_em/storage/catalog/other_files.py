"""Files of other packages' detectors that Tiled cannot read, found by asking for values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bluesky_em.errors import TiledFailed
from bluesky_em.files.layout import Layout
from bluesky_em.files.readable_folders import why_unreadable
from bluesky_em.files.tiled.address import plain
from bluesky_em.files.tiled.row_map import KEY
from bluesky_em.files.tiled.stream_keys import streams

from ._read_back import REFUSED


def unreadable(run: Any, layout: Layout) -> list[dict[str, str]]:
    """Return the arrays of a run that Tiled cannot read, though it has them.

    The first and the last row of each array are read: of some thousand files, two.

    Args:
        run: its node in Tiled, with data sources.
        layout: the storage folder.

    Returns:
        `array` (`<stream>/<data key>`), `file`, and `why`, with what to do; our own frames are not
        among them, since the feed reads them back.

    Raises:
        httpx.HTTPError, TiledUnreachable: Tiled is away, or refuses everything.
    """
    found: list[dict[str, str]] = []
    for stream, node in streams(run).items():
        for key, array in plain(node).items():
            files = _files(array)
            if files and (status := _refusal(array)):
                unclear = files[0], f"HTTP status {status}; the log of the Tiled server has more"
                seen = ((file, why) for file in files if (why := _why(layout, file)))
                file, why = next(seen, unclear)
                found.append({"array": f"{stream}/{key}", "file": str(file), "why": why})
    return found


def in_words(file: dict[str, str]) -> str:
    """Return what is wrong with one entry of `unreadable`."""
    return f"Tiled cannot read {file['array']} from {file['file']}: {file['why']}"


def _files(array: Any) -> Sequence[Path]:
    """Return the files of an array of another package's detector; none for any other node."""
    family = array.item["attributes"]["structure_family"]
    if family != "array" or KEY in array.metadata:
        return []
    sources = [source for source in array.data_sources() if source.management == "external"]
    return [Path(_path(asset.data_uri)) for source in sources for asset in source.assets]


def _path(uri: str) -> str:
    from tiled.utils import path_from_uri

    return str(path_from_uri(uri))


def _refusal(array: Any) -> int:
    """Return the HTTP status with which Tiled refuses values of an array; 0 if it does not."""
    return next(filter(None, (_status(array, row) for row in _rows(array))), 0)


def _rows(array: Any) -> Iterator[int]:
    if 0 not in array.shape:
        yield from sorted({0, array.shape[0] - 1} if array.shape else {0})


def _status(array: Any, row: int) -> int:
    one = ["0:1"] * len(array.shape)
    try:
        response = array.context.http_client.get(
            array.item["links"]["full"],
            # the server closes a connection after an error of its own; no request must use it then
            headers={"Accept": "application/octet-stream", "Connection": "close"},
            params={"slice": ",".join([f"{row}:{row + 1}", *one[1:]][: len(one)])},
        )
    except TiledFailed:  # as clients of `Data` raise for it
        return 500
    if response.status_code in REFUSED:
        response.raise_for_status()
    return 0 if response.is_success else response.status_code


def _why(layout: Layout, file: Path) -> str:
    """Return why a file cannot be read, and what to do; empty if that cannot be seen from here."""
    if why := why_unreadable(layout, file):
        return why
    if not file.exists():
        return (
            "there is no such file here: has the detector written it, and is its path the one "
            "that it has on this PC? A copy at that place can be read"
        )
    return ""
