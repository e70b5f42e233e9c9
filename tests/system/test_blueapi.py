"""blueapi offers a lab's devices and plans; what they take is stored as in a session."""

import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bluesky_em import Data
from bluesky_em.acquisition.client import Client
from bluesky_em.app import lab
from bluesky_em.app.simulated_pcs import SimulatedPCs
from bluesky_em.files.layout import Layout
from bluesky_em.files.tiled.address import address_of
from bluesky_em.reference import run_of
from tests.support.blueapi_server import PAGE, BlueapiServer

ROOT = Path(__file__).parents[2]
BLANK_TIMEOUT = 60.0  # s
FAILS = """
import bluesky.preprocessors as bpp
from bluesky.utils import MsgGenerator
from bluesky_em.autoscript import Microscope
from bluesky_em.gatan import Spectrometer
from bluesky_em.plan_stubs import beam_on, per_shot


def fails(eels: Spectrometer, microscope: Microscope) -> MsgGenerator[None]:
    @bpp.run_decorator()
    def inner() -> MsgGenerator[None]:
        (reference,) = yield from per_shot([eels])
        raise RuntimeError(f"the specimen has gone after {reference}")

    yield from beam_on(inner(), microscope)
"""
STAYS = """
from __future__ import annotations

import bluesky.plan_stubs as bps
from bluesky_em.autoscript import Microscope
from bluesky_em.plan_stubs import beam_on


def stays(microscope: Microscope):
    yield from beam_on(bps.sleep(3600), microscope)
"""
CHOOSES = """
from collections.abc import Callable


def chooses(number: int, choose: Callable[[int], int] = abs):
    yield from ()
    return choose(number)
"""
NEEDS_A_FUNCTION = """
from collections.abc import Callable


def needs_a_function(choose: Callable[[], bool]):
    yield from ()
"""


@pytest.fixture(scope="module")
def pcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedPCs]:
    with SimulatedPCs(tmp_path_factory.mktemp("pcs"), latency=False) as pcs:
        yield pcs


@pytest.fixture(scope="module")
def folder(pcs: SimulatedPCs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with the module on the page, whose instrument PCs are the simulated ones."""
    folder = tmp_path_factory.mktemp("lab")
    lab.init(folder)
    devices = folder / "devices" / "two_pc.py"
    code = devices.read_text("utf-8")
    uris = {"GATAN_PC": pcs.uris["gatan"], "MICROSCOPE_PC": pcs.uris["autoscript"]}
    for name, uri in uris.items():
        code = re.sub(rf'^{name} = ".*"$', f'{name} = "{uri}"', code, flags=re.MULTILINE)
    devices.write_text(code, "utf-8")
    plans = {
        "fails": FAILS, "stays": STAYS, "chooses": CHOOSES, "needs_a_function": NEEDS_A_FUNCTION,
    }  # fmt: skip
    for name, plan in plans.items():
        (folder / "plans" / f"{name}.py").write_text(plan, "utf-8")
    module = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert module is not None
    code = module[1].replace("~/em-data", (folder / "em-data").as_posix())
    (folder / "blueapi_sources.py").write_text(code, "utf-8")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[BlueapiServer]:
    with BlueapiServer(folder) as server:
        assert server.get("environment")["initialized"], server.log
        yield server


@pytest.fixture(scope="module")
def http(server: BlueapiServer, folder: Path) -> Iterator[Data]:
    """A reader on a PC that has only the Tiled address."""
    with closing(Data(storage=folder / "em-data")) as data:
        assert data.catalog is not None  # waits for its start
    tiled = address_of(Layout.of(folder / "em-data"))
    assert tiled is not None
    with closing(Data(tiled.uri, api_key=tiled.api_key)) as data:
        yield data


def is_blanked(pcs: SimulatedPCs) -> bool:
    with closing(Client(pcs.uris["autoscript"])) as client:
        return client.call("get", "beam_blanked")


def wait_for_beam(pcs: SimulatedPCs, *, blanked: bool) -> None:
    deadline = time.monotonic() + BLANK_TIMEOUT
    while is_blanked(pcs) is not blanked:
        assert time.monotonic() < deadline, f"the beam is not {blanked=}"
        time.sleep(0.1)


def test_its_own_tiled_writer_is_refused_in_words(folder: Path) -> None:
    with BlueapiServer(folder, tiled={"enabled": True}) as server:
        environment = server.get("environment")
    assert not environment["initialized"]
    assert environment["error_message"] == (
        "RuntimeError: blueapi's own Tiled writer is on (`tiled: enabled: true`, url "
        "http://localhost:8407/). It would send references before their frames are stored. Set "
        "`tiled: enabled: false`: Storage sends all documents to Tiled, to yours with "
        "sources(..., tiled='https://tiled-host')"
    )
    assert not (folder / "em-data").exists()


def test_all_plans_and_devices_are_offered_and_the_log_says_which_are_not(
    server: BlueapiServer,
) -> None:
    devices = {each["name"] for each in server.get("devices")["devices"]}
    assert devices == {"eels", "adf", "haadf", "ceta", "microscope", "stage"}
    plans = {each["name"]: each["schema"] for each in server.get("plans")["plans"]}
    ours = {path.stem for path in (ROOT / "plans").glob("[!_]*.py")}
    assert plans.keys() == ours | {"fails", "stays", "chooses"}
    assert plans["adaptive_map"]["required"] == ["eels", "microscope"]  # it is given its `data`
    assert plans["spectrum"]["properties"]["eels"]["type"] == "bluesky_em.gatan.Spectrometer"
    assert plans["spectrum"]["properties"]["eels"]["enum"] == ["eels"]
    log = server.log
    assert "plans/needs_a_function.py is not offered: ValueError: no request can give its " in log
    assert "plans/chooses.py: 'choose' keeps its default, since no request can give it: " in log
    assert plans["chooses"]["properties"].keys() == {"number"}
    assert server.run("chooses", number=-3)["result"] == 3


def test_a_spectrum_is_stored_with_its_baseline_and_the_beam_is_blanked(
    server: BlueapiServer, http: Data, pcs: SimulatedPCs
) -> None:
    outcome = server.run("spectrum", eels="eels", microscope="microscope", exposure=0.02)
    assert outcome["outcome"] == "success"
    assert is_blanked(pcs)
    (reference,) = outcome["result"]
    http.wait(reference)
    http.wait(run_of(reference))
    run = http.catalog[run_of(reference)]
    assert run.metadata["start"]["instrument_session"] == "cm12345-1"
    assert run.metadata["stop"]["exit_status"] == "success"
    assert "microscope-beam_blanked" in run["baseline"].read()
    pixels = http.open(reference).read()
    assert pixels.shape == (2048,) and pixels.max() > 100
    (total,) = run["primary"].read()["eels-total"].values  # of the instrument PC
    assert pixels.sum(dtype=float) == pytest.approx(total)


def test_a_map_is_stored_with_the_dark_field(server: BlueapiServer, http: Data) -> None:
    outcome = server.run(
        "spectrum_image", eels="eels", microscope="microscope", adf="adf", shape=[4, 8]
    )
    spectra, dark_field = outcome["result"]
    run = run_of(spectra)
    assert (spectra, dark_field) == (f"{run}.eels/31", f"{run}.adf/31")
    http.wait(run)
    stored = http.catalog[run]["primary"]["eels"].read().reshape(32, 2048)
    assert len(np.unique(stored, axis=0)) == 32  # no two points are the same
    assert stored.max(axis=1).min() > 100  # the beam was on at each
    for n in (0, 31):
        np.testing.assert_array_equal(http.open(f"{run}.eels/{n}").read(), stored[n])
    assert len(np.unique(http.catalog[run]["primary"]["adf"].read())) > 1


def test_a_plan_that_reads_data_gets_those_of_the_storage(server: BlueapiServer) -> None:
    outcome = server.run(
        "drift_corrected_map", haadf="haadf", eels="eels", adf="adf", microscope="microscope",
        shape=[2, 4], lines=1,
    )  # fmt: skip
    assert outcome["outcome"] == "success", server.log
    assert len(outcome["result"]) == 2  # drifts


def test_a_failed_plan_reports_its_error_and_leaves_the_beam_blanked(
    server: BlueapiServer, http: Data, pcs: SimulatedPCs
) -> None:
    outcome = server.run("fails", eels="eels", microscope="microscope")
    assert (outcome["outcome"], outcome["type"]) == ("error", "RuntimeError")
    says, reference = outcome["message"].rsplit(maxsplit=1)
    assert says == "the specimen has gone after"
    assert is_blanked(pcs)
    http.wait(reference)
    http.wait(run_of(reference))
    stop = http.catalog[run_of(reference)].metadata["stop"]
    assert (stop["exit_status"], stop["reason"]) == ("fail", outcome["message"])


def test_the_beam_is_blanked_when_the_server_dies_during_a_plan(
    server: BlueapiServer, pcs: SimulatedPCs
) -> None:
    server.begin("stays", microscope="microscope")
    wait_for_beam(pcs, blanked=False)
    server.process.kill()
    wait_for_beam(pcs, blanked=True)
