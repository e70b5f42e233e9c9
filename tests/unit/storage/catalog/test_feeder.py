from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.files.tiled.health import check_health
from bluesky_em.files.tiled.renewal import RowsDiffer
from bluesky_em.storage.catalog import Feeder, RunEnding

REQUEST = httpx.Request("GET", "http://tiled/api/v1/")
DROPPED = httpx.RemoteProtocolError("Server disconnected without sending a response.")


def refused(status: int = 500) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError(
        f"{status}", request=REQUEST, response=httpx.Response(status, request=REQUEST)
    )


class Client:
    """A Tiled client whose health page gives some answers, the last one for ever."""

    def __init__(self, *answers: int | Exception):
        self.answers = [*answers]
        self.asked: list[str] = []
        self.context: Any = self
        self.http_client = self
        self.api_uri = "http://tiled/path/api/v1/"
        self.closed = False

    def get(self, page: str) -> httpx.Response:
        self.asked.append(page)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, request=REQUEST)

    def close(self) -> None:
        self.closed = True


class Feeds:
    """Creates feeds that fail with the errors given for their run, one after the other."""

    def __init__(self, **errors: list[Exception]):
        self.errors = errors
        self.tried: list[str] = []
        self.closed: list[str] = []
        self.simpler = True
        self.clock = 0.0

    def __call__(self, path: Path, *_: Any) -> Any:
        feeds = self

        class Feed:
            last_step = 0.0

            def step(self) -> bool:
                feeds.tried.append(path.stem)
                self.last_step = feeds.clock = feeds.clock + 1
                errors = feeds.errors.get(path.stem, [])
                if errors:
                    raise errors.pop(0)
                return feeds.is_complete(path.stem)

            def simplify(self, exc: Exception, fallback: Any) -> bool:
                return feeds.simpler

            def close(self) -> None:
                feeds.closed.append(path.stem)

        return Feed()

    def is_complete(self, run: str) -> bool:
        return run != "open"


@pytest.fixture
def feeder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Feeder]:
    monkeypatch.setattr("bluesky_em.storage.catalog._feeder.PeriodicThread", IdleThread)
    monkeypatch.setattr("bluesky_em.storage.catalog._refusal.RUN_BACKOFF", (0.0, 0.0))
    ledger = LedgerWriter(tmp_path / "ledger.sqlite")
    yield Feeder(Layout(tmp_path), ledger, lambda: None)
    ledger.close()


class IdleThread:
    def __init__(self, *_: Any):
        pass

    def start(self) -> None:
        pass


def add(feeder: Feeder, *runs: str) -> None:
    for run in runs:
        feeder.add(Path(run), RunEnding(files_closed=True))


def test_the_error_of_one_run_closes_no_other_feed_and_that_run_comes_last(feeder: Feeder):
    feeder._client = Client(200)
    feeds: Any = Feeds(bad=[refused(), refused()])
    add(feeder, "bad", "open", "good")
    feeder._step(feeds)
    assert feeds.tried == ["good", "open", "bad"] and feeds.closed == ["bad"]
    assert "Tiled refuses run bad, its data are safe: 500" in feeder.trouble
    add(feeder, "late")
    feeder._step(feeds)
    assert feeds.tried[3:] == ["late", "open", "bad"]
    feeder._step(feeds)
    assert feeds.tried[6:] == ["open", "bad"] and feeder.trouble == ""


def test_of_many_refused_runs_one_is_tried_in_each_round_and_each_has_its_turn(feeder: Feeder):
    feeder._client = Client(200)
    feeds: Any = Feeds(**{run: [refused()] * 9 for run in "abc"})
    feeds.simpler = False
    add(feeder, *"abc", "open")
    for _ in range(4):
        feeder._step(feeds)
    assert feeds.tried == ["open", *"cba", "open", "c", "open", "b", "open", "a"]


def test_a_slow_new_run_and_a_slow_older_one_take_turns(
    feeder: Feeder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bluesky_em.storage.catalog._feeder.NEWEST", 2)
    monkeypatch.setattr("bluesky_em.storage.catalog._feeder.TURN", -1.0)
    monkeypatch.setattr(Feeds, "is_complete", lambda _, run: run == "done")
    feeder._client = Client(200)
    feeds: Any = Feeds()
    for run in ["a", "b", "done", "c", "new", "newer"]:
        feeder.add(Path(run), RunEnding(files_closed=run == "done"))
    for _ in range(5):
        feeder._step(feeds)
    assert feeds.tried[0::2] == ["newer"] * 5
    assert feeds.tried[1::2] == ["done", "a", "b", "c", "a"]


def test_a_dropped_connection_is_the_runs_own_error_while_the_health_page_answers(feeder: Feeder):
    feeder._client = client = Client(DROPPED, 200)
    feeds: Any = Feeds(bad=[DROPPED])
    add(feeder, "bad", "good")
    feeder._step(feeds)
    assert client.asked == ["http://tiled/path/healthz"] * 2
    assert feeds.tried == ["good", "bad"] and not client.closed


@pytest.mark.parametrize("answer", [DROPPED, 500, 503])
def test_tiled_is_away_if_its_health_page_does_not_answer_well(
    feeder: Feeder, answer: int | Exception
):
    feeder._client = Client(answer)
    feeds: Any = Feeds(bad=[DROPPED])
    add(feeder, "good", "bad")
    with pytest.raises(httpx.HTTPError):
        feeder._step(feeds)
    assert feeds.tried == ["bad"] and feeder.trouble == ""
    feeder._step(feeds)
    assert feeds.tried == ["bad", "good", "bad"], "a run during which Tiled vanished comes last"


def test_errors_that_meet_every_run_are_charged_to_none(feeder: Feeder):
    feeder._client = client = Client(200)
    feeds: Any = Feeds(one=[refused(503)])
    add(feeder, "one")
    with pytest.raises(httpx.HTTPStatusError):
        feeder._step(feeds)
    assert client.asked == [] and feeder.trouble == ""


def test_an_error_is_repeated_once_before_the_run_is_made_simpler(
    feeder: Feeder, caplog: pytest.LogCaptureFixture
):
    feeder._client = Client(200)
    feeds: Any = Feeds(bad=[refused(), refused(), ValueError("odd column")])
    add(feeder, "bad")
    feeder._step(feeds)
    assert "simpler form" not in caplog.text
    feeder._step(feeds)
    feeder._step(feeds)
    assert caplog.text.count("run bad is written in a simpler form") == 2
    feeder._step(feeds)
    assert feeder._journals == {} and feeder.trouble == ""


def test_health_is_asked_at_the_root_of_the_server():
    client = Client(200)
    check_health(client)
    assert client.asked == ["http://tiled/path/healthz"]


def test_a_run_of_which_tiled_has_other_rows_is_written_again_in_the_same_form(feeder: Feeder):
    feeder._client = Client(200)
    feeds: Any = Feeds(bad=[RowsDiffer("event 3 is missing")])
    add(feeder, "bad")
    feeder._step(feeds)
    assert "other rows of run bad, its data are safe: event 3 is missing" in feeder.trouble
    assert not feeder._refusals[Path("bad")].fallback.is_needed
    feeder._step(feeds)
    assert feeds.tried == ["bad", "bad"] and feeder.trouble == "" and not feeder._refusals


def test_runs_that_the_catalog_lacks_come_after_those_of_the_day(feeder: Feeder):
    feeder._client = Client(200)
    feeds: Any = Feeds()
    feeder._add_again(Path("old"), RunEnding(files_closed=True))
    add(feeder, "open", "new")
    feeder._step(feeds)
    assert feeds.tried == ["new", "open", "old"] and not feeder._again
