import dataclasses

import numpy as np
import pytest

from bluesky_em.axes import Axis

ENERGY = {"name": "energy", "units": "eV", "offset": -100.0, "scale": 0.5, "size": 4}


def test_values_start_at_the_offset_and_increase_by_the_scale():
    values = Axis(name="energy", units="eV", offset=-100.0, scale=0.5, size=4).values
    np.testing.assert_array_equal(values, [-100.0, -99.5, -99.0, -98.5])
    assert values.dtype == np.dtype("<f8")


def test_an_axis_may_run_backwards_and_may_be_empty():
    assert Axis(name="y", units="m", offset=1.0, scale=-1.0, size=3).values.tolist() == [1, 0, -1]
    assert Axis(name="y", units="m", offset=1.0, scale=1.0, size=0).values.shape == (0,)


def test_an_axis_is_loaded_from_the_dict_in_documents():
    assert dataclasses.asdict(Axis.load(ENERGY)) == ENERGY


def test_loading_converts_numpy_numbers_to_python_numbers():
    axis = Axis.load({**ENERGY, "offset": np.float32(1), "scale": 2, "size": np.int64(4)})
    assert [type(n) for n in (axis.offset, axis.scale, axis.size)] == [float, float, int]


def test_an_axis_without_its_scale_is_refused_by_name():
    with pytest.raises(KeyError, match="scale"):
        Axis.load({key: value for key, value in ENERGY.items() if key != "scale"})
