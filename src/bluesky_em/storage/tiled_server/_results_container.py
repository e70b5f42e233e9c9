"""The container for results in a catalog that is served: there before any client connects."""

from __future__ import annotations

from typing import Any

from bluesky_em.files.tiled import results_container


async def create(tree: Any) -> None:
    """Create the container in a catalog, unless it exists.

    Args:
        tree: the root of the catalog in the server.
    """
    from tiled.catalog.adapter import Collision
    from tiled.structures.core import StructureFamily

    try:
        await tree.create_node(
            structure_family=StructureFamily.container,
            metadata={},
            key=results_container.NAME,
        )
    except Collision:
        pass
