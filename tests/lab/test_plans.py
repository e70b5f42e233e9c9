"""Every plan runs on the simulated microscope, and says what it took."""

import inspect
from pathlib import Path

import bluesky.plan_stubs as bps
import numpy as np
import pytest

from bluesky_em import lab
from bluesky_em.session import Session

ROOT = Path(__file__).parents[2]


def test_every_plan_loads_and_takes_its_devices_as_arguments() -> None:
    plans, broken = lab.load_plans(ROOT)
    assert not broken
    assert set(plans) == {"spectrum", "line_scan", "focal_series", "image"}
    for path in (ROOT / "plans").glob("*.py"):
        assert "import devices" not in path.read_text()
    for plan in plans.values():
        assert inspect.getdoc(plan) and "Args:" in inspect.getdoc(plan)


def test_every_devices_file_gives_the_same_names_and_connects_nothing() -> None:
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


def test_focal_series_goes_back_to_the_focus_it_began_with(session: Session) -> None:
    microscope, haadf = session.devices["microscope"], session.devices["haadf"]
    before = session.RE(bps.rd(microscope.defocus)).plan_result
    session.RE(bps.mv(haadf.size, 128))
    plan = session.plans["focal_series"](haadf, microscope, defoci=(-50e-9, 50e-9))
    references = session.RE(plan).plan_result
    assert len(references) == 2
    assert session.RE(bps.rd(microscope.defocus)).plan_result == before
    uid = references[0].partition("/")[0]
    session.data.wait(uid)
    defocus = session.data.catalog[uid]["primary"].read()["microscope-defocus"]
    np.testing.assert_allclose(defocus, [-50e-9, 50e-9])


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
