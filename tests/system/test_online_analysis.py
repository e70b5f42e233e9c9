"""Functions run on new frames and on finished runs; their results are runs, too."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky_tiled_plugins import TiledWriter
from tiled.client import from_uri
from tiled.queries import Key
from typer.testing import CliRunner

from bluesky_em import Data, analysis
from bluesky_em.__main__ import app
from bluesky_em.analysis.online import FrameFunction, process
from bluesky_em.app.session import Session
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.files.tiled.results_container import find
from bluesky_em.reference import run_of


@pytest.fixture(scope="module")
def spectra(session: Session) -> list[str]:
    """The references of a line scan over a flake."""
    eels, microscope = session.devices["eels"], session.devices["microscope"]
    plan = session.plans["line_scan"](
        eels, microscope, start=(0.04, 0.59), stop=(0.9, 0.62), points=6, exposure=0.02
    )
    references = session.RE(plan).plan_result
    session.data.wait(_run(references))
    return references


def _run(references: list[str]) -> str:
    return run_of(references[0])


def _results(session: Session, uid: str, name: str) -> Any:
    session.data.wait(uid)
    return session.data.results_catalog[uid]["primary"].read()[name].values


def test_an_analysis_in_its_own_process_has_the_same_results_live_and_afterwards(
    session: Session,
) -> None:
    folder = str(session.storage.layout.root)
    command = [sys.executable, "-m", "bluesky_em", "analyse", "thickness", "--storage", folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as analyst:
        assert analyst.stdout is not None
        assert "thickness is run on all runs from now on" in analyst.stdout.readline()
        eels, adf, microscope = (session.devices[n] for n in ("eels", "adf", "microscope"))
        plan = session.plans["spectrum_image"](eels, microscope, adf, shape=(8, 10), dwell=2e-3)
        uid = _run(session.RE(plan).plan_result)
        printed = analyst.stdout.readline()
        analyst.kill()
    assert printed.startswith(f"{uid}: 80 frames, results in run ")
    live = printed.split()[-1]
    offline = process(
        session.data, uid, FrameFunction.named("thickness"), session.storage, detector="eels"
    )
    assert offline.points == 80 and not offline.error
    values = _results(session, live, "thickness")
    np.testing.assert_array_equal(values, _results(session, offline.run, "thickness"))
    frames = session.data.stream(uid)["eels"]
    truth = analysis.thickness(frames.values.reshape(80, -1), frames.energy.values)
    np.testing.assert_allclose(values, truth)
    assert list(_results(session, live, "reference")) == [f"{uid}.eels/{n}" for n in range(80)]


def test_results_are_found_by_their_input_and_name_their_function(
    session: Session, spectra: list[str]
) -> None:
    function = FrameFunction.named("subtract_dark", {"dark": spectra[0]})
    done = process(session.data, _run(spectra), function, session.storage)
    _results(session, done.run, "subtract_dark")
    (found,) = session.data.results_catalog.search(Key("start.input.run") == _run(spectra)).values()
    start = found.metadata["start"]
    assert start["input"] == {"run": _run(spectra), "stream": "primary", "detector": "eels"}
    assert start["analysis"] == function.provenance()
    assert start["analysis"]["references"] == [spectra[0]]
    dark, second = (session.data.open(reference).read() for reference in spectra[:2])
    np.testing.assert_allclose(found["primary/subtract_dark"].read()[1], second - dark)


def test_an_error_ends_the_results_and_nothing_else(
    session: Session, spectra: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def fragile(frames, seen=[]):\n"
        "    seen.extend(frames)\n"
        "    if len(seen) > 3:\n"
        "        raise ZeroDivisionError('no more than three')\n"
        "    return frames.sum(axis=-1)\n"
    )
    function = FrameFunction.named(f"{tmp_path / 'mine.py'}:fragile")
    done = process(session.data, _run(spectra), function, session.storage)
    assert (done.points, done.error) == (1, "ZeroDivisionError: no more than three")
    assert len(_results(session, done.run, "fragile")) == 1
    stop = session.data.results_catalog[done.run].metadata["stop"]
    assert (stop["exit_status"], stop["reason"]) == ("fail", done.error)


def test_a_process_that_has_only_the_tiled_address_stores_its_results_there(
    tiled: TiledAddress, session: Session, spectra: list[str]
) -> None:
    data = Data(tiled.uri, api_key=tiled.analyst_key)
    client = from_uri(tiled.uri, api_key=tiled.analyst_key)
    try:
        emit = TiledWriter(find(client))
        done = process(data, _run(spectra), FrameFunction.named("zero_loss"), emit)
        values = data.results_catalog[done.run]["primary"].read()["zero_loss"].values
        data.publish(done.run, "good", True)  # about the run of results
        assert data.results(done.run).wait(done.run, "good", timeout=10)
        assert data.wait(done.run) and done.run not in list(data.catalog)
        assert [point.data["zero_loss"] for point in data.follow(done.run)] == [*values]
        np.testing.assert_array_equal(data.stream(done.run)["zero_loss"].values, values)
    finally:
        data.close()
        client.context.close()
    frames = session.data.stream(_run(spectra))["eels"]
    np.testing.assert_allclose(values, analysis.zero_loss(frames.values, frames.energy.values))


def test_a_choice_between_detectors_is_not_guessed(session: Session) -> None:
    eels, adf, microscope = (session.devices[n] for n in ("eels", "adf", "microscope"))
    plan = session.plans["spectrum_image"](eels, microscope, adf, shape=(2, 2), dwell=2e-3)
    uid = _run(session.RE(plan).plan_result)
    with pytest.raises(ValueError, match="have frames of adf, eels: choose a detector"):
        process(session.data, uid, FrameFunction.named("thickness"), session.storage)


def test_a_run_is_printed_and_plotted_from_the_command_line(
    session: Session, spectra: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(
        "bluesky_em.storage.processes.lower_priority", lambda: None
    )  # it would be that of this process
    storage = ["--storage", str(session.storage.layout.root)]
    printed = CliRunner().invoke(app, ["follow", _run(spectra), *storage]).output.splitlines()
    assert "line_scan" in printed[0] and "microscope-beam_x"[-13:] in printed[1]
    assert len(printed) == 3 + len(spectra) and "success" in printed[-1]
    pictures = {y: tmp_path / f"{y}.png" for y in ("eels", "microscope-beam_y")}
    for y, png in pictures.items():
        done = CliRunner().invoke(
            app, ["plot", _run(spectra), "--y", y, "--png", str(png), *storage]
        )
        assert done.exit_code == 0, done.output
        assert png.stat().st_size > 10_000


def test_the_session_s_table_and_plot_show_new_runs(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    png = tmp_path / "live.png"
    session.live.table()
    session.live.plot("eels", png=png)
    try:
        reference = session.acquire_eels(exposure=0.01)
        session.data.wait(reference)
        printed = ""
        for _ in session.data.follow(_run([reference])):
            pass
        while "success" not in printed or not png.exists():
            printed += capsys.readouterr().out
        assert f"run {_run([reference])}: spectrum" in printed and "1 points" in printed
    finally:
        session.live.close()
