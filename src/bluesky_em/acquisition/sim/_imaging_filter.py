"""The simulated imaging filter: energy offset, dispersion, aperture, and their settling times."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

DISPERSIONS = {1: 1.0, 2: 0.5, 3: 0.25, 4: 0.1, 5: 0.05, 6: 0.025, 7: 0.01}  # eV/channel
APERTURES = {0: "2.5 mm", 1: "5 mm"}
APERTURE_SETTLE = 20 / 60  # s
SPECTROSCOPY, IMAGING = 0, 1  # filter modes


def energy_settle(change: float) -> float:
    """Return how long (s) the filter settles after a change of the energy loss (eV)."""
    change = abs(change)
    ticks = 10 + 0.5 * change if change < 40 else 30 + 0.25 * change
    return ticks / 60


class ImagingFilter:
    """The state that the script functions of the filter read and change."""

    def __init__(self, *, latency: bool = True) -> None:
        self.latency = latency
        self.mode: int = SPECTROSCOPY
        """Fault switch: `IMAGING` makes the spectrometer refuse to measure spectra."""
        self.dispersion_index = 2
        self.aperture_index = 1
        self.slit_inserted = False
        self.energy_loss = 0.0  # eV
        self._previous = 0.0
        self._moved = self._settled = time.perf_counter()

    @property
    def dispersion(self) -> float:
        """Energy per channel in eV."""
        return DISPERSIONS[self.dispersion_index]

    def set_energy_loss(self, energy: float) -> None:
        """Change the energy loss (eV); `wait` returns when it has settled."""
        self._previous, self.energy_loss = self.energy_loss, float(energy)
        self._settle(energy_settle(self.energy_loss - self._previous))

    def actual_energy_loss(self) -> float:
        """Return the actual energy loss (eV), also while it still settles."""
        elapsed, duration = time.perf_counter() - self._moved, self._settled - self._moved
        if elapsed >= duration:
            return self.energy_loss
        rest = math.exp(-5 * elapsed / duration)
        return self.energy_loss + (self._previous - self.energy_loss) * rest

    def wait(self) -> None:
        """Block until the filter has settled."""
        time.sleep(max(0.0, self._settled - time.perf_counter()))

    def script_functions(self) -> dict[str, Callable[..., float | None]]:
        """Return the DM-Script functions that control the filter."""
        return {
            "IFSetUpCommunication": lambda: 1.0,
            "IFIsInEELSMode": lambda: float(self.mode == SPECTROSCOPY),
            "IFCGetFilterMode": lambda: float(self.mode),
            "IFGetEnergyLoss": lambda: self.energy_loss,
            "IFSetEnergyLoss": self.set_energy_loss,
            "IFWaitForFilter": self.wait,
            "IFCGetActiveDispersion": lambda: float(self.dispersion_index),
            "IFCSetActiveDispersions": self._set_dispersion,
            "IFCGetAperture": lambda: float(self.aperture_index),
            "IFCSetAperture": self._set_aperture,
            "IFGetSlitIn": lambda: float(self.slit_inserted),
        }

    def _set_dispersion(self, index: float) -> None:
        if int(index) in DISPERSIONS:
            self.dispersion_index = int(index)
            self._settle(APERTURE_SETTLE)

    def _set_aperture(self, index: float) -> None:
        if int(index) in APERTURES:
            self.aperture_index = int(index)
            self._settle(APERTURE_SETTLE)

    def _settle(self, seconds: float) -> None:
        self._moved = time.perf_counter()
        self._settled = self._moved + (seconds if self.latency else 0.0)
