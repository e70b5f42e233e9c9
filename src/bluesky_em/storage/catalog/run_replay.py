"""Replay of a run's journal: what a feed would write is compared with what Tiled has."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from bluesky_em.documents import Document
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import Ledger

from ._compared_nodes import ComparedContainer, Difference
from ._event_tables import EventTables
from ._fallback import Fallback
from ._run_ending import RunEnding
from ._run_feed import RunFeed
from ._run_writer import TiledRunWriter


class RunReplay(RunFeed):
    """Feeds a complete run to nodes that compare, and write nothing.

    So everything that Tiled has of a run is compared in the form in which it was written: metadata
    of run, streams and arrays, each row and value of tables and arrays. Frames are compared by
    `verify` itself, with their checksums.

    Args:
        layout: the storage folder.
        ledger: of that folder.
        documents: of the run, from its journal.
        client: the catalog, which has the run.
        account: its manifest.
    """

    def __init__(
        self,
        layout: Layout,
        ledger: Ledger,
        documents: list[tuple[str, Document]],
        client: Any,
        account: dict[str, Any],
    ):
        stopped = any(name == "stop" for name, _ in documents)
        self._account = account
        self._root = ComparedContainer("", client, {})
        uid = documents[0][1]["uid"]
        super().__init__(
            layout.journal_of(uid), self._root, _Unchanged(ledger), layout,  # type: ignore
            RunEnding(files_closed=True, abandoned=not stopped),
            Fallback.load(account.get("simplified", {})),
        )  # fmt: skip

    @property
    def tables(self) -> dict[str, dict[str, int]]:
        """Which rows each table should have."""
        return self._tiled.tables

    def differences(self) -> Iterator[Difference]:
        """Yield what Tiled has otherwise than the journal says; reads all of the run."""
        while not self.step():
            if self._waiting:
                name, document = self._waiting[0]
                yield "wrong", f"a frame of {name} {document.get('uid')} is not in the ledger"
                self.close()
                return
        yield from self._root.differences()

    def _create_writer(self, client: Any, layout: Layout) -> TiledRunWriter:
        return _ComparingWriter(client, self._frames_of, layout.root, self._fallback)

    def _flush(self) -> None:
        self._tiled.flush()
        self._frames.clear()
        self._unflushed = 0

    def _complete(self, stop: dict[str, Any] | None) -> bool:
        self._flush()
        self._tiled.conclude(self._account)
        if stop is not None:
            self._release("stop", stop)
        self.close()
        return True


class _ComparingWriter(TiledRunWriter):
    def __init__(self, *args: Any):
        super().__init__(*args)
        self._event_tables = _NewTables()
        self._frame_arrays.read_back = _NothingRead()  # type: ignore (it has its methods)

    def descriptor(self, doc: Any) -> None:
        super().descriptor(doc)
        if self._fallback.is_needed:  # columns of an earlier form may be in the first table
            stream = self.stream_nodes[doc["name"]]
            stream.found.add("internal")
            stream.tolerate(partial(self._fallback.may_have_left, doc["name"]))

    def set_data_source(self, node: Any, source: Any, patch: Any = None) -> None:
        node.expect(source.structure)


class _NewTables(EventTables):
    """Appends all rows; nodes that compare have none."""

    def append(self, table: Any, rows: Any, *, is_new: bool = True) -> None:
        super().append(table, rows, is_new=True)


class _NothingRead:
    """Takes the place of `ReadBack`: `verify` reads all frames."""

    def add(self, *_: Any) -> None:
        pass

    def check(self, *_: Any) -> None:
        pass


class _Unchanged:
    """A ledger to read, in the place of one to write."""

    changes = 0

    def __init__(self, ledger: Ledger):
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)
