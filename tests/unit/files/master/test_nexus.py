import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from nexusformat.nexus.validate import validate_file

from bluesky_em.axes import Axis
from bluesky_em.files import master
from bluesky_em.files.hdf5 import FramesFile
from tests.support.recorded_run import ENERGY, Recorded

Y = Axis(name="y", units="m", offset=0.0, scale=1e-9, size=2)
X = Axis(name="x", units="m", offset=0.0, scale=1e-9, size=4)


@pytest.fixture
def run(tmp_path: Path) -> Recorded:
    metadata = {"plan_name": "line_scan", "sample": {"name": "STO"}, "user": "Ada"}
    return Recorded(tmp_path / "storage", **metadata)


def written(run: Recorded) -> Path:
    run.close()
    account = master.write(run.layout, run.layout.journal_of(run.uid), run.frames, run.manifest)
    assert account["failure"] == ""
    path = run.layout.master_of(run.uid, 86400.0)
    assert run.layout.root / account["path"] == path
    return path


def plotted(file: h5py.File) -> Any:
    """Return the NXdata to which the `default` attributes lead."""
    group: Any = file
    while "default" in group.attrs:
        group = group[group.attrs["default"]]
    assert group.attrs["NX_class"] == "NXdata"
    return group


def test_the_file_describes_the_run_and_is_valid_nexus(run: Recorded) -> None:
    run.event("baseline", **{"microscope-high_tension": 200e3}, units="V")
    for number in range(3):
        run.frame(metadata={"beam_energy": 200.0})
        run.event(x=float(number), label="a\0b", units="m")
    path = written(run)
    assert validate_file(str(path)) == (0, 0)  # warnings, errors
    with h5py.File(path) as file:
        entry = file["entry"]
        assert entry["title"].asstr()[()] == "line_scan"
        assert entry["start_time"].asstr()[()] == "1970-01-02T00:00:00+00:00"
        assert entry["end_time"].asstr()[()] == "1970-01-02T00:00:10+00:00"
        assert entry["sample/name"].asstr()[()] == "STO"
        assert entry["user/name"].asstr()[()] == "Ada"
        assert "definition" not in entry  # it does not claim to be e.g. NXem
        assert json.loads(entry["bluesky/start"][()])["uid"] == run.uid
        assert json.loads(entry["bluesky/stop"][()])["exit_status"] == "success"
        high_tension = entry["baseline/events/microscope_high_tension"]
        assert list(high_tension) == [200e3]
        assert dict(high_tension.attrs) == {"units": "V", "long_name": "microscope-high_tension"}
        lamp = entry["primary/configuration/lamp/lamp_power"]
        assert (lamp[()], lamp.attrs["units"]) == (5.0, "W")
        assert list(entry["primary/events/x"]) == [0, 1, 2]
        assert entry["primary/events/label"].asstr()[0] == "a\\0b"
        assert list(entry["primary/timestamps/x"]) == [86400.5] * 3
        assert entry["primary/exposures/eels/beam_energy"][()] == 200.0


def test_links_to_frames_stay_valid_when_the_folder_is_moved(run: Recorded, tmp_path: Path) -> None:
    for _ in range(3):
        run.frame()
    path = written(run)
    moved = shutil.move(path.parent, tmp_path / "elsewhere")
    with h5py.File(Path(moved) / path.name) as file:
        data = plotted(file)
        assert data.name == "/entry/eels"
        link = data.get("data", getlink=True)
        assert (link.filename, link.path) == ("eels.h5", "/entry/data/data")
        np.testing.assert_array_equal(data[data.attrs["signal"]][:, 0], [0, 1, 2])
        assert list(data.attrs["axes"]) == [".", "energy"] and data.attrs["energy_indices"] == 1
        assert data["energy"][1] == -49.5 and data["energy"].attrs["units"] == "eV"


def test_a_map_is_one_array_and_points_not_reached_are_nan(run: Recorded) -> None:
    run.frame(count=4, scan=(Y, X))
    run.frame(count=2, scan=(Y, X))
    path = written(run)
    assert validate_file(str(path)) == (0, 0)
    with h5py.File(path) as file:
        data = plotted(file)
        assert data["data"].is_virtual and data["data"].shape == (2, 4, ENERGY.size)
        assert list(data.attrs["axes"]) == ["y", "x", "energy"]
        assert [data.attrs[f"{name}_indices"] for name in ("y", "x", "energy")] == [0, 1, 2]
        nan = np.nan
        np.testing.assert_array_equal(data["data"][:, :, 0], [[0, 1, 2, 3], [4, 5, nan, nan]])
        np.testing.assert_allclose(data["y"], Y.values)
        assert data["x"].attrs["units"] == "m"


def test_passes_over_the_same_columns_come_one_after_the_other_along_y(run: Recorded) -> None:
    below = Axis(name="y", units="m", offset=2e-9, scale=1e-9, size=1)
    run.frame(count=7, scan=(Y, X))
    run.frame(count=4, scan=(below, X))
    with h5py.File(written(run)) as file:
        data = plotted(file)
        lines = [[0, 1, 2, 3], [4, 5, 6, np.nan], [7, 8, 9, 10]]
        np.testing.assert_array_equal(data["data"][:, :, 0], lines)
        np.testing.assert_allclose(data["y"], [0, 1e-9, 2e-9])


def test_passes_over_different_columns_stay_a_list_of_frames(run: Recorded) -> None:
    other = Axis(name="x", units="m", offset=5.0, scale=1e-9, size=4)
    run.frame(count=8, scan=(Y, X))
    run.frame(count=8, scan=(Y, other))
    with h5py.File(written(run)) as file:
        assert plotted(file)["data"].shape == (16, ENERGY.size)


def test_a_map_of_images_has_names_for_all_four_axes(run: Recorded) -> None:
    run.frame("ceta", count=8, scan=(Y, X), axes=(Y, X), dtype="<u2")
    path = written(run)
    assert validate_file(str(path)) == (0, 0)
    with h5py.File(path) as file:
        assert list(plotted(file).attrs["axes"]) == ["scan_y", "scan_x", "y", "x"]
        assert plotted(file)["data"].shape == (2, 4, 2, 4)


def test_failed_references_are_listed_with_their_reasons(run: Recorded) -> None:
    run.frame()
    lost = run.frame(lost="its server died before it was spooled")
    with h5py.File(written(run)) as file:
        failed = file["entry/failed"]
        assert failed["reference"].asstr()[()].tolist() == [lost.reference]
        assert failed["reason"].asstr()[()].tolist() == ["its server died before it was spooled"]
        assert np.isnan(plotted(file)["data"][1]).all()


def test_frames_with_another_calibration_than_the_first_are_counted_in_the_title(
    run: Recorded,
) -> None:
    run.frame()
    run.frame(axes=(Axis(name="energy", units="eV", offset=400.0, scale=0.5, size=6),))
    with h5py.File(written(run)) as file:
        assert "1 have others: see eels.h5" in plotted(file)["title"].asstr()[()]


def test_data_of_other_packages_are_listed_and_those_in_hdf5_are_linked(run: Recorded) -> None:
    frame = run.frame()
    theirs = run.layout.data / "others" / "blob.h5"
    FramesFile(theirs, frame).close()
    resource = {
        "uid": "1", "run_start": run.uid, "data_key": "blob", "uri": f"file://localhost{theirs}",
        "mimetype": "application/x-hdf5", "parameters": {"dataset": "/entry/data/energy"},
    }  # fmt: skip
    classic = {
        "uid": "2", "spec": "NPY_SEQ", "root": "/x", "resource_path": "y", "resource_kwargs": {},
    }  # fmt: skip
    run.add("stream_resource", resource)
    run.add("resource", classic)
    with h5py.File(written(run)) as file:
        external = file["entry/external"]
        assert external["blob/uri"].asstr()[()] == resource["uri"]
        assert external["blob"].get("data", getlink=True).filename.startswith("../")
        np.testing.assert_array_equal(external["blob/data"], ENERGY.values)
        assert external["2/spec"].asstr()[()] == "NPY_SEQ" and "data" not in external["2"]


def test_a_run_without_detectors_shows_its_scalars(run: Recorded) -> None:
    for value in (1.0, 2.0):
        run.event(current=value, voltage=-value, label="text", profile=np.ones(3))
    path = written(run)
    assert validate_file(str(path)) == (0, 0)
    with h5py.File(path) as file:
        events = plotted(file)
        assert events.name == "/entry/primary/events"
        assert events.attrs["signal"] == "current"
        assert list(events.attrs["auxiliary_signals"]) == ["voltage"]
        assert events["profile"].shape == (2, 3)


def test_names_that_differ_only_in_characters_nexus_does_not_allow_stay_apart(
    run: Recorded,
) -> None:
    run.event(**{"a-b": 1.0, "a_b": 2.0, "Δ": 3.0})
    with h5py.File(written(run)) as file:
        fields = [f for f in file["entry/primary/events"].values() if len(f) and f.shape == (1,)]
        named = {field.attrs.get("long_name", field.name.rpartition("/")[2]) for field in fields}
        assert {"a-b", "Δ", "time", "seq_num"} < named
        assert {1.0, 2.0, 3.0} <= {float(field[0]) for field in fields}


def test_metadata_and_values_of_any_kind_are_kept_as_text(tmp_path: Path) -> None:
    awkward = {
        "phases": np.array([1j]), "no limit": float("inf"), "story": "Δ" * 100_000,
        "sample": ["a", 1], "user": None, "title": 7, "nul": "a\0b", "scan_id": "x",
    }  # fmt: skip
    run = Recorded(tmp_path / "storage", **awkward)
    for value in (1.0, "one", None, [1, 2], {"x": 1}, 2**63):
        run.event(value=value)
    for value in (np.arange(3), np.arange(4)):
        run.event("other", profile=value)
    with h5py.File(written(run)) as file:
        entry = file["entry"]
        assert entry["sample/name"].asstr()[()] == '["a", 1]'
        said = entry["primary/events/value"].asstr()[()].tolist()
        assert said == ["1.0", "one", "null", "[1, 2]", '{"x": 1}', str(2**63)]
        assert entry["other/events/profile"].asstr()[1] == "[0, 1, 2, 3]"
        assert json.loads(entry["bluesky/start"][()])["phases"] == [[0.0, 1.0]]


def test_every_nxdata_has_the_axes_it_names_and_they_fit(run: Recorded) -> None:
    """Check that signal and axes exist, and that lengths fit the dimension in `_indices`."""
    run.frame(count=8, scan=(Y, X))
    run.frame("ceta", axes=(Y, X), dtype="<u2")
    run.event(x=1.0)
    with h5py.File(written(run)) as file:
        found = [g for g in file["entry"].values() if g.attrs.get("NX_class") == "NXdata"]
        assert len(found) == 2
        for group in found:
            signal = group[group.attrs["signal"]]
            assert len(group.attrs["axes"]) == signal.ndim
            for name in set(group.attrs["axes"]) - {"."}:
                index = group.attrs[f"{name}_indices"]
                assert group.attrs["axes"][index] == name
                assert group[name].shape == (signal.shape[index],)
