"""A ragged array in Tiled that is written again: the same node, without rows.

Why not delete it: the feed's key cannot delete, so that nothing can be lost through it. The rows of
one node are those with its `dataset_id` in a table of Tiled's database. So the node gets another
one, in one transaction of the catalog; the rows of before stay in the database, in no node.
"""

from __future__ import annotations

import secrets
from typing import Any

_LARGEST = 2**31 - 1  # of the database's type; Tiled counts from 1, so negative ones are free


def renew(node: Any) -> None:
    """Remove all rows of a ragged array from its node.

    Args:
        node: of a client that includes data sources.

    Raises:
        httpx.HTTPStatusError: Tiled refuses it.
    """
    from tiled.client.utils import handle_error  # seconds of imports
    from tiled.utils import safe_json_dump

    source = node.data_sources()[0]
    dataset = -1 - secrets.randbelow(_LARGEST)
    source.parameters = {**source.parameters, "dataset_id": dataset}
    shape, chunks = source.structure["shape"], source.structure["chunks"]
    empty = {"shape": [0, *shape[1:]], "chunks": [[], *chunks[1:]], "size": 0}
    source.structure = {**source.structure, **empty}
    uri = node.uri.replace("/metadata/", "/data_source/", 1)
    body = safe_json_dump({"data_source": source})
    handle_error(node.context.http_client.put(uri, content=body))
    node.refresh()
