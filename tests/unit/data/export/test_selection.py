"""Frames of different axes are not given one axis."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from bluesky_em import Data
from bluesky_em.axes import Axis
from bluesky_em.data import _stream
from bluesky_em.data.export import FileFormat, Selection, select, write
from bluesky_em.files.run_documents import RunDocuments
from tests.support.recorded_run import Recorded

OFFSETS = (0.0, 0.0, 400.0)


class Stored:
    """A reader of one recorded run."""

    def __init__(self, run: Recorded):
        self.run = run

    def stream(self, uid: str, stream: str) -> Any:
        documents = RunDocuments.load(self.run.layout.journal_of(uid))
        return _stream.from_folder(self.run.layout.root, documents, self.run.frames, stream)


def selected(tmp_path: Path, rows: range | None = None) -> Selection:
    run = Recorded(tmp_path)
    for offset in OFFSETS:
        run.event(beam=1.0)
        run.frame(axes=(Axis(name="energy", units="eV", offset=offset, scale=0.5, size=6),))
    run.close()
    return select(cast(Data, Stored(run)), run.uid, rows=rows)


@pytest.mark.parametrize("to", ["hspy", "zspy", "nxs", "csv"])
def test_the_refusal_names_the_rows_their_axes_and_how_to_export_a_part(
    tmp_path: Path, to: str
) -> None:
    selection = selected(tmp_path)
    assert "energy" not in selection.array.coords
    with pytest.raises(ValueError, match="'eels' have different axes") as refused:
        write(selection, tmp_path / "all", FileFormat(to))
    assert "from row 0 on energy 0 to 2.5 eV; from row 2 on energy 400 to 402.5 eV" in str(
        refused.value
    )
    assert "`--rows 0:2`" in str(refused.value) and ".eels/<number>" in str(refused.value)
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize(("rows", "offset"), [(range(0, 2), 0.0), (range(2, 3), 400.0)])
def test_rows_of_one_axis_are_exported_with_that_axis(
    tmp_path: Path, rows: range, offset: float
) -> None:
    selection = selected(tmp_path, rows)
    assert not selection.refusal and "note" not in selection.facts
    np.testing.assert_array_equal(selection.array["energy"][:2], [offset, offset + 0.5])
    np.testing.assert_array_equal(selection.array.isel(energy=0), [*rows] if len(rows) > 1 else 2)
    write(selection, tmp_path / "part.hspy", FileFormat.HSPY)


def test_rows_that_are_not_there_are_refused_with_the_number_of_frames(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rows 2:9 .* which has 3 frames: give .* e.g. 0:3"):
        selected(tmp_path, range(2, 9))
