from collections.abc import Iterator
from pathlib import Path

import pytest

from bluesky_em.errors import UnknownReference
from bluesky_em.files import operator_requests
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.files.operator_requests import (
    Action,
    Request,
    pending,
    submit,
    submit_for,
    wait_accepted,
)
from bluesky_em.frame import Frame

RETRY = Request(action=Action.RETRY, run="run", references=("run.eels/0",))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.journal.mkdir()
    return layout


@pytest.fixture
def ledger(layout: Layout) -> Iterator[LedgerWriter]:
    ledger = LedgerWriter(layout.ledger)
    yield ledger
    ledger.close()


def block(run: str, number: int, count: int) -> Frame:
    return Frame(
        reference=f"{run}.eels/{number}", run=run, stream="primary", detector="eels",
        number=number, row=number, server="PYRO:eels_server@gatan-pc:9091", path="eels.h5",
        shape=(4,), dtype="<f4", checksum=0, axes=(), ended=1.0, count=count,
    )  # fmt: skip


@pytest.mark.parametrize(
    "request_",
    [RETRY, Request(action=Action.RETRY, run="run"),
     Request(action=Action.GIVE_UP, run="run", reason="Der Server ist außer Betrieb")],
    ids=lambda each: f"{each.action} {each.references}",
)  # fmt: skip
def test_a_request_reaches_the_writer_unchanged(layout: Layout, request_: Request):
    path = submit(layout, request_)
    assert list(pending(layout)) == [(path, request_)]


def test_a_folder_without_requests_has_none_pending(layout: Layout):
    assert list(pending(layout)) == []


def test_a_request_is_pending_until_its_file_is_removed(layout: Layout):
    first, second = submit(layout, RETRY), submit(layout, RETRY)
    first.unlink()
    assert list(pending(layout)) == [(second, RETRY)]


def test_a_request_that_is_being_written_is_not_read(layout: Layout):
    path = submit(layout, RETRY)
    path.with_name(f"{path.stem}-2.json.part").write_text('{"action": "re')
    assert list(pending(layout)) == [(path, RETRY)]


def test_waiting_ends_when_the_writer_has_accepted_all_requests(layout: Layout):
    path = submit(layout, RETRY)
    path.unlink()
    assert wait_accepted([path], timeout=60.0)


def test_waiting_ends_after_the_timeout_if_no_writer_runs(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(operator_requests, "POLL_INTERVAL", 0.0)
    assert not wait_accepted([submit(layout, RETRY)], timeout=0.01)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"run": "run"}', '{"action": "delete", "run": "", "references": []}']
)
def test_a_file_that_is_not_a_request_is_reported_and_renamed(layout: Layout, text: str):
    layout.requests.mkdir()
    (layout.requests / "a.json").write_text(text)
    path = submit(layout, RETRY)
    with pytest.raises(ValueError, match=r"a\.json is not a request, and is ignored"):
        list(pending(layout))
    assert (layout.requests / "a.refused").read_text() == text
    assert list(pending(layout)) == [(path, RETRY)]


def test_references_are_requested_run_by_run_and_blocks_as_a_whole(
    layout: Layout, ledger: LedgerWriter
):
    ledger.add_frames([block("one", 0, 1), block("two", 0, 100), block("two", 100, 50)])
    paths = submit_for(
        layout, ledger, Action.GIVE_UP, ["one.eels/0", "two.eels/7", "two.eels/120"], "it is gone"
    )
    requests = dict(pending(layout))
    assert [requests[path] for path in paths] == [
        Request(
            action=Action.GIVE_UP, run="one", references=("one.eels/0",), reason="it is gone"
        ),
        Request(
            action=Action.GIVE_UP, run="two", references=("two.eels/0", "two.eels/100"),
            reason="it is gone",
        ),
    ]  # fmt: skip


def test_a_run_is_requested_as_a_whole(layout: Layout, ledger: LedgerWriter):
    layout.journal_of("run").touch()
    submit_for(layout, ledger, Action.RETRY, ["run"])
    assert [request for _, request in pending(layout)] == [Request(action=Action.RETRY, run="run")]


def test_an_unknown_name_is_refused_and_nothing_is_requested(layout: Layout, ledger: LedgerWriter):
    ledger.add_frames([block("one", 0, 1)])
    with pytest.raises(UnknownReference, match="'typo' is neither a reference nor a run in"):
        submit_for(layout, ledger, Action.RETRY, ["one.eels/0", "typo"])
    assert list(pending(layout)) == []
