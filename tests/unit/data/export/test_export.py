"""Exported files, opened by the programs for which they are written."""

from pathlib import Path
from typing import Any

import h5py
import hyperspy.api as hs
import numpy as np
import pytest
import xarray
from nexusformat.nexus.validate import validate_file

from bluesky_em.data.export import FileFormat, Selection, write

# exspy 0.3 imports from where HyperSpy 2.5 does not want it to
pytestmark = pytest.mark.filterwarnings("ignore:Importing `Lazy")

FACTS = {
    "signal_type": "EELS", "exposure": 0.1, "frames": 5, "aperture": "2.5 mm",
    "spectrometer": "GIF Continuum", "beam_energy": 200.0, "convergence_angle": 30.0,
    "collection_angle": 45.0, "camera_length": 29.0, "warning": "none",
}  # fmt: skip
START = {"uid": "run", "time": 86400.0, "plan_name": "a/b", "sample": "STO", "user": "Ada"}


def selection(*shape: int, dims: tuple[str, ...]) -> Selection:
    """Frames of random counts; energies begin at -50 eV, 0.5 eV each, points are 2 nm apart."""
    scales = {"energy": (-50.0, 0.5, "eV"), "y": (0.0, 2e-9, "m"), "x": (1e-9, 2e-9, "m")}
    coords: dict[str, Any] = {
        dim: (dim, offset + scale * np.arange(size), {"units": units})
        for dim, size in zip(dims, shape, strict=True)
        if dim in scales
        for offset, scale, units in [scales[dim]]
    }
    counts = np.random.default_rng(0).random(shape, dtype="<f4")
    array = xarray.DataArray(counts, coords, dims, attrs={"units": "counts"})
    return Selection(detector="eels", array=array, start=START, facts=FACTS)


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_hyperspy_loads_a_spectrum_with_its_axis_and_the_metadata_for_quantification(
    tmp_path: Path, suffix: str
) -> None:
    one = selection(2048, dims=("energy",))
    write(one, tmp_path / f"s.{suffix}", FileFormat(suffix))
    spectrum = hs.load(tmp_path / f"s.{suffix}")
    assert type(spectrum).__name__ == "EELSSpectrum"
    np.testing.assert_array_equal(spectrum.data, one.array)
    (axis,) = spectrum.axes_manager.signal_axes
    assert (axis.name, axis.units, axis.offset, axis.scale) == ("Energy loss", "eV", -50.0, 0.5)
    assert axis.is_binned
    tem = spectrum.metadata.Acquisition_instrument.TEM
    assert (tem.beam_energy, tem.convergence_angle, tem.camera_length) == (200.0, 30.0, 29.0)
    eels = tem.Detector.EELS
    assert (eels.collection_angle, eels.exposure, eels.frame_number) == (45.0, 0.5, 5)
    assert (eels.aperture_size, eels.spectrometer) == (2.5, "GIF Continuum")
    general = spectrum.metadata.General
    assert (general.date, general.time, general.authors) == ("1970-01-02", "00:00:00", "Ada")
    assert spectrum.metadata.Sample.description == "STO"


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_a_map_is_navigated_along_x_and_y(tmp_path: Path, suffix: str) -> None:
    cube = selection(2, 3, 8, dims=("y", "x", "energy"))
    lazy = Selection(**{**vars(cube), "array": cube.array.chunk({"y": 1})})
    write(lazy, tmp_path / f"s.{suffix}", FileFormat(suffix))
    signal = hs.load(tmp_path / f"s.{suffix}")
    np.testing.assert_array_equal(signal.data, cube.array)
    x, y = signal.axes_manager.navigation_axes
    assert (x.name, x.units, x.size, y.name, y.size) == ("x", "m", 3, "y", 2)
    assert x.scale == pytest.approx(2e-9) and x.offset == pytest.approx(1e-9)
    assert signal.metadata.Acquisition_instrument.TEM.Detector.EELS.dwell_time == 0.5


@pytest.mark.parametrize("suffix", ["hspy", "zspy"])
def test_lines_that_are_not_evenly_spaced_keep_their_positions(tmp_path: Path, suffix: str) -> None:
    cube = selection(3, 2, 8, dims=("y", "x", "energy"))
    cube.array.coords["y"] = ("y", [0.0, 1e-9, 5e-9], {"units": "m"})
    write(cube, tmp_path / f"s.{suffix}", FileFormat(suffix))
    y = hs.load(tmp_path / f"s.{suffix}").axes_manager["y"]
    np.testing.assert_allclose(y.axis, [0.0, 1e-9, 5e-9])


def test_a_series_of_images_is_a_signal_of_images(tmp_path: Path) -> None:
    write(selection(4, 5, 6, dims=("time", "y", "x")), tmp_path / "s.hspy", FileFormat.HSPY)
    signal = hs.load(tmp_path / "s.hspy")
    assert type(signal).__name__ == "Signal2D"
    assert signal.axes_manager.signal_shape == (6, 5)
    assert signal.axes_manager.navigation_axes[0].name == "frame"


def test_a_nexus_file_is_valid_and_holds_the_pixels_where_hyperspy_finds_them(
    tmp_path: Path,
) -> None:
    cube = selection(2, 3, 8, dims=("y", "x", "energy"))
    write(cube, tmp_path / "s.nxs", FileFormat.NXS)
    assert validate_file(str(tmp_path / "s.nxs")) == (0, 0)
    with h5py.File(tmp_path / "s.nxs") as file:
        data: Any = file["entry/eels"]
        np.testing.assert_array_equal(data["data"], cube.array)
        assert list(data.attrs["axes"]) == ["y", "x", "energy"]
        assert data["energy"].attrs["units"] == "eV"
    signal = hs.load(tmp_path / "s.nxs", use_default=True)
    assert signal.axes_manager.signal_axes[0].offset == -50.0


def test_csv_is_a_table_of_energies_and_counts(tmp_path: Path) -> None:
    one = selection(4, dims=("energy",))
    write(one, tmp_path / "s.csv", FileFormat.CSV)
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert lines[0] == "energy_eV,counts" and lines[1].startswith("-50,")
    table = np.loadtxt(lines[1:], delimiter=",")
    np.testing.assert_allclose(table[:, 1], one.array, rtol=1e-9)


def test_csv_of_more_than_one_spectrum_is_refused_with_the_alternatives(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"csv holds one spectrum.*export hspy, or one reference"):
        write(selection(2, 8, dims=("time", "energy")), tmp_path / "s.csv", FileFormat.CSV)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already and is not changed"):
        write(selection(8, dims=("energy",)), tmp_path / "s.csv", FileFormat.CSV)
    assert (tmp_path / "s.csv").read_text() == "mine"


@pytest.mark.parametrize("suffix", ["hspy", "zspy", "nxs"])
@pytest.mark.parametrize("title", ["t" * 5000, "a\0b", "a/b\\c:d", "..", "Δ" * 300, "\ud800 ", ""])
def test_a_run_of_any_title_is_exported(tmp_path: Path, suffix: str, title: str) -> None:
    start = {**START, "plan_name": title, "title": title, "sample": title, "user": {"name": title}}
    one = Selection(**{**vars(selection(8, dims=("energy",))), "start": start})
    write(one, tmp_path / f"s.{suffix}", FileFormat(suffix))
    if suffix != "nxs":
        spectrum = hs.load(tmp_path / f"s.{suffix}")
        np.testing.assert_array_equal(spectrum.data, one.array)
        assert spectrum.metadata.General.title.startswith("eels")
