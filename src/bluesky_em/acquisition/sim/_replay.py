"""Real recordings, played through the simulated spectrometer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_em.acquisition.instrument_pc.calibration import is_possible


class Recording:
    """An EELS spectrum or spectrum image read from a DigitalMicrograph file.

    With it, `sim.digital_micrograph` returns the recorded numbers in every exposure, bit for bit;
    in a spectrum image the beam position selects the pixel.
    """

    path: Path
    data: NDArray[Any]
    """(rows, cols, channels), a spectrum being one pixel; in the type it was recorded in."""
    start: float
    """Energy of the first channel in eV."""
    dispersion: float
    """eV per channel."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read a .dm3 or .dm4 file; ValueError says what is wrong with it."""
        self.path = Path(path)
        signals = _read(self.path)
        signal, energy = _eels_signal(self.path, signals)
        data = np.moveaxis(signal["data"], energy["index_in_array"], -1)
        if data.ndim > 3:
            raise ValueError(
                f"{self.path} holds data of shape {signal['data'].shape}. A spectrum, a line of "
                "spectra or a spectrum image (rows, cols, energy) can be replayed."
            )
        self.data = np.ascontiguousarray(data.reshape((1,) * (3 - data.ndim) + data.shape))
        self.start = float(energy["offset"])
        self.dispersion = float(energy["scale"])
        if not is_possible(self.start, self.dispersion):
            raise ValueError(
                f"{self.path} has an energy axis that begins at {self.start} eV with "
                f"{self.dispersion} eV per channel, which cannot be right. Calibrate it in "
                "DigitalMicrograph (a dispersion above 0), save it, and replay that file."
            )

    def spectrum(self, x: float, y: float) -> NDArray[Any]:
        """Return the spectrum (channels,) recorded at a fraction x, y of the scan."""
        rows, cols, _ = self.data.shape
        row = min(max(int(y * rows), 0), rows - 1)
        col = min(max(int(x * cols), 0), cols - 1)
        return self.data[row, col]


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        from rsciio.digitalmicrograph import file_reader
    except ImportError as exc:
        raise RuntimeError(
            "Replaying a recording needs rosettasciio: `pip install rosettasciio`."
        ) from exc
    if not path.is_file():
        raise FileNotFoundError(f"There is no recording at {path}. Give a .dm3 or .dm4 file.")
    try:
        return file_reader(str(path))
    except Exception as exc:  # the reader raises errors of many types
        raise ValueError(
            f"{path} cannot be read as a DigitalMicrograph file: {exc}. "
            "Give an EELS spectrum or spectrum image saved as .dm3 or .dm4."
        ) from exc


def _eels_signal(
    path: Path, signals: list[dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the first signal with an energy axis in eV, and that axis."""
    for signal in signals:
        for axis in signal["axes"]:
            if str(axis["units"]) == "eV" and signal["data"].dtype.kind in "fiu":
                return signal, axis
    found = "; ".join(
        f"{s['data'].shape} in ({', '.join(str(a['units']) for a in s['axes'])})" for s in signals
    )
    raise ValueError(
        f"{path} has no energy axis in eV; found {found or 'no data'}. "
        "Give an EELS spectrum or spectrum image saved as .dm3 or .dm4."
    )
