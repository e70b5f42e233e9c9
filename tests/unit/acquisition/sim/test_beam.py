import threading
from collections.abc import Iterator

import Pyro5.api
import pytest

from bluesky_em.acquisition.sim import Beam, RemoteBeam, _beam
from bluesky_em.acquisition.sim._beam import BeamState


@pytest.fixture
def served() -> Iterator[tuple[Beam, str]]:
    beam = Beam()
    daemon = Pyro5.api.Daemon(host="127.0.0.1")
    uri = str(daemon.register(beam, "beam"))
    thread = threading.Thread(target=daemon.requestLoop, name="beam daemon")
    thread.start()
    yield beam, uri
    daemon.shutdown()
    thread.join()
    daemon.close()


def test_a_beam_starts_blanked_with_open_valves():
    assert Beam().now.blanked
    assert Beam().now.valves_open
    assert not Beam().now.on


def test_fields_change_together_and_an_earlier_state_stays():
    beam = Beam()
    before = beam.now
    beam.change(x=0.1, y=0.2)
    assert (before.x, before.y) == (0.5, 0.5)
    assert (beam.now.x, beam.now.y) == (0.1, 0.2)


def test_the_middle_of_the_scan_is_at_the_stage_position():
    state = BeamState(stage_x=1e-6, scan_rotation=0.3)
    assert state.on_sample(0.5, 0.5) == pytest.approx((1e-6, 0.0))


def test_a_remote_beam_follows_the_beam(served: tuple[Beam, str]):
    beam, uri = served
    remote = RemoteBeam(uri)
    beam.change(x=0.25, blanked=False)
    assert remote.snapshot() == beam.snapshot()
    beam.change(x=0.75)
    assert remote.snapshot()["x"] == 0.75
    remote.close()


def test_a_remote_beam_serves_several_threads(served: tuple[Beam, str]):
    beam, uri = served
    remote, seen = RemoteBeam(uri), []

    def look() -> None:
        seen.append(remote.snapshot())
        remote.close()

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [beam.snapshot()] * 3


def test_without_the_other_side_the_beam_is_on_in_the_middle_and_refresh_says_why():
    remote = RemoteBeam("PYRO:beam@127.0.0.1:9")
    state = BeamState(**remote.snapshot())
    assert state.on
    assert (state.x, state.y) == (0.5, 0.5)
    with pytest.raises(ConnectionError, match="Is the simulated AutoScript server running"):
        remote.refresh()


def test_after_a_failure_the_beam_is_not_asked_again_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_beam, "RETRY_INTERVAL", 60.0)
    remote = RemoteBeam("PYRO:beam@127.0.0.1:9")
    remote.snapshot()
    monkeypatch.setattr(remote, "refresh", lambda: pytest.fail("it was asked again"))
    for _ in range(1000):
        remote.snapshot()
