"""An access policy for Tiled: what a key may do depends on where a node is.

Imported by a Tiled server only, the embedded one or one that you run. It needs nothing of this
package but the files beside it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import HTTPException
from tiled.access_control.access_policies import ALL_ACCESS, NO_ACCESS
from tiled.access_control.protocols import AccessPolicy
from tiled.structures.core import StructureFamily
from tiled.structures.data_source import Management

from .results_container import NAME

READS = frozenset({"read:metadata", "read:data"})
"""scopes of readers"""
ADDS = READS | {"create:node", "write:metadata"}
"""scopes of analysts on the container of results itself; its stream of events stays open"""
REGISTER = "register"
"""the scope of the writer's key, by which it is known: analysts' keys do not have it"""


class RawIsReadOnly(AccessPolicy):
    """Only a key with the scope `register` changes raw runs.

    With any other key, all nodes can be read, and changes are limited to what is below the
    container `results`, within the key's own scopes. The container itself stays as it is: with
    other specs or metadata it would be a run, or clients could not open it.

    Why the scopes tell the keys apart: with a single-user server Tiled names no principal. Why a
    container: in Tiled, adding a node to a run and changing the run need the same scope.
    """

    async def allowed_scopes(
        self, node: Any, principal: Any, authn_access_tags: Any, authn_scopes: Any
    ) -> Any:
        """Return the scopes that a key has on a node."""
        scopes = frozenset(authn_scopes)
        if REGISTER in scopes or scopes <= READS:
            return scopes
        path = await node.path_segments() if hasattr(node, "path_segments") else []
        if [*path[:1]] != [NAME] or not all(map(_is_safe, path)):
            return scopes & READS
        node.create_node = _CheckedCreation(node.create_node)
        return scopes if len(path) > 1 else scopes & ADDS

    async def filters(
        self, node: Any, principal: Any, authn_access_tags: Any, authn_scopes: Any, scopes: Any
    ) -> Any:
        """Hide nothing from a key that may read."""
        return ALL_ACCESS if set(scopes) <= set(authn_scopes) else NO_ACCESS

    async def init_node(
        self, principal: Any, authn_access_tags: Any, authn_scopes: Any, access_tags: Any = None
    ) -> Any:
        """Return that a new node gets no tags: they mean nothing here."""
        return bool(access_tags), frozenset()

    async def modify_node(
        self, node: Any, principal: Any, authn_access_tags: Any, authn_scopes: Any, access_tags: Any
    ) -> Any:
        """Return that a node keeps the tags it has; Tiled calls this before it changes a node."""
        if REGISTER not in authn_scopes and len(await node.path_segments()) < 2:
            raise HTTPException(
                403, f"Not enough permissions: the container {NAME!r} itself stays as it is."
            )
        return access_tags != node.access_tags, node.access_tags


class _CheckedCreation:
    """`create_node` of a node, for keys that may not register files.

    Tiled 0.2.20 shows a policy neither the key nor the data sources of a new node, only the node
    in which it is created, on which it then calls `create_node`. Without this check those keys
    read and write any file of the computer: Tiled takes paths from a data source's parameters,
    from the names of an awkward array's buffers, and from `..` as a key.
    """

    def __init__(self, create: Callable[..., Awaitable[Any]]):
        self._create = create

    async def __call__(
        self, *, key: str, structure_family: str, data_sources: Sequence[Any], **others: Any
    ) -> Any:
        why = "" if _is_safe(key) else f"{key!r} cannot be the key of a node; use another name"
        for source in data_sources:
            why = why or _why_refused(source)
        if why:
            raise HTTPException(403, f"This key adds results, not files: {why}.")
        return await self._create(
            key=key, structure_family=structure_family, data_sources=data_sources, **others
        )


def _is_safe(key: str) -> bool:
    """Check that a key does not lead out of its folder, where arrays are stored."""
    return bool(key.strip(". ")) and not {"/", "\\", "\0"} & set(key)


def _why_refused(source: Any) -> str:
    """Return why a data source is refused; empty if it is not."""
    if source.management == Management.external or source.assets:
        return "it may not register any. Send the values, e.g. with `write_array`"
    if source.parameters:
        return (
            f"the parameters {sorted(source.parameters)} of a data source name files or tables. "
            "Send none; the server chooses"
        )
    if source.structure_family == StructureFamily.awkward or "awkward" in (source.mimetype or ""):
        return "an awkward array names the files of its buffers. Send a ragged one"
    return ""
