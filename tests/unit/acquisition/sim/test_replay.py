from pathlib import Path

import numpy as np
import pytest

from bluesky_em.acquisition.instrument_pc.gatan.driver import SpectrometerDriver
from bluesky_em.acquisition.sim import Beam, Recording, _replay, digital_micrograph

DATA = Path(__file__).parents[5] / "shared/data"
SPECTRUM_IMAGE = "rosettasciio_EELS_SI.dm4"
SPECTRA = {  # start (eV), dispersion (eV/channel)
    "EELS_STO.dm3": (350.0, 0.25),
    "AL-DFoffset0.00.dm3": (-3.609, 0.020126),
    "rosettasciio_EELS_spectrum.dm3": (-100.0, 0.5),
}

recordings = pytest.mark.skipif(
    not DATA.is_dir(), reason="The real recordings are not in a folder 'shared' beside the checkout"
)


@recordings
@pytest.mark.parametrize("name", SPECTRA)
def test_a_replayed_spectrum_is_the_recorded_one_bit_for_bit(name: str):
    recording = Recording(DATA / name)
    dm = digital_micrograph(beam=Beam(), latency=False, recording=recording)
    driver = SpectrometerDriver(dm)
    exposure = driver.expose("eels", {"exposure": 0.1})
    assert exposure.array.dtype == recording.data.dtype
    assert exposure.array.tobytes() == recording.data.tobytes()
    assert driver.layout("eels", {}) == (exposure.array.shape, exposure.array.dtype.str)
    axis = exposure.axes[0]
    assert (axis["offset"], axis["scale"]) == pytest.approx(SPECTRA[name], rel=1e-3)
    assert "warning" not in exposure.metadata


@recordings
@pytest.mark.parametrize(("x", "y"), [(0.2, 0.2), (0.9, 0.2), (0.2, 0.9), (1.0, 1.0)])
def test_the_beam_position_selects_the_pixel_of_a_spectrum_image(x: float, y: float):
    recording = Recording(DATA / SPECTRUM_IMAGE)
    driver = SpectrometerDriver(
        digital_micrograph(beam=Beam(x=x, y=y), latency=False, recording=recording)
    )
    wanted = recording.data[int(y > 0.5), int(x > 0.5)]
    assert driver.expose("eels", {}).array.tobytes() == wanted.tobytes()


@recordings
def test_a_spectrum_image_is_read_as_rows_columns_energy():
    from rsciio.digitalmicrograph import file_reader

    raw = file_reader(str(DATA / SPECTRUM_IMAGE))[0]["data"]  # (energy, y, x)
    assert np.array_equal(Recording(DATA / SPECTRUM_IMAGE).data[1, 0], raw[:, 1, 0])


def test_a_file_without_a_spectrum_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "notes.dm3"
    path.write_text("not a recording at all")
    with pytest.raises(ValueError, match=r"notes\.dm3 cannot be read .* \.dm3 or \.dm4"):
        Recording(path)


def test_a_missing_recording_is_reported_as_missing(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no recording at"):
        Recording(tmp_path / "gone.dm4")


@pytest.mark.parametrize(
    ("offset", "scale"), [(0.0, 0.0), (0.0, -0.3), (0.0, np.nan), (np.inf, 0.3), (np.nan, 0.3)]
)
def test_a_recording_whose_calibration_cannot_be_right_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: float, scale: float
) -> None:
    axis = {"units": "eV", "offset": offset, "scale": scale, "index_in_array": 0}
    signal = {"data": np.ones(2048, "<f4"), "axes": [axis]}
    monkeypatch.setattr(_replay, "_read", lambda path: [signal])
    with pytest.raises(ValueError, match=r"cannot be right. Calibrate it .*dispersion above 0"):
        Recording(tmp_path / "wrong.dm4")
