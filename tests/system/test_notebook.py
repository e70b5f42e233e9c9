"""The example notebook, executed by a real kernel without a browser."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "07_notebook.ipynb"
CELL_TIMEOUT = 400  # s; the first one starts a session


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The outputs of each cell, by its source."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT, kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )  # fmt: skip
    client.execute()
    yield {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def outputs(cells: dict[str, Any], beginning: str) -> list[Any]:
    """Return the outputs of the cell that begins so."""
    return next(found for source, found in cells.items() if source.startswith(beginning))


def text(found: list[Any]) -> str:
    """Return what was printed."""
    return "".join(each.text for each in found if each.output_type == "stream")


def results(found: list[Any], kind: str) -> list[str]:
    """Return the results, and pictures, of a MIME type."""
    return [each.data[kind] for each in found if "data" in each and kind in each.data]


def test_no_cell_warns_or_asks_for_widgets(cells: dict[str, Any]) -> None:
    for source, found in cells.items():
        printed = "".join(each.text for each in found if each.get("name") == "stderr")
        others = [line for line in printed.splitlines() if not line.startswith("storage: ")]
        assert not others, (source, printed)  # storage tells when Tiled starts slowly
        assert "widget" not in str(found), source


def test_a_plan_shows_its_progress_as_text(cells: dict[str, Any]) -> None:
    shown = text(outputs(cells, "plan = "))
    parts = [int(part) for part in re.findall(r"eels: +(\d+)%", shown)]
    assert any(0 < part < 100 for part in parts) and 100 in parts, shown
    assert "\x1b" not in shown
    (last,) = results(outputs(cells, "plan = "), "text/plain")
    assert re.fullmatch(r"'[0-9a-f-]{36}\.eels/79'", last)


def test_waiting_shows_its_progress_and_its_result(cells: dict[str, Any]) -> None:
    assert "references: 100%" in text(outputs(cells, "references = "))
    (status,) = results(outputs(cells, "status = await"), "text/html")
    assert re.search(r"<code>.*\.eels/79: catalogued</code>", status)


def test_a_devices_status_is_awaited(cells: dict[str, Any]) -> None:
    assert results(outputs(cells, "await microscope"), "text/plain") == ["0.5"]


def test_a_frame_and_a_run_are_shown_as_tables(cells: dict[str, Any]) -> None:
    (frame,) = results(outputs(cells, "frame = "), "text/html")
    assert "energy" in frame and "eV (2048)" in frame and "beam_energy" in frame
    (run,) = results(outputs(cells, "data.wait(run_uid"), "text/html")
    assert "xarray.Dataset" in run and "(y, x, energy)" in run


@pytest.mark.parametrize("cell", ["frame.to_xarray().plot", "spectra.eels"])
def test_a_plot_is_in_the_notebook(cells: dict[str, Any], cell: str) -> None:
    (picture,) = results(outputs(cells, cell), "image/png")
    assert len(picture) > 5000
