"""The container `results` of a catalog: all that analysts add is in it, beside the raw runs.

What is published about a run is the stream `results/about-<uid of the run>`. Runs of results are
there by their own uid. An analyst's key changes nothing else (`RawIsReadOnly`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bluesky_em.files.result_columns import value_key
from bluesky_em.files.run_names import the_only

from .address import runs_of

SOURCE = "bluesky_em.Data.publish"
"""`source` of the data keys of what is published about a run"""
NAME = "results"
"""Key of the container in the catalog; no run's uid."""


def key_about(run: str) -> str:
    """Return the key, in the container, of what is published about a run."""
    return f"about-{run}"


def path_about(run: str) -> str:
    """Return the path of what is published about a run."""
    return f"{NAME}/{key_about(run)}"


def is_published(stream: Any) -> bool:
    """Check whether a stream is what is published about a run."""
    return stream.metadata.get("data_keys", {}).get("of", {}).get("source") == SOURCE


def find(client: Any) -> Any:
    """Return the container, as a plain one, whatever its specs say.

    Raises:
        KeyError: the catalog has none.
    """
    from tiled.client.container import Container

    runs = runs_of(client)
    bare = runs.new_variation(structure_clients={"container": Container})
    container = Container.__getitem__(bare, NAME)
    return container.new_variation(structure_clients=runs.structure_clients)


def find_or_create(client: Any) -> Any:
    """Return the container, which is created unless it exists.

    Raises:
        tiled.client.utils.ClientError: it does not exist, and the key may not create it.
    """
    from .nodes import IdempotentNode

    try:
        return find(client)
    except KeyError:
        IdempotentNode(client).create_container(NAME, metadata={})
        return find(client)


def child(client: Any, path: str) -> Any:
    """Return the node at a path, with one request; a catalog's own `[...]` looks for runs only.

    Raises:
        KeyError: there is none.
    """
    from tiled.client.container import Container  # takes seconds: only when it is needed

    return Container.__getitem__(runs_of(client), path)


def full_uid(client: Any, beginning: str) -> str:
    """Return the uid of the run that begins so, of results, too; `beginning` if none does.

    Raises:
        UnknownReference: several do.
    """
    found = (uid for place in _places(client) for uid in _uids(place, beginning))
    return the_only(beginning, found, str(client.uri)) or beginning


def _places(client: Any) -> Iterator[Any]:
    yield runs_of(client)
    try:
        results = find(client)
    except KeyError:
        return
    yield results


def _uids(place: Any, beginning: str) -> Iterator[str]:
    """Yield the uids in a container that begin so; in a query `_` and `%` stand for any others."""
    from tiled.client.container import Container
    from tiled.queries import Like

    # not the client's own `search`: bluesky-tiled-plugins' looks in the start document
    for uid in Container.search(place, Like("start.uid", f"{beginning}%")):
        if uid.startswith(beginning):
            yield uid


def place_of(client: Any, start: Mapping[str, Any]) -> Any:
    """Return the container that a run belongs in: the catalog, or for results the container.

    A run of results that an earlier version has put beside the raw runs stays there.

    Raises:
        tiled.client.utils.ClientError: there is no such container, and the key may not create it.
    """
    if not value_key(start) or start["uid"] in runs_of(client):
        return client
    return find_or_create(client)


def find_run(client: Any, uid: str) -> Any:
    """Return a run, which may be one of results.

    Raises:
        KeyError: it has not begun.
    """
    try:
        return runs_of(client)[uid]
    except KeyError:
        node = child(client, f"{NAME}/{uid}")
    if "BlueskyRun" not in {spec.name for spec in node.specs}:
        raise KeyError(uid)
    return node
