import numpy as np
import pytest

from bluesky_em.analysis import merge


def test_spectra_of_several_offsets_become_one_in_counts_per_second() -> None:
    energy, rate = merge([
        (np.arange(0.0, 100.0), np.full(100, 10.0), 0.1),
        (np.arange(50.0, 150.0), np.full(100, 100.0), 1.0),
        (np.arange(200.0, 250.0), np.full(50, 7.0), 1.0),
    ])  # fmt: skip
    assert (energy[0], energy[-1], len(energy)) == (0.0, 249.0, 250)
    np.testing.assert_allclose(rate[:150], 100.0)
    assert np.isnan(rate[150:200]).all()
    np.testing.assert_allclose(rate[200:], 7.0)


def test_a_coarser_spectrum_is_interpolated_in_finer_steps() -> None:
    energy, rate = merge([
        (np.arange(0.0, 10.0, 0.5), np.full(20, 5.0), 1.0),
        (np.arange(20.0, 30.0, 1.0), np.full(10, 10.0), 1.0),
    ])  # fmt: skip
    assert energy[1] - energy[0] == 0.5
    np.testing.assert_allclose(rate[np.isfinite(rate)], 5.0)


def test_an_empty_series_is_refused() -> None:
    with pytest.raises(ValueError, match="no spectrum"):
        merge([])
