"""A queue server runs the lab's plans: from another process, and through a night with failures."""

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bluesky_queueserver_api import BPlan

from bluesky_em import Data, remote
from bluesky_em.acquisition.client import Client
from bluesky_em.app import lab
from bluesky_em.app.simulated_pcs import SimulatedPCs
from bluesky_em.errors import PlanFailed, PlanNotDone, QueueRefused, QueueUnreachable
from bluesky_em.files.layout import Layout
from bluesky_em.files.tiled.address import address_of
from tests.conftest import ROOT
from tests.support.queue_server import QueueServer
from tests.support.redis_server import free_port, needs_redis, redis_server

pytestmark = needs_redis

EELS, MICROSCOPE = {"eels": "eels"}, {"microscope": "microscope"}
BOTH = EELS | MICROSCOPE
ALL = BOTH | {"haadf": "haadf", "adf": "adf"}
FAILING = BPlan("spectrum", exposure=99.0, **BOTH)  # the spectrometer allows 5 s
LONG = BPlan("line_scan", points=40, exposure=0.05, **BOTH)
NIGHT = [
    BPlan("image", scan="haadf", size=128),
    LONG,
    FAILING,
    BPlan("spectrum", exposure=0.01, **BOTH),
    BPlan("focal_series", image="haadf", defoci=[-5e-8, 5e-8], **MICROSCOPE),
    BPlan("spectrum_image", adf="adf", shape=[4, 4], **BOTH),
    BPlan("energy_series", offsets=[0.0, 400.0], exposures=[0.01, 0.01], **BOTH),
    BPlan("survey_and_map", shape=[2, 4], choose="brightest_tiles", **ALL),
    BPlan("drift_corrected_map", shape=[4, 4], lines=2, **ALL),
    BPlan("adaptive_map", shape=[4, 4], exposure=0.01, timeout=0.01, **BOTH),
]


@pytest.fixture(scope="module")
def pcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedPCs]:
    """The instrument PCs, which do not end with the queue server."""
    with SimulatedPCs(tmp_path_factory.mktemp("pcs"), latency=False) as pcs:
        yield pcs


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="module")
def server(
    pcs: SimulatedPCs, storage: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[QueueServer]:
    """A queue server on a folder of `bluesky-em init`, with the addresses of these PCs."""
    folder = tmp_path_factory.mktemp("lab")
    subprocess.run([sys.executable, "-m", "bluesky_em", "init", folder], check=True, timeout=60)
    devices, start_up = folder / "devices/two_pc.py", folder / "queue_server/00_session.py"
    replace(devices, "PYRO:eels_server@gatan-pc:9091", pcs.uris["gatan"])
    replace(devices, "PYRO:tem_server@tem-pc:9095", pcs.uris["autoscript"])
    replace(start_up, 'STORAGE = "~/em-data"', f"STORAGE = {str(storage)!r}")
    replace(start_up, 'DEVICES = "simulated"', 'DEVICES = "two_pc"')
    with (
        redis_server(tmp_path_factory.mktemp("redis")) as redis,
        QueueServer(folder, redis.address) as server,
    ):
        yield server


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.fixture
def microscope(server: QueueServer) -> Iterator[remote.Microscope]:
    with remote.Microscope(server.address, timeout=60) as microscope:
        yield microscope


@pytest.fixture
def http(server: QueueServer, storage: Path) -> Iterator[Data]:
    """A reader that has the address of Tiled only."""
    with_folder = Data(storage=storage)
    try:
        assert with_folder.catalog is not None  # waits for Tiled's start
    finally:
        with_folder.close()
    address = address_of(Layout.of(storage))
    assert address is not None
    data = Data(address.uri, api_key=address.api_key)
    yield data
    data.close()


def test_every_plan_and_device_of_the_lab_is_listed(server: QueueServer) -> None:
    plans, _ = lab.load_plans(ROOT)
    allowed = server.api.plans_allowed()["plans_allowed"]
    assert set(allowed) == set(plans)
    assert "data" not in {p["name"] for each in allowed.values() for p in each["parameters"]}
    devices = server.api.devices_allowed()["devices_allowed"]
    assert set(devices) == {"eels", "adf", "haadf", "ceta", "microscope", "stage"}
    assert "x" in devices["stage"]["components"]
    log = server.log.read_text()
    assert "ERROR" not in log and "WARNING" not in log and "Traceback" not in log


def test_a_device_of_another_kind_is_refused_when_the_plan_is_added(server: QueueServer) -> None:
    wrong = BPlan("focal_series", image="eels", **MICROSCOPE)
    with pytest.raises(server.api.RequestFailedError, match="Input should be 'ceta' or 'haadf'"):
        server.api.item_add(wrong)


def test_the_plans_of_the_how_to_are_accepted(server: QueueServer) -> None:
    page = (ROOT / "docs/how-to/run-a-queue-overnight.md").read_text()
    plans = re.findall(r"qserver queue add plan '(.+?)'\n", page, re.DOTALL)
    assert len(plans) == 3
    for plan in plans:
        added = server.command("queue", "add", "plan", plan)
        assert added.returncode == 0, added.stdout + added.stderr
    assert [item["name"] for item in server.api.queue_get()["items"]] == [
        "image", "line_scan", "survey_and_map",
    ]  # fmt: skip
    server.api.queue_clear()


def test_a_reference_acquired_from_another_process_can_be_waited_for_and_opened(
    microscope: remote.Microscope, http: Data
) -> None:
    spectrum = microscope.acquire_eels(exposure=0.1)
    image = microscope.acquire_haadf(size=128)
    for reference in (spectrum, image):
        http.wait(reference)
    assert http.open(spectrum).to_xarray().sum() > 1e4  # the beam was on
    assert http.open(image).read().shape == (128, 128)


def test_a_plan_run_from_another_process_gives_its_references_and_its_run(
    microscope: remote.Microscope, http: Data
) -> None:
    done = microscope.run("line_scan", points=3, exposure=0.01)
    (run,) = done.runs
    assert done.references == [f"{run}.eels/{number}" for number in range(3)]
    http.wait(done.references)
    http.wait(run)
    assert http.catalog[run]["primary"]["eels"].read().shape == (3, 2048)


def test_what_is_refused_or_fails_remotely_says_why(
    server: QueueServer, microscope: remote.Microscope
) -> None:
    with remote.Microscope(server.address, group="observers") as observer:
        with pytest.raises(QueueRefused, match="no plan 'spectrum' for you; it has: none"):
            observer.acquire_eels()
    with pytest.raises(QueueRefused, match="has no plan 'linescan' for you; it has: adaptive_map,"):
        microscope.run("linescan")
    with pytest.raises(QueueRefused, match="points\n.*valid integer"):
        microscope.run("line_scan", points="many")
    with pytest.raises(PlanFailed, match="spectrum: failed. .*exposure.*99"):
        microscope.acquire_eels(exposure=99.0)


def test_a_plan_that_takes_longer_than_the_timeout_continues(
    server: QueueServer, microscope: remote.Microscope
) -> None:
    with remote.Microscope(server.address, timeout=0.5) as impatient:
        with pytest.raises(
            PlanNotDone, match="line_scan has not ended within 0.5 s, and continues: .* executing"
        ):
            impatient.run("line_scan", points=20, exposure=0.1)
    with pytest.raises(QueueRefused, match=r"is busy \(executing_queue; 0 plans in its queue\)"):
        microscope.acquire_eels()
    server.wait_until_idle()
    assert server.api.history_get()["items"][-1]["result"]["exit_status"] == "completed"


def test_a_plan_that_is_paused_meanwhile_is_reported_and_its_abort_blanks_the_beam(
    server: QueueServer, microscope: remote.Microscope, pcs: SimulatedPCs
) -> None:
    with ThreadPoolExecutor() as pool:
        running = pool.submit(microscope.run, "line_scan", points=40, exposure=0.05)
        server.api.wait_for_condition(lambda status: status["re_state"] == "running", timeout=60)
        server.api.re_pause("immediate")
        with pytest.raises(PlanNotDone, match="is paused. `qserver re resume` continues"):
            running.result(timeout=60)
    server.api.re_abort()
    server.wait_until_idle()
    assert beam_is_blanked(pcs)


def test_a_queue_server_that_is_absent_is_named() -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    with remote.Microscope(address) as microscope:
        with pytest.raises(QueueUnreachable, match=f"no queue server answers at {address}: does"):
            microscope.acquire_eels()


def test_a_night_with_a_failure_and_a_crash_leaves_all_other_runs_complete_and_the_beam_off(
    server: QueueServer, pcs: SimulatedPCs, storage: Path
) -> None:
    server.api.history_clear()
    server.api.queue_mode_set(ignore_failures=True)
    server.api.item_add_batch(NIGHT)
    with closing(Data(storage=storage)) as data:
        with data.follow(patience=60) as runs:
            server.api.queue_start()
            run = next(run for run in runs if run.start["plan_name"] == LONG.name)
            next(run)
            server.kill()
            server.start()
            assert [*run] and run.end is not None and run.end.status == "abandoned"
        (cut_off,) = ended(server, "unknown")
        server.api.item_add(BPlan(cut_off["name"], **cut_off["kwargs"]), pos="front")
        server.api.queue_start()
        server.wait_until_idle()

        (failed,) = ended(server, "failed")
        assert failed["kwargs"] == FAILING.kwargs and "exposure" in failed["result"]["msg"]
        completed = ended(server, "completed")
        assert sorted(each["name"] for each in completed) == sorted(
            each.name for each in NIGHT if each is not FAILING
        )
        for each in completed:
            (uid,) = each["result"]["run_uids"]
            data.wait(uid)
            assert data.catalog[uid].metadata["stop"]["exit_status"] == "success"
        data.flush()
    assert beam_is_blanked(pcs)


def ended(server: QueueServer, how: str) -> list[dict[str, Any]]:
    items = server.api.history_get(reload=True)["items"]
    return [each for each in items if each["result"]["exit_status"] == how]


def beam_is_blanked(pcs: SimulatedPCs) -> bool:
    with closing(Client(pcs.uris["autoscript"])) as client:
        return client.call("get", "beam_blanked")


def test_a_closed_environment_is_named_with_what_to_do(
    server: QueueServer, microscope: remote.Microscope
) -> None:
    server.close_environment()
    with pytest.raises(QueueRefused, match="environment is closed. `qserver environment open`"):
        microscope.acquire_eels()
