"""The URI under which Tiled finds a file, and the names of folders that no such URI can carry."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ENDS_PATH = "#?"


def file_uri(path: Path) -> str:
    """Return the URI of a file for Tiled: its path as it is, without quoting.

    `Path.as_uri()` would be the standard: it writes a space as `%20`. But the server of Tiled
    0.2.20 takes the path from a URI without unquoting it (`tiled.utils.path_from_uri`), and then
    looks for a folder with `%20` in its name. So the path is not quoted here, which leaves only
    `check_folder`'s characters impossible.

    >>> file_uri(Path("/my data/50%.h5"))
    'file:///my data/50%.h5'
    """
    posix = path.as_posix()
    return f"file:///{posix}" if path.drive else f"file://{posix}"


def unquoted(uri: str) -> str:
    """Return the URI, for Tiled, of another package's file, whose URI may be quoted.

    Both kinds are in use. A file that exists under its URI's path as it is keeps its URI; one
    that exists under the unquoted path gets that.
    """
    parts = urlsplit(uri)
    if parts.scheme != "file" or "%" not in parts.path or Path(parts.path).exists():
        return uri
    plain = unquote(parts.path)
    is_carried = not any(map(_cannot_be_carried, plain))
    return f"file://{parts.netloc}{plain}" if is_carried and Path(plain).exists() else uri


def check_folder(folder: Path) -> None:
    """Refuse a folder in which Tiled could find no file.

    Args:
        folder: an absolute path.

    Raises:
        ValueError: a character of its path can be carried neither by a URI that Tiled 0.2.20
            reads (see `file_uri`), nor by the address of its database of events.
    """
    wrong = next(filter(_cannot_be_carried, str(folder)), None)
    if wrong is not None:
        raise ValueError(
            f"{str(folder)!r} cannot be a storage folder: Tiled finds no file in a folder whose "
            f"path contains {wrong!r}. Rename that folder, or give another one. Spaces, accents, "
            "quotes and most other characters are possible"
        )


def _cannot_be_carried(character: str) -> bool:
    """Check for what ends a URI's path (`#`, `?`), is removed from it, or is not UTF-8."""
    return character in _ENDS_PATH or unicodedata.category(character) in ("Cc", "Cs")
