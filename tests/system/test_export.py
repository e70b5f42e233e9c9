"""Complete runs in the forms for analysts: Datasets, the master file, exports."""

import json
import sys
from pathlib import Path
from typing import Any

import bluesky.preprocessors as bpp
import h5py
import hyperspy.api as hs
import numpy as np
import pytest
from bluesky.utils import MsgGenerator

from bluesky_em import Data, MapInfo, NotReady, UnknownReference
from bluesky_em.__main__ import main
from bluesky_em.app.session import Session
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.plan_stubs import beam_on, fly

# exspy 0.3 imports from where HyperSpy 2.5 does not want it to
pytestmark = pytest.mark.filterwarnings("ignore:Importing `Lazy")

EDGES = {"C-K": 284.0, "Ti-L3": 456.0, "O-K": 532.0}  # eV; see sim/_spectrum.py


@pytest.fixture(scope="module")
def run(session: Session) -> str:
    """Spectra of one place on the simulated oxide flake; complete."""
    here = (0.3, 0.59)
    plan = session.plans["line_scan"](
        session.devices["eels"], session.devices["microscope"],
        start=here, stop=here, points=8, exposure=0.5, md={"sample": "STO flake"},
    )  # fmt: skip
    (uid,) = session.RE(plan).run_start_uids
    session.data.wait(uid)
    return uid


def command(session: Session, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """Return the error of `bluesky-em export`; empty if it succeeds."""
    root = session.storage.layout.root
    words = ["bluesky-em", "export", *map(str, arguments), "--storage", str(root)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    return str(ended.value.code or "")


def onset(spectrum: Any, near: float) -> float:
    """Return the energy of the steepest rise in counts, in eV, within 15 eV of `near`."""
    window = spectrum.isig[near - 15.0 : near + 15.0]
    smooth = np.convolve(window.data, np.ones(3) / 3, "same")[1:-1]
    return float(window.axes_manager[-1].axis[1:-1][np.argmax(np.gradient(smooth))])


def test_exported_spectra_have_the_samples_edges_where_they_belong(
    session: Session, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix in ("hspy", "zspy"):
        out = tmp_path / f"eels.{suffix}"
        assert not command(session, monkeypatch, run, "--format", suffix, "--out", out)
        spectra = hs.load(out)
        assert type(spectra).__name__ == "EELSSpectrum"
        assert spectra.axes_manager.navigation_shape == (8,)
        total = spectra.sum()
        found = {name: onset(total, energy) for name, energy in EDGES.items()}
        assert found == pytest.approx(EDGES, abs=3.0)
        tem = spectra.metadata.Acquisition_instrument.TEM
        assert tem.beam_energy == 200.0
        assert tem.convergence_angle > 0 and tem.Detector.EELS.collection_angle > 0
        assert tem.Detector.EELS.exposure == 0.5
        assert spectra.metadata.Sample.description == "STO flake"


def test_the_address_of_tiled_gives_the_same_file_as_the_folder(
    tiled: TiledAddress, session: Session, run: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    by_folder, by_address = tmp_path / "folder.hspy", tmp_path / "address.hspy"
    assert not command(session, monkeypatch, run, "--format", "hspy", "--out", by_folder)
    words = ["export", run, "--format", "hspy", "--out", str(by_address), "--tiled", tiled.uri]
    monkeypatch.setenv("TILED_API_KEY", tiled.api_key)
    monkeypatch.setattr(sys, "argv", ["bluesky-em", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    expected, found = hs.load(by_folder), hs.load(by_address)
    np.testing.assert_array_equal(found.data, expected.data)
    np.testing.assert_allclose(found.axes_manager[-1].axis, expected.axes_manager[-1].axis)
    tem = found.metadata.Acquisition_instrument.as_dictionary()
    assert tem == expected.metadata.Acquisition_instrument.as_dictionary()
    node = session.data.catalog[run]["primary"].base["eels"]
    assert node.metadata["Acquisition_instrument"] == tem  # exspy quantifies from the address alone


def test_one_reference_is_exported_as_a_table(
    session: Session, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, out = f"{run}.eels/3", tmp_path / "one.csv"
    assert not command(session, monkeypatch, reference, "--format", "csv", "--out", out)
    table = np.loadtxt(out, delimiter=",", skiprows=1)
    frame = session.data.open(reference)
    np.testing.assert_allclose(table[:, 0], frame.axes[0].values)
    np.testing.assert_allclose(table[:, 1], frame.read(), rtol=1e-6)


def test_an_error_for_bad_input_names_the_right_input(
    session: Session, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def error_of(what: str, *options: str) -> str:
        out = ["--out", str(tmp_path / "x")]
        return command(session, monkeypatch, what, *options, *out)

    assert "no run 'unknown' in" in error_of("unknown", "--format", "hspy")
    assert "there is no format 'dm4'; there are: nxs, hspy, zspy, csv" in error_of(
        run, "--format", "dm4"
    )
    hspy = ("--format", "hspy")
    assert "has no stream 'dark', only primary" in error_of(run, *hspy, "--stream", "dark")
    assert "no detector 'haadf'; give --detector, one of: eels" in error_of(
        run, *hspy, "--detector", "haadf"
    )
    assert "csv holds one spectrum" in error_of(run, "--format", "csv")
    assert not list(tmp_path.iterdir())


def test_the_error_for_a_run_in_progress_says_how_to_wait(session: Session) -> None:
    import bluesky.plan_stubs as bps
    import bluesky.preprocessors as bpp

    @bpp.run_decorator()
    def plan():
        uid = session.storage.path_provider.run
        with pytest.raises(NotReady, match=rf"not complete: .*`data.wait\('{uid}'\)` waits"):
            session.data.stream(uid)
        yield from bps.null()

    session.RE(plan())
    with pytest.raises(UnknownReference, match="no run 'unknown'"):
        session.data.stream("unknown")


def test_a_stream_is_the_same_from_files_and_over_http(
    session: Session, http: Data, run: str
) -> None:
    here, there = session.data.stream(run), http.stream(run)
    assert here.eels.dims == there.eels.dims == ("time", "energy")
    for key in ("eels", "energy", "time", "seq_num", "microscope-beam_x"):
        np.testing.assert_array_equal(here[key], there[key])
    assert here.eels.chunks and there.eels.chunks  # nothing is read before it is needed
    assert here.energy.attrs == there.energy.attrs == {"units": "eV"}
    assert json.loads(here.attrs["start"]) == json.loads(there.attrs["start"])


def test_a_complete_run_has_a_master_file_that_the_manifest_names(
    session: Session, http: Data, run: str
) -> None:
    manifest = http.catalog[run].metadata["bluesky_em"]
    assert manifest["master"]["format"] == "nexus" and manifest["master"]["failure"] == ""
    path = session.storage.layout.root / manifest["master"]["path"]
    assert path.name == f"{run}.nxs"
    with h5py.File(path) as file:
        entry: Any = file["entry"]
        assert entry["sample/name"].asstr()[()] == "STO flake"
        positions = session.data.stream(run)["microscope-beam_x"]
        np.testing.assert_array_equal(entry["primary/events/microscope_beam_x"], positions)
        exposure = entry["primary/configuration/eels/eels_exposure"]
        assert exposure[()] == 0.5 and exposure.attrs["units"] == "s"
        np.testing.assert_array_equal(entry["eels/data"], session.data.stream(run).eels)
    spectra = hs.load(path, use_default=True)
    assert spectra.axes_manager.signal_axes[0].units == "eV"


@pytest.fixture(scope="module")
def map_run(session: Session) -> str:
    """A map in two fly scans, the second one below the first."""
    eels, adf, microscope = (session.devices[n] for n in ("eels", "adf", "microscope"))

    @bpp.stage_decorator([eels, adf])
    @bpp.run_decorator(md={"sample": "STO flake"})
    def plan() -> MsgGenerator[None]:
        for top in (0.3, 0.6):
            region = (0.2, top, 0.4, 0.3)
            yield from fly([eels, adf], MapInfo(shape=(6, 8), livetime=0.02, region=region))

    (uid,) = session.RE(beam_on(plan(), microscope)).run_start_uids
    session.data.wait(uid)
    return uid


def test_a_fly_scan_map_lies_along_y_and_x_wherever_it_is_read(
    session: Session, http: Data, map_run: str
) -> None:
    here, there = session.data.stream(map_run), http.stream(map_run)
    for stream in (here, there):
        assert stream.eels.dims == ("y", "x", "energy") and stream.eels.shape == (12, 8, 2048)
        assert stream.adf.dims == ("y", "x") and stream.x.attrs == {"units": "m"}
    for key in ("eels", "adf", "x", "y", "energy"):
        np.testing.assert_array_equal(here[key], there[key])
    steps = np.diff(here.y)
    np.testing.assert_allclose(steps, steps[0])  # the second pass begins where the first ended
    frame = session.data.open(f"{map_run}.eels/{48 + 8 + 3}").read()
    np.testing.assert_array_equal(here.eels[7, 3], frame)


def test_the_master_file_shows_a_map_as_a_cube_without_copying_it(
    session: Session, map_run: str
) -> None:
    path = session.storage.layout.master_of(map_run, _started(session, map_run))
    with h5py.File(path.with_suffix(".nxs")) as file:
        data: Any = file["entry"][file["entry"].attrs["default"]]
        signal = data[data.attrs["signal"]]
        assert signal.file != file and signal.shape[:2] == (12, 8)
        assert [*data.attrs["axes"]] == ["y", "x", "energy"] and (data["taken"][:] == 1).all()
        np.testing.assert_array_equal(signal, session.data.stream(map_run).eels)
    assert path.with_suffix(".nxs").stat().st_size < 1_000_000 < 96 * 2048 * 8


def _started(session: Session, run: str) -> float:
    return session.data.catalog[run].metadata["start"]["time"]


def test_hyperspy_loads_a_fly_scan_map_as_a_spectrum_image_with_the_samples_edges(
    session: Session, map_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "map.hspy"
    assert not command(
        session, monkeypatch, map_run, "--detector", "eels", "--format", "hspy", "--out", out
    )
    image = hs.load(out)
    assert type(image).__name__ == "EELSSpectrum"
    assert image.axes_manager.navigation_shape == (8, 12)
    assert [axis.units for axis in image.axes_manager.navigation_axes] == ["m", "m"]
    assert onset(image.sum(), EDGES["Ti-L3"]) == pytest.approx(EDGES["Ti-L3"], abs=3.0)
    assert image.metadata.Acquisition_instrument.TEM.beam_energy == 200.0
