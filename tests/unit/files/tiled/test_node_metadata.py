from typing import Any

import pytest

from bluesky_em.files.tiled.node_metadata import restore


class Node:
    """A node of Tiled that keeps the patches of its metadata."""

    def __init__(self, **metadata: Any):
        self.item = {"attributes": {"metadata": metadata}}
        self.patches: list[dict[str, Any]] = []

    def patch_metadata(self, *, metadata_patch: Any, drop_revision: bool) -> None:
        assert drop_revision
        self.patches += metadata_patch


def test_changed_entries_are_put_right_and_those_that_do_not_belong_there_removed():
    node = Node(start={"uid": "a"}, forged=1, **{"of/another": 2})
    restore(node, {"start": {"uid": "b"}})
    assert sorted(node.patches, key=lambda patch: patch["path"]) == [
        {"op": "remove", "path": "/forged"},
        {"op": "remove", "path": "/of~1another"},
        {"op": "add", "path": "/start", "value": {"uid": "b"}},
    ]


@pytest.mark.parametrize("key", ["stop", "notes", "bluesky_em", "_config_updates"])
def test_what_is_added_after_the_creation_of_a_node_stays(key: str):
    node = Node(start={}, **{key: {}})
    restore(node, {"start": {}})
    assert node.patches == []
