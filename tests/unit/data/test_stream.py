"""A stream as a Dataset, from files alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray

from bluesky_em.axes import Axis
from bluesky_em.data import _stream
from bluesky_em.files.run_documents import RunDocuments
from tests.support.recorded_run import ENERGY, Recorded

Y = Axis(name="y", units="m", offset=0.0, scale=1e-9, size=2)
X = Axis(name="x", units="m", offset=0.0, scale=1e-9, size=4)


@pytest.fixture
def run(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path, plan_name="line_scan", sample="STO")


def opened(run: Recorded, stream: str = "primary") -> xarray.Dataset:
    run.close()
    documents = RunDocuments.load(run.layout.journal_of(run.uid))
    return _stream.from_folder(run.layout.root, documents, run.frames, stream)


def test_scalars_and_frames_lie_along_time_with_units_and_energies(run: Recorded) -> None:
    for number in range(3):
        run.frame(metadata={"beam_energy": 200.0, "saturation_fraction": 0.1 * number})
        run.event(beam=float(number), units="nA")
    stream = opened(run)
    assert stream.eels.dims == ("time", "energy") and stream.eels.shape == (3, ENERGY.size)
    assert stream.eels.chunks is not None  # of dask: not read yet
    np.testing.assert_array_equal(stream.eels.sel(energy=-49.5), [0, 1, 2])
    assert stream.energy.attrs["units"] == "eV" and stream.eels.attrs["units"] == "counts"
    assert stream.eels.attrs["beam_energy"] == 200.0
    assert "saturation_fraction" not in stream.eels.attrs  # it was not always the same
    assert list(stream.beam) == [0, 1, 2] and stream.beam.attrs["units"] == "nA"
    assert json.loads(stream.attrs["start"])["sample"] == "STO"
    assert json.loads(stream.attrs["configuration"])["lamp"]["data"]["lamp-power"] == 5.0


def test_a_map_lies_along_y_and_x_and_points_that_were_not_reached_are_nan(run: Recorded) -> None:
    below = Axis(name="y", units="m", offset=2e-9, scale=1e-9, size=1)
    run.event(beam=1.0)
    run.frame(count=5, scan=(Y, X))
    run.frame(count=4, scan=(below, X))
    stream = opened(run)
    assert stream.eels.dims == ("y", "x", "energy")
    nan = np.nan
    lines = [[0, 1, 2, 3], [4, nan, nan, nan], [5, 6, 7, 8]]
    np.testing.assert_array_equal(stream.eels[:, :, 0], lines)
    np.testing.assert_allclose(stream.y, [0, 1e-9, 2e-9])
    assert stream.x.attrs["units"] == "m"


def test_different_axes_of_one_name_are_named_after_their_detectors(run: Recorded) -> None:
    fine = Axis(name="x", units="m", offset=0.0, scale=1e-10, size=3)
    run.event(beam=1.0)
    run.frame("haadf", axes=(Y, X), dtype="<u2")
    run.frame("ceta", axes=(Y, fine), dtype="<u2")
    stream = opened(run)
    assert stream.haadf.dims == ("time", "y", "haadf_x")
    assert stream.ceta.dims == ("time", "y", "ceta_x")
    assert stream.attrs["detectors"] == ["ceta", "haadf"]


def test_frames_that_do_not_match_the_events_have_their_own_dimension(run: Recorded) -> None:
    run.event(beam=1.0)
    for _ in range(3):
        run.frame()
    assert opened(run).eels.dims == ("eels_frame", "energy")


def test_the_error_for_an_unknown_stream_lists_the_streams_of_the_run(run: Recorded) -> None:
    run.event(beam=1.0)
    run.event("dark", beam=1.0)
    with pytest.raises(LookupError, match="has no stream 'bright', only dark, primary"):
        opened(run, "bright")


def test_a_frame_with_another_calibration_than_the_first_is_noted(run: Recorded) -> None:
    run.event(beam=1.0)
    run.frame()
    run.frame(axes=(Axis(name="energy", units="eV", offset=400.0, scale=0.5, size=6),))
    assert "1 have others" in opened(run).eels.attrs["note"]


def test_attributes_have_types_that_netcdf_and_zarr_can_store(run: Recorded) -> None:
    run.frame(metadata={"stage": {"x": 1.0}, "frames": 1})
    run.event(label="text")
    stream = opened(run)
    for value in (*stream.attrs.values(), *stream.eels.attrs.values()):
        assert isinstance(value, (str, int, float, list))
