"""Whoever follows a run sees all of it: whenever he comes, wherever from, whatever happens."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import pytest
from bluesky.utils import MsgGenerator

from bluesky_em import journal
from bluesky_em.catalog import Address
from bluesky_em.plan_stubs import per_shot
from bluesky_em.session import Session
from tests.flow.following import Follower, Line

POINTS = 40
EXPOSURE = 0.05  # seconds
REASON = "the sample is known well enough"


def spectra(session: Session, num: int, *streams: str, exposure: float = EXPOSURE) -> MsgGenerator:
    """Take spectra with a scalar beside them, and say why it ends."""
    eels, beam_x = session.devices["eels"], session.devices["microscope"].beam_x

    @bpp.stage_decorator([eels])
    def inner() -> MsgGenerator[None]:
        yield from bps.open_run()
        for n in range(num):
            yield from bps.mv(beam_x, n / num)
            for stream in streams or ("primary",):
                yield from per_shot([eels, beam_x], stream)
        yield from bps.close_run(reason=REASON)

    yield from bps.mv(eels.exposure, exposure, eels.frames, 1)
    yield from inner()


def documented(session: Session, uid: str) -> list[Line]:
    """What a follower must see, from the documents: events, and checksums at the exposure."""
    documents = journal.read(session.storage.layout.journal_of(uid))
    datums = {d["datum_id"]: d["datum_kwargs"] for name, d in documents if name == "datum"}
    names = {d["uid"]: d["name"] for name, d in documents if name == "descriptor"}
    events = [d for name, d in documents if name == "event"]
    return [
        {
            "stream": names[event["descriptor"]],
            "index": event["seq_num"] - 1,
            "seq_num": event["seq_num"],
            "time": event["time"],
            "data": {k: v for k, v in event["data"].items() if isinstance(v, (int, float))},
            "references": {"eels": event["data"]["eels"]},
            "checksum": datums[event["data"]["eels"]]["checksum"],
            "skipped": 0,
            "reason": "",
        }
        for event in events
    ]  # fmt: skip


@dataclass
class Followed:
    """A run, and what followers saw of it, by when or where they came."""

    uid: str
    expected: list[Line]
    seen: dict[str, tuple[list[Line], Line]]
    killed: list[Line]
    """what the one that was killed saw"""


@pytest.fixture(scope="module")
def followed(
    session: Session, tiled: Address, tmp_path_factory: pytest.TempPathFactory
) -> Followed:
    """One run with all sorts of followers, each a process of its own."""
    http = {"tiled": tiled.uri, "api_key": tiled.api_key}
    folder = {"storage": str(session.storage.layout.root)}
    places = {
        "before": http, "middle": http, "after": http, "killed": http, "restarted": http,
        "folder": folder, "folder, middle": folder,
    }  # fmt: skip
    mark = str(tmp_path_factory.mktemp("marks") / "bookmark.json")
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor())
        those = {name: stack.enter_context(Follower(**place)) for name, place in places.items()}
        for follower in those.values():
            follower.ready()
        killed = those.pop("killed")

        def kill_and_restart(uid: str) -> list[Line]:
            killed.follow(uid, bookmark=mark)
            killed.until(5)
            seen = killed.kill()
            those["restarted"].follow(uid, bookmark=mark)
            return seen

        def come(uid: str, *names: str) -> None:
            for name in names:
                those[name].follow(uid)

        work: list[Future[Any]] = []

        def watch(name: str, document: dict[str, Any]) -> None:
            if name == "start":
                work.append(pool.submit(kill_and_restart, document["uid"]))
            if name == "event" and document["seq_num"] == POINTS // 2:
                uid = session.storage.references[-1].partition("/")[0]
                work.append(pool.submit(come, uid, "middle", "folder, middle"))

        those["before"].follow()
        those["folder"].follow()
        (uid,) = session.RE(spectra(session, POINTS), watch).run_start_uids
        session.data.wait(uid)
        those["after"].follow(uid)
        seen_before_death, _ = [future.result(60) for future in work]
        seen = {name: follower.end() for name, follower in those.items()}
        return Followed(uid, documented(session, uid), seen, seen_before_death)


@pytest.mark.parametrize("when", ["before", "middle", "after", "folder", "folder, middle"])
def test_a_follower_in_another_process_sees_the_same_complete_sequence_whenever_it_comes(
    followed: Followed, when: str
) -> None:
    points, end = followed.seen[when]
    assert points == followed.expected and len(points) == POINTS
    assert end == {"run": followed.uid, "status": "success", "reason": REASON}


def test_a_follower_that_was_killed_goes_on_where_its_bookmark_lies(followed: Followed) -> None:
    points, end = followed.seen["restarted"]
    assert 5 < len(followed.killed) < POINTS
    first = points[0]["index"]
    assert first in (len(followed.killed) - 1, len(followed.killed))
    assert [*followed.killed[:first], *points] == followed.expected
    assert followed.killed == followed.expected[: len(followed.killed)]
    assert end["reason"] == REASON
