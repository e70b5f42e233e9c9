"""The resources of other packages' detectors: a warning when Tiled may not read their files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from bluesky_em.files.layout import Layout
from bluesky_em.files.readable_folders import why_unreadable

logger = logging.getLogger(__name__)


class OtherResources:
    """Looks at each resource as it comes, and warns once for each folder.

    Args:
        layout: the storage folder.
    """

    def __init__(self, layout: Layout):
        self._layout = layout
        self._known: set[Path] = set()

    def check(self, name: str, document: Mapping[str, Any]) -> None:
        """Log a warning if Tiled may not read the file of a resource or stream resource."""
        path = _path(document) if name == "resource" else _path_in(document.get("uri"))
        if path is None or path.parent in self._known:
            return
        self._known.add(path.parent)
        if why := why_unreadable(self._layout, path):
            logger.warning(
                "Tiled will not be able to read %s of this run: %s", path, why,
                extra={"action": "readable"},
            )  # fmt: skip


def _path(resource: Mapping[str, Any]) -> Path | None:
    root, path = resource.get("root") or "/", resource.get("resource_path")
    return Path(str(root)) / path if isinstance(path, str) else None


def _path_in(uri: Any) -> Path | None:
    """Return the path of a file's URI; None for any other URI."""
    parts = urlsplit(uri) if isinstance(uri, str) else None
    if parts is None or parts.scheme != "file":
        return None
    return Path(url2pathname(parts.path))
