"""The beginning of a uid names a run, if only one begins so."""

from pathlib import Path

import pytest

from bluesky_em.errors import UnknownReference
from bluesky_em.files import run_names
from bluesky_em.files.journal import Journal
from bluesky_em.files.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.journal.mkdir()
    return layout


def begin(layout: Layout, *uids: str) -> None:
    for uid in uids:
        journal = Journal(layout.journal_of(uid))
        journal.append("start", {"uid": uid, "time": 0.0})
        journal.close()


@pytest.mark.parametrize(
    ("given", "found"),
    [("abc-1", "abc-1"), ("abc", "abc"), ("x", "xyz"), ("nothing", "nothing"), ("", "")],
)
def test_a_whole_uid_or_a_beginning_that_only_one_has_is_completed(
    layout: Layout, given: str, found: str
):
    begin(layout, "abc", "abc-1", "xyz")
    assert run_names.full_uid(layout, given) == found


def test_a_beginning_that_several_runs_have_is_refused_with_two_of_them(layout: Layout):
    begin(layout, "abc-1", "abc-2", "abc-3")
    with pytest.raises(UnknownReference, match="begin with 'abc', e.g. abc-1 and abc-2: give more"):
        run_names.full_uid(layout, "abc")


def test_a_uid_that_cannot_be_the_name_of_a_file_is_found_by_its_beginning(layout: Layout):
    begin(layout, "a:b?c")
    stem = layout.journal_of("a:b?c").stem
    assert stem != "a:b?c" and run_names.find(layout, stem[:1]) == "a:b?c"


def test_a_run_that_is_not_there_is_refused_with_the_newest_that_is(layout: Layout):
    with pytest.raises(UnknownReference, match="no run 'x' in .*: no run has been stored there"):
        run_names.find(layout, "x")
    begin(layout, "abc")
    with pytest.raises(UnknownReference, match="no run 'x' in .*; the newest is abc"):
        run_names.find(layout, "x")
