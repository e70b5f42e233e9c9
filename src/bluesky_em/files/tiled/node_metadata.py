"""Metadata of nodes as Tiled keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .row_map import KEY

_LATER = {KEY, "stop", "notes", "_config_updates"}
"""Entries that are added after a node's creation."""


def as_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as Tiled returns them: NaN is None, an array a list."""
    from tiled.utils import safe_json_dump  # seconds of imports

    return json.loads(safe_json_dump(metadata))


def restore(node: Any, metadata: Mapping[str, Any]) -> None:
    """Put the metadata right with which a node was created, but for those that are added later.

    Args:
        node: of an earlier attempt.
        metadata: that it should have.
    """
    found = node.item["attributes"]["metadata"] or {}
    patch: list[dict[str, Any]] = [
        {"op": "remove", "path": f"/{_escaped(key)}"}
        for key in found.keys() - metadata.keys() - _LATER
    ]
    patch += [
        {"op": "add", "path": f"/{_escaped(key)}", "value": value}
        for key, value in as_json(metadata).items()
        if key != KEY and (key not in found or found[key] != value)
    ]
    if patch:
        node.patch_metadata(metadata_patch=patch, drop_revision=True)


def replace_entries(node: Any, **entries: Any) -> None:
    """Replace entries of a node's metadata; `update_metadata` would keep what they contain."""
    patch = [{"op": "add", "path": f"/{key}", "value": value} for key, value in entries.items()]
    node.patch_metadata(metadata_patch=patch, drop_revision=True)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
