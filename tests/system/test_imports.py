"""Imports load only the part of the package that an analyst's PC or an instrument PC needs."""

import subprocess
import sys

import pytest


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_an_analysts_pc_imports_no_acquisition_code_and_no_run_engine():
    loaded = modules_after("from bluesky_em.data import Data")
    assert "bluesky_em.data" in loaded
    assert not loaded & {"bluesky.run_engine", "ophyd_async", "Pyro5", "bluesky_em.detector"}


def test_reading_a_folder_begins_without_the_packages_that_write_to_tiled():
    loaded = modules_after("from bluesky_em import Data")
    assert not loaded & {"bluesky_tiled_plugins", "tiled.client", "dask.array"}


@pytest.mark.parametrize("module", ["gatan.driver", "autoscript.driver", "server"])
def test_an_instrument_pc_imports_no_bluesky(module: str):
    loaded = modules_after(f"import bluesky_em.acquisition.instrument_pc.{module}")
    assert not loaded & {"bluesky", "ophyd_async", "event_model", "tiled", "h5py"}


def test_nothing_is_printed_and_neither_exspy_nor_the_server_is_imported() -> None:
    code = """
import sys, numpy as np
from bluesky_em.analysis import *
energy = np.arange(-50.0, 950.0)
frames = np.exp(-(energy / 2) ** 2)[None] * 1e5
print(align_zero_loss(frames, energy).shape, {"exspy", "Pyro5", "bluesky"} & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(1, 1000) set()\n"
    assert done.stderr == ""
