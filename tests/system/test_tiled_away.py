"""On a PC that has only Tiled's address, each call of `Data` says in time that Tiled is away."""

import asyncio
import inspect
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from bluesky_em import Data
from bluesky_em.app.session import Session
from bluesky_em.errors import NotReady, TiledFailed, TiledRefused, TiledUnreachable
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.reference import run_of
from tests.support.tiled_proxy import TiledProxy, proxy_to

TIMEOUT = 2.0  # seconds, given to each call
LATE = "has not answered within "
BUSY = 8.0  # seconds more on a busy computer; Tiled's own client would ask for 25 to 45 s
GARBAGE = {
    "a login page": ("text/html", b"<html>Please log in</html>"),
    "JSON": ("application/json", b'{"hello": "world"}'),
    "no mapping": ("application/x-msgpack", b"garbage"),
    "nothing": ("application/x-msgpack", b""),
}

Call = Callable[[Data, str, str], Any]


def first_point(data: Data, run: str) -> Any:
    with data.follow(run, patience=TIMEOUT) as points:
        return next(points)


def first_run(data: Data) -> Any:
    with data.follow(last=1, patience=TIMEOUT) as runs:
        return next(runs)


CALLS: dict[str, list[Call]] = {
    "catalog": [lambda data, run, _: data.catalog[run]],
    "results_catalog": [lambda data, _run, _: data.results_catalog],
    "status": [lambda data, _, reference: data.status(reference)],
    "open": [lambda data, _, reference: data.open(reference).read()],
    "stream": [lambda data, run, _: data.stream(run)],
    "follow": [
        lambda data, run, _: first_point(data, run),
        lambda data, run, _: first_point(data, run[:12]),
        lambda data, _run, _: first_run(data),
    ],
    "publish": [lambda data, run, _: data.publish(run, "aligned", True)],
    "results": [lambda data, run, _: data.results(run[:12])],
    "wait": [
        lambda data, run, _: data.wait(run, timeout=TIMEOUT),
        lambda data, _, reference: data.wait(reference, timeout=TIMEOUT),
        lambda data, _, reference: data.wait([reference[:12] + reference[36:]], timeout=TIMEOUT),
    ],
    "wait_async": [
        lambda data, run, _: asyncio.run(data.wait_async(run, timeout=TIMEOUT)),
    ],
}
NEEDS_NO_TILED = {"flush", "close"}


@dataclass
class Away:
    """A way in which Tiled is away."""

    set: Callable[[TiledProxy], None]
    error: type[Exception]
    words: str


def answers(kind: str) -> Away:
    return Away(
        lambda proxy: setattr(proxy, "garbage", GARBAGE[kind]), TiledUnreachable, "no Tiled server"
    )


def refuses(status: int, error: type[Exception], words: str) -> Away:
    return Away(lambda proxy: setattr(proxy, "refusal", status), error, words)


AWAY = {
    "absent": Away(TiledProxy.leave, TiledUnreachable, "does not answer: .*refused"),
    "hanging": Away(lambda proxy: setattr(proxy, "delay", 60.0), TiledUnreachable, LATE),
    "refuses the key": refuses(401, TiledRefused, r"refuses the key \(401"),
    "forbids to read": refuses(403, TiledRefused, r"refuses the key \(403"),
    "fails": refuses(500, TiledFailed, "answers '500 Internal Server Error' for /api/v1"),
    "behind a gateway": refuses(502, TiledUnreachable, "answers '502 Bad Gateway' for /api/v1"),
    **{f"answers {kind}": answers(kind) for kind in GARBAGE},
}

LATER = ("absent", "hanging", "refuses the key", "fails", "answers a login page")
"""of a client that was connected before"""


@pytest.fixture(scope="module")
def reference(session: Session) -> str:
    reference = session.acquire_eels(exposure=0.001)
    session.data.wait(run_of(reference), timeout=60)
    return reference


@pytest.fixture
def proxy(tiled: TiledAddress) -> Iterator[TiledProxy]:
    with proxy_to(tiled.uri) as proxy:
        yield proxy


def test_all_public_calls_of_data_are_tried() -> None:
    public = {name for name, _ in inspect.getmembers(Data) if not name.startswith("_")}
    assert public == CALLS.keys() | NEEDS_NO_TILED


def problem_of(name: str, call: Call, way: Away, arguments: tuple[Data, str, str]) -> str:
    """Return in which respect a call does not say in time, in our words, that Tiled is away."""
    began = time.monotonic()
    try:
        returned = call(*arguments)
    except Exception as exc:
        # a follower that was connected before raises NotReady, with the same words
        is_ours = isinstance(exc, (way.error, NotReady) if name == "follow" else way.error)
        is_right = is_ours and re.search(way.words, str(exc))
        is_late = isinstance(exc, TiledUnreachable) and LATE in str(exc)  # on a busy computer
        problem = "" if is_right or is_late else f"{name} raises {exc!r}"
    else:
        problem = f"{name} returns {returned!r}"
    took = time.monotonic() - began
    return problem if took < TIMEOUT + BUSY else f"{problem or name} after {took:.1f} s"


@pytest.mark.parametrize(
    ("away", "is_connected"),
    [*((way, False) for way in AWAY), *((way, True) for way in LATER)],
    ids=[*(f"{way}, at first" for way in AWAY), *(f"{way}, later" for way in LATER)],
)
def test_each_call_raises_an_error_of_ours_in_the_time_given(
    tiled: TiledAddress, proxy: TiledProxy, reference: str, away: str, is_connected: bool
) -> None:
    run, way = run_of(reference), AWAY[away]
    data = Data(proxy.uri, api_key=tiled.analyst_key, timeout=TIMEOUT)
    if is_connected:
        data.catalog  # noqa: B018
    way.set(proxy)
    tries = [(name, call) for name, calls in CALLS.items() for call in calls]
    with ThreadPoolExecutor(len(tries)) as pool:
        problems = pool.map(lambda each: problem_of(*each, way, (data, run, reference)), tries)
    data.close()
    data.close()
    assert [problem for problem in problems if problem] == []


def test_waiting_continues_when_tiled_is_back(
    session: Session, tiled: TiledAddress, proxy: TiledProxy, reference: str
) -> None:
    data = Data(proxy.uri, api_key=tiled.api_key)
    proxy.refusal, proxy.refusals_left = 502, 3
    assert data.wait(reference, timeout=60).stage == "catalogued"
    proxy.refusal, proxy.refusals_left = 500, 3
    assert data.wait(run_of(reference), timeout=60).remark == "complete"
    data.close()


def test_an_error_behind_the_first_page_is_no_lack_of_a_key(
    tiled: TiledAddress, proxy: TiledProxy, reference: str
) -> None:
    proxy.refused.add("/metadata/")
    data = Data(proxy.uri, api_key=tiled.api_key)
    with pytest.raises(TiledFailed, match="answers '500 Internal Server Error' for /api/v1"):
        data.status(reference)
    data.close()


def test_a_key_is_asked_for_where_none_is_given(
    tiled: TiledAddress, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TILED_API_KEY", raising=False)
    data = Data(tiled.uri)
    with pytest.raises(TiledRefused, match="needs a key: Data"):
        data.status(reference)
    data.close()
