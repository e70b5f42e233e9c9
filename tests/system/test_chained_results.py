"""Results of an analysis as the input of the next one, from the command line."""

from pathlib import Path
from typing import Any

import bluesky.plans as bp
import hyperspy.api as hs
import numpy as np
import pytest
from typer.testing import CliRunner

from bluesky_em import Data, analysis
from bluesky_em.__main__ import app
from bluesky_em.app.session import Session
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.reference import run_of

# exspy 0.3 imports from where HyperSpy 2.5 does not want it to
pytestmark = pytest.mark.filterwarnings("ignore:Importing `Lazy")

ONSET = 456.0  # eV, of titanium


@pytest.fixture(autouse=True)
def usual_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands lower their process's priority, which is that of the tests here."""
    monkeypatch.setattr("bluesky_em.storage.processes.lower_priority", lambda: None)


@pytest.fixture(scope="module")
def raw(session: Session) -> str:
    """A map of 3 by 4 spectra."""
    eels, adf, microscope = (session.devices[n] for n in ("eels", "adf", "microscope"))
    plan = session.plans["spectrum_image"](eels, microscope, adf, shape=(3, 4), dwell=5e-3)
    uid = run_of(session.RE(plan).plan_result[0])
    session.data.wait(uid)
    return uid


@pytest.fixture(scope="module")
def dark(session: Session) -> str:
    """The reference of a spectrum that was taken with the beam off."""
    session.RE(bp.count([session.devices["eels"]]))
    session.data.wait(session.storage.references[-1])
    return session.storage.references[-1]


@pytest.fixture(params=["folder", "address"])
def place(
    request: pytest.FixtureRequest, session: Session, tiled: TiledAddress, monkeypatch: Any
) -> list[str]:
    """The options that name a storage folder, or a Tiled server."""
    if request.param == "folder":
        return ["--storage", str(session.storage.layout.root)]
    monkeypatch.setenv("TILED_API_KEY", tiled.analyst_key)
    return ["--tiled", tiled.uri]


@pytest.fixture
def data(place: list[str], session: Session, tiled: TiledAddress) -> Any:
    """The reading side of the same place."""
    if place[0] == "--storage":
        yield session.data
        return
    http = Data(tiled.uri, api_key=tiled.api_key)
    yield http
    http.close()


def analyse(place: list[str], *words: str) -> str:
    """Return the uid of the results of `bluesky-em analyse`."""
    done = CliRunner().invoke(app, ["analyse", *words, *place])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output.split()[-1]


def refusal(place: list[str], *words: str) -> str:
    """Return the error of `bluesky-em analyse`."""
    return str(CliRunner().invoke(app, ["analyse", *words, *place]).exception)


def test_a_chain_of_analyses_keeps_axes_references_and_provenance(
    session: Session, data: Data, place: list[str], raw: str, dark: str, tmp_path: Path
) -> None:
    parameter = ["--parameter", f"dark={dark}"]
    first = analyse(place, "subtract_dark", raw, "--detector", "eels", *parameter)
    data.wait(first)
    second = analyse(place, "align_zero_loss", first[:8])
    data.wait(second)
    third = analyse(place, "elemental_map", second, "--parameter", f"onset={ONSET}")
    data.wait(third)

    frames = session.data.stream(raw)["eels"]
    energy = frames.energy.values
    minus_dark = analysis.subtract_dark(frames.values, session.data.open(dark).read())
    aligned = analysis.align_zero_loss(minus_dark, energy)
    titanium = analysis.elemental_map(aligned, energy, ONSET)
    assert np.isfinite(titanium).all()
    expected = {"subtract_dark": minus_dark, "align_zero_loss": aligned, "elemental_map": titanium}
    for uid, (name, values) in zip((first, second, third), expected.items(), strict=True):
        found = data.stream(uid)
        np.testing.assert_allclose(found[name].values, values, rtol=1e-5, atol=1e-3)
        assert found[name].dims == frames.dims[: values.ndim]
        for dim in found[name].dims:
            np.testing.assert_array_equal(found[name][dim].values, frames[dim].values)
            assert found[name][dim].attrs["units"] == frames[dim].attrs["units"]
        assert list(found["reference"].values) == [f"{raw}.eels/{n}" for n in range(12)]

    start = data.results_catalog[third].metadata["start"]
    assert start["raw"] == {"run": raw, "stream": "primary", "detector": "eels"}
    assert start["input"] == {"run": second, "stream": "primary", "detector": "align_zero_loss"}
    steps = [*start["earlier"], start]
    assert [step["input"]["run"] for step in steps] == [raw, first, second]
    assert [step["analysis"]["function"].partition(":")[2] for step in steps] == [*expected]
    assert steps[0]["analysis"]["parameters"] == {"dark": dark}
    assert steps[2]["analysis"]["parameters"] == {"onset": ONSET}

    for uid, name in ((third, "map"), (second, "spectra")):
        words = ["export", uid, "--format", "hspy", "--out", str(tmp_path / f"{name}.hspy")]
        done = CliRunner().invoke(app, [*words, *place])
        assert done.exit_code == 0, (done.output, done.exception)
    exported = hs.load(tmp_path / "map.hspy")
    np.testing.assert_allclose(exported.data, titanium, rtol=1e-5)
    y, x = (exported.axes_manager[name] for name in ("y", "x"))
    np.testing.assert_allclose([*y.axis, *x.axis], [*frames.y.values, *frames.x.values])
    assert (y.units, x.units) == ("m", "m")
    spectra = hs.load(tmp_path / "spectra.hspy")
    assert type(spectra).__name__ == "EELSSpectrum"
    assert spectra.metadata.Acquisition_instrument.TEM.beam_energy == 200.0
    assert spectra.axes_manager["Energy loss"].offset == pytest.approx(energy[0])


def test_the_newest_run_of_the_catalog_is_a_raw_one(
    session: Session, data: Data, place: list[str], raw: str
) -> None:
    reference = session.acquire_eels(exposure=0.01)
    session.data.wait(run_of(reference))
    results = analyse(place, "thickness", raw, "--detector", "eels")
    data.wait(results)
    assert session.data.catalog[-1].metadata["start"]["uid"] == run_of(reference)
    assert results not in session.data.catalog and results in session.data.results_catalog


def test_a_wrong_use_says_what_would_be_right(
    session: Session, data: Data, place: list[str], raw: str
) -> None:
    of_eels = [raw, "--detector", "eels"]
    why = refusal(place, "subtract_dark", *of_eels)
    assert "needs dark as a parameter, e.g. --parameter dark=<run uid>.eels/0" in why
    why = refusal(place, "subtract_dark", *of_eels, "--parameter", "dark=dark.h5")
    assert "dark='dark.h5' is no frame; give a reference" in why
    numbers = analyse(place, "zero_loss", *of_eels)
    data.wait(numbers)
    why = refusal(place, "thickness", numbers)
    assert "has one number per frame, the results of zero_loss: no function can be run" in why
    why = refusal(place, "thickness", numbers, "--detector", "eels")
    assert "has results of zero_loss, not frames of 'eels'" in why
