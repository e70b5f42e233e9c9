"""Every plan runs on the simulated microscope."""

import inspect
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.utils import Msg, MsgGenerator

from bluesky_em.analysis import brightest_tiles, elemental_map, merge
from bluesky_em.app import lab
from bluesky_em.app.session import BASELINE, Session
from bluesky_em.reference import run_of

ROOT = Path(__file__).parents[2]


def test_every_plan_loads_and_takes_its_devices_as_arguments() -> None:
    plans, broken = lab.load_plans(ROOT)
    assert not broken
    assert set(plans) == {
        "spectrum", "line_scan", "focal_series", "image", "spectrum_image", "energy_series",
        "survey_and_map", "drift_corrected_map", "adaptive_map",
    }  # fmt: skip
    for path in (ROOT / "plans").glob("*.py"):
        assert "import devices" not in path.read_text()
    for plan in plans.values():
        assert inspect.getdoc(plan) and "Args:" in inspect.getdoc(plan)


def test_every_devices_file_returns_the_same_names_and_connects_nothing() -> None:
    from ophyd_async.core import StaticPathProvider, UUIDFilenameProvider

    paths = StaticPathProvider(UUIDFilenameProvider(), ROOT)
    names = {
        path.stem: set(lab.load_devices(path.stem, ROOT, path_provider=paths))
        for path in (ROOT / "devices").glob("[!_]*.py")
    }
    assert set(names) == {"simulated", "two_pc"}
    assert names["simulated"] == names["two_pc"]


def test_a_broken_plan_is_reported_and_the_others_still_load(tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "good.py").write_text("def good():\n    yield\n")
    (tmp_path / "plans" / "bad.py").write_text("def bad(:\n")
    plans, broken = lab.load_plans(tmp_path)
    assert set(plans) == {"good"}
    assert isinstance(broken["bad.py"], SyntaxError)


def test_line_scan_moves_the_probe_and_the_spectrum_changes(session: Session) -> None:
    references = session.RE(
        session.plans["line_scan"](
            session.devices["eels"], session.devices["microscope"],
            start=(0.04, 0.59), stop=(0.3, 0.59), points=3, exposure=0.1,
        )
    ).plan_result  # fmt: skip
    session.data.wait(references, until="stored")
    first, _, last = (session.data.open(reference).to_xarray() for reference in references)
    titanium = slice(460, 520)  # eV, above the Ti-L edge
    assert last.sel(energy=titanium).sum() > 3 * first.sel(energy=titanium).sum()


def test_the_beam_is_blanked_however_a_plan_ends(session: Session) -> None:
    microscope, eels = session.devices["microscope"], session.devices["eels"]
    with pytest.raises(Exception, match="exposure"):
        session.RE(session.plans["spectrum"](eels, microscope, exposure=99.0))
    assert session.RE(bps.rd(microscope.beam_blanked)).plan_result is True


def test_focal_series_restores_the_focus(session: Session) -> None:
    microscope, haadf = session.devices["microscope"], session.devices["haadf"]
    before = session.RE(bps.rd(microscope.defocus)).plan_result
    session.RE(bps.mv(haadf.size, 128))
    plan = session.plans["focal_series"](haadf, microscope, defoci=(-50e-9, 50e-9))
    references = session.RE(plan).plan_result
    assert len(references) == 2
    assert session.RE(bps.rd(microscope.defocus)).plan_result == before
    uid = run_of(references[0])
    session.data.wait(uid)
    defocus = session.data.catalog[uid]["primary"].read()["microscope-defocus"]
    np.testing.assert_allclose(defocus, [-50e-9, 50e-9])


def test_a_spectrum_image_is_one_fly_scan_together_with_the_dark_field(session: Session) -> None:
    eels, adf, microscope = (session.devices[n] for n in ("eels", "adf", "microscope"))
    plan = session.plans["spectrum_image"](eels, microscope, adf, shape=(12, 10), dwell=5e-3)
    references = session.RE(plan).plan_result
    uid = run_of(references[0])
    session.data.wait(uid)
    stream = session.data.catalog[uid]["primary"].base
    assert stream["eels"].shape == (12, 10, 2048) and stream["adf"].shape == (12, 10)
    assert session.data.catalog[uid].metadata["start"]["shape"] == [12, 10]
    energy = session.data.open(references[0]).axes[0].values
    titanium = elemental_map(stream["eels"].read(), energy, 456.0)
    dark_field = stream["adf"].read()
    assert np.corrcoef(titanium.flat, dark_field.flat)[0, 1] > 0.5  # the flake is in both


def test_an_energy_series_becomes_one_spectrum_and_the_offset_is_restored(session: Session) -> None:
    eels, microscope = session.devices["eels"], session.devices["microscope"]
    before = session.RE(bps.rd(eels.energy_offset)).plan_result
    plan = session.plans["energy_series"](
        eels, microscope, offsets=(0.0, 600.0), exposures=(0.01, 0.05)
    )
    references = session.RE(plan).plan_result
    session.data.wait(references, until="stored")
    assert session.RE(bps.rd(eels.energy_offset)).plan_result == before
    frames = [session.data.open(reference) for reference in references]
    energy, rate = merge([
        (f.axes[0].values, f.read(), f.metadata["frame"]["exposure"]) for f in frames
    ])  # fmt: skip
    assert energy[0] < 0 and energy[-1] > 1400 and np.isfinite(rate).all()
    with pytest.raises(ValueError, match="2 offsets need as many exposures, not 1"):
        session.RE(session.plans["energy_series"](eels, microscope, offsets=(0, 1), exposures=(1,)))


def test_a_survey_decides_where_to_map(session: Session) -> None:
    haadf, eels, adf, microscope = (
        session.devices[n] for n in ("haadf", "eels", "adf", "microscope")
    )
    session.RE(bps.mv(haadf.size, 128))
    plan = session.plans["survey_and_map"](haadf, eels, adf, microscope, session.data, shape=(4, 8))
    references = session.RE(plan).plan_result
    uid = run_of(references[0])
    session.data.wait(uid)
    run = session.data.catalog[uid]
    assert set(run) == {"survey", "map_0", "map_1"}
    assert run["map_0"].base["adf"].shape == (4, 8)
    (left, top, _, _), _ = brightest_tiles(run["survey/haadf"].read()[0])
    frame = session.data.open(f"{uid}.eels/31")
    y, x = frame.metadata["frame"]["scan"]
    whole = session.RE(bps.rd(microscope.field_of_view)).plan_result
    assert x["offset"] == pytest.approx(whole * (left - 0.5) + x["scale"] / 2)
    assert y["offset"] == pytest.approx(whole * (top - 0.5) + y["scale"] / 2)


def test_a_drift_corrected_map_follows_the_specimen(session: Session) -> None:
    names = ("haadf", "eels", "adf", "microscope", "stage")
    haadf, eels, adf, microscope, stage = (session.devices[n] for n in names)
    session.RE(bps.mv(haadf.size, 256, stage.x, 0.0))
    drift = 8e-9 / session.RE(bps.rd(microscope.field_of_view)).plan_result

    plan = session.plans["drift_corrected_map"](
        haadf, eels, adf, microscope, session.data, shape=(8, 8), lines=4, dwell=1e-3
    )
    drifts = session.RE(_drifting(plan, stage, 8e-9)).plan_result
    np.testing.assert_allclose(drifts, [(0, 0), (-drift, 0)], atol=0.01)
    session.RE(bps.mv(stage.x, 0.0))


def _drifting(plan: MsgGenerator, stage: Any, by: float) -> MsgGenerator:
    """Move the specimen once, after the first fly scan."""
    moved: list[bool] = []

    def after(message: Msg) -> tuple[None, MsgGenerator | None]:
        if message.command == "stop" and not moved:
            moved.append(True)
            return None, bps.mv(stage.x, by)
        return None, None

    return (yield from bpp.plan_mutator(plan, after))


def test_a_baseline_records_the_state_of_the_microscope(session: Session) -> None:
    session.sd.baseline.extend(session.devices[name] for name in BASELINE)
    try:
        uid = run_of(session.acquire_eels(exposure=0.01))
    finally:
        session.sd.baseline.clear()
    session.data.wait(uid)
    run = session.data.catalog[uid]
    baseline, keys = run["baseline"].read(), run["baseline"].metadata["data_keys"]
    assert len(baseline["time"]) == 2
    assert list(baseline["microscope-high_tension"]) == [200e3, 200e3]
    assert keys["microscope-high_tension"]["units"] == "V"
    assert {"stage-x", "stage-alpha", "microscope-defocus"} <= set(baseline)


def test_the_interactive_microscope_gives_references_at_once(session: Session) -> None:
    names = session.namespace()
    reference = names["microscope"].acquire_eels(exposure=0.1)
    assert reference == names["storage"].references[-1]
    names["data"].wait(reference, until="stored")
    assert names["data"].open(reference).to_xarray().sum() > 1e4  # the beam was on
    assert {"RE", "data", "storage", "eels", "haadf", "stage", "line_scan"} <= set(names)


def test_the_stage_moves_and_refuses_what_the_microscope_forbids(session: Session) -> None:
    stage = session.devices["stage"]
    session.RE(bps.mv(stage.x, 1e-6))
    assert session.RE(bps.rd(stage.x)).plan_result == pytest.approx(1e-6)
    with pytest.raises(Exception, match="stage-alpha cannot go to 2.0: the microscope allows"):
        try:
            session.RE(bps.mv(stage.alpha, 2.0))
        except Exception as exc:
            raise exc.__cause__ or exc from None
