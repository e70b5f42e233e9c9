"""Following with a Redis as the live cache: with it, after its death, and while Tiled restarts."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bluesky_em.app.session import Session
from bluesky_em.files.tiled.address import address_of
from bluesky_em.reference import run_of
from tests.conftest import ROOT
from tests.support.followed_run import REASON, documented, spectra
from tests.support.follower_process import Follower, Line
from tests.support.interruption import at_event, pid_of
from tests.support.redis_server import Redis, needs_redis, redis_server

POINTS = 40
pytestmark = needs_redis


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def own_session(cache: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A session whose Tiled server keeps its live messages in that Redis."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLUESKY_EM_LIVE_REDIS", f"redis://{cache.address}/0")
        with Session(tmp_path_factory.mktemp("storage"), root=ROOT) as session:
            session.sd.baseline.clear()
            assert session.data.catalog is not None
            yield session
            session.storage.close(wait=True)


@pytest.fixture(scope="module")
def followers(own_session: Session) -> Iterator[tuple[Follower, Follower]]:
    """Two follower processes, which know only the Tiled address."""
    address = address_of(own_session.storage.layout)
    assert address is not None
    with ExitStack() as stack:
        made = [Follower(tiled=address.uri, api_key=address.api_key) for _ in range(2)]
        first, second = [stack.enter_context(follower) for follower in made]
        yield first.ready(), second.ready()


def assert_complete(session: Session, uid: str, followed: tuple[list[Line], Line]) -> None:
    points, end = followed
    assert points == documented(session, uid) and len(points) == POINTS
    assert end == {"run": uid, "status": "success", "reason": REASON}
    session.data.wait(uid)
    numbers = session.data.catalog[uid]["primary"].base["internal"].read()["seq_num"]
    assert list(numbers) == [*range(1, POINTS + 1)]


def test_with_a_redis_followers_receive_all_points_whenever_they_start(
    own_session: Session, cache: Redis, followers: tuple[Follower, Follower]
) -> None:
    before, middle = followers

    def follow() -> None:
        middle.follow(run_of(own_session.storage.references[-1]))

    before.follow()
    plan = spectra(own_session, POINTS)
    (uid,) = own_session.RE(plan, at_event(POINTS // 2, follow)).run_start_uids
    for follower in followers:
        assert_complete(own_session, uid, follower.end())
    assert [*cache.client.scan_iter("data:*")], "that Redis was not used"


def test_killing_the_redis_during_a_run_loses_nothing(
    own_session: Session, cache: Redis, followers: tuple[Follower, Follower]
) -> None:
    before, late = followers
    before.follow()
    kill = at_event(POINTS // 2, lambda: os.kill(cache.process.pid, signal.SIGKILL))
    (uid,) = own_session.RE(spectra(own_session, POINTS), kill).run_start_uids
    late.follow(uid)
    for follower in followers:
        assert_complete(own_session, uid, follower.end())
    log = (own_session.storage.layout.catalog / "server.log").read_text()
    assert "live messages are not kept: " in log


def test_followers_wait_for_a_tiled_server_killed_during_a_run_even_without_its_redis(
    own_session: Session, cache: Redis, followers: tuple[Follower, Follower]
) -> None:
    assert cache.process.poll() is not None
    before, middle = followers
    before.follow()
    kill = at_event(
        POINTS // 2, lambda: os.kill(pid_of(own_session, "Tiled server"), signal.SIGKILL)
    )
    (uid,) = own_session.RE(spectra(own_session, POINTS), kill).run_start_uids
    middle.follow(uid)
    for follower in followers:
        assert_complete(own_session, uid, follower.end())
