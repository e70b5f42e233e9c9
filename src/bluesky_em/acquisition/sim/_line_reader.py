"""A simulated camera and scan generator, synchronised: lines of a map, up to 8000 points/s."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._beam import BeamState
from ._digital_micrograph import DigitalMicrograph
from ._images import scan_signal
from ._sample import Matter
from ._spectrum import CHANNELS, COUNTS_PER_ELECTRON, ELEMENTARY_CHARGE, READ_NOISE

_STEP = 0.02  # of t/lambda; points that differ by less share their expected spectrum
_CACHE_LIMIT = 512  # expected spectra
_NOISE_VALUES = 1 << 22  # drawn once; each line starts at a random place in them

Floats = NDArray[np.float32]


class LineReader:
    """A simulated `read_line`, which each site must supply to the driver.

    It is faster than the camera of the look-alike: noise is Gaussian and drawn in advance, and
    nothing saturates.

    Args:
        module: the look-alike of DigitalMicrograph; its beam, filter and sample are used.
    """

    def __init__(self, module: DigitalMicrograph):
        self._module = module
        self._rng = np.random.default_rng(11)
        self._noise = self._rng.standard_normal(_NOISE_VALUES, dtype=np.float32)
        self._ended = 0.0  # time.perf_counter() at the end of the last line
        self._expected: OrderedDict[tuple[Any, ...], tuple[Floats, Floats]] = OrderedDict()

    @property
    def field_of_view(self) -> float:
        """Width of the whole scan in m."""
        return self._module.beam_state().field_of_view

    def __call__(
        self, y: float, ends: tuple[float, float], points: int, dwell: float
    ) -> tuple[Floats, Floats]:
        """Take a line.

        Args:
            y: of the line, in fractions of the scan.
            ends: x of its first and last point.
            points: number of points.
            dwell: s at each.

        Returns:
            Spectra, shape (points, channels), and dark-field counts, shape (points,).
        """
        now, length = time.perf_counter(), points * dwell
        running = now - self._ended < length  # the scan continues while the last line is read
        self._ended = (self._ended if running else now) + length
        state = self._module.beam_state()
        x, row = state.on_sample(np.linspace(*ends, points), y)
        on_line = np.broadcast_to(row, x.shape)
        spectra = self._spectra(state, x, on_line, dwell)
        signal = scan_signal(
            self._module.sample, state, x, on_line, detector="HAADF", dwell=dwell, rng=self._rng
        )
        if self._module.latency:
            time.sleep(max(0.0, self._ended - time.perf_counter()))
        return spectra, signal.astype(np.float32)

    def _spectra(self, state: BeamState, x: Any, y: Any, dwell: float) -> Floats:
        begin = int(self._rng.integers(_NOISE_VALUES // 2))
        spectra = np.resize(self._noise[begin:], (len(x), CHANNELS))
        if not state.on:
            return spectra * np.float32(READ_NOISE)
        electrons = state.current * dwell / ELEMENTARY_CHARGE
        matter = np.round(np.stack(self._module.sample.matter(x, y), axis=1) / _STEP)
        for amounts in np.unique(matter, axis=0):
            expected, deviation = self._expect(tuple(float(a) for a in amounts), electrons)
            rows = np.flatnonzero((matter == amounts).all(axis=1))
            for row in rows:  # in place: a copy costs more than the arithmetic
                spectra[row] *= deviation
                spectra[row] += expected
        return spectra

    def _expect(self, amounts: tuple[float, ...], electrons: float) -> tuple[Floats, Floats]:
        """Return the counts expected in each channel, and their standard deviation."""
        start, dispersion = self._module.energy_calibration()
        key = (*amounts, electrons, start, dispersion)
        if key not in self._expected:
            matter = Matter(*(np.asarray(a * _STEP) for a in amounts))
            counts = self._module.sensor.expected(matter, electrons, start, dispersion)
            variance = COUNTS_PER_ELECTRON**2 * counts + READ_NOISE**2
            self._expected[key] = (
                (COUNTS_PER_ELECTRON * counts).astype(np.float32),
                np.sqrt(variance).astype(np.float32),
            )
            while len(self._expected) > _CACHE_LIMIT:
                self._expected.popitem(last=False)
        return self._expected[key]
