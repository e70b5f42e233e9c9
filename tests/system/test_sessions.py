"""Several sessions in one process."""

from pathlib import Path

from ophyd_async.core import Device, init_devices

from bluesky_em.app.session import Session

NOWHERE = "http://127.0.0.1:1"


def test_devices_connect_in_a_session_after_a_later_one_was_closed(
    session: Session, tmp_path: Path
) -> None:
    with Session(tmp_path, latency=False, tiled=NOWHERE):
        pass
    with init_devices(mock=True):
        device = Device(name="stage")
    assert device.name == "stage"
