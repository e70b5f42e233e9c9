"""Names of runs, detectors and streams, and references composed of them."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bluesky_em import Reference
from bluesky_em.files.layout import Layout, plain
from bluesky_em.storage.path_provider import RunPathProvider

LAYOUT = Layout(Path("/storage"))
EVERYTHING = st.characters(exclude_categories=())  # with NUL, surrogates, right-to-left marks
HOSTILE = st.sampled_from(
    ["", ".", "..", "../../etc/passwd", "C:\\x", "nul", "CON", "com1", "lpt9.txt", "aux.", "a ",
     "eels", "EELS", "Eels", "eels.dark", "eels-dark", "a" * 300, "é" * 200, "primary"]
)  # fmt: skip
NAMES = st.one_of(HOSTILE, st.text(EVERYTHING, max_size=20), st.text("aA-_01", max_size=80))
RESERVED = {"con", "prn", "aux", "nul"} | {
    f"{port}{n}" for port in ("com", "lpt") for n in range(10)
}
SHORT = 260 - 80  # characters that Windows allows in a path, less the storage folder


@st.composite
def two_names(draw: st.DrawFn) -> tuple[str, str]:
    """Draw two different names that are often similar."""
    one = draw(NAMES)
    alike = [one.upper(), one.lower(), one.swapcase(), plain(one), plain(one).upper(), one + " ",
             one + "_", one[:-1], one.replace("/", "_"), one * 2]  # fmt: skip
    other = draw(st.one_of(st.sampled_from(alike), NAMES))
    assume(one != other)
    return one, other


def is_legal(file: str) -> bool:
    """Check that Windows, macOS and Linux accept a file of this name."""
    stem = file.partition(".")[0]
    return (
        bool(re.fullmatch(r"[A-Za-z0-9_.-]+", file)) and stem != "" and stem.lower() not in RESERVED
    )


@given(NAMES, NAMES, st.none() | NAMES)
def test_every_name_becomes_a_file_inside_the_folder_that_every_system_accepts(
    run: str, detector: str, stream: str | None
):
    journal, frames = LAYOUT.journal_of(run), LAYOUT.frames_of(run, 0.0, detector, stream)
    assert journal.parent == LAYOUT.journal
    assert frames.parents[4] == LAYOUT.data
    for path in (journal, journal.with_suffix(".lock"), frames):
        assert all(is_legal(part) for part in path.relative_to(LAYOUT.root).parts), path
        assert len(str(path.relative_to(LAYOUT.root))) < SHORT


@given(two_names())
def test_different_names_are_different_files_even_where_case_does_not_count(names: tuple[str, str]):
    one, other = names
    assert plain(one).lower() != plain(other).lower()


@given(two_names(), two_names(), st.none() | NAMES, st.none() | NAMES)
def test_no_two_detectors_streams_or_runs_share_a_file(
    detectors: tuple[str, str], runs: tuple[str, str], here: str | None, there: str | None
):
    def file(run: str, detector: str, stream: str | None) -> str:
        return str(LAYOUT.frames_of(run, 0.0, detector, stream)).lower()

    first = file(runs[0], detectors[0], here)
    assert first != file(runs[0], detectors[1], there)
    assert first != file(runs[1], detectors[0], here)
    assert (first == file(runs[0], detectors[0], there)) == (here == there)


@given(st.floats() | st.integers())
@example(math.nan)
@example(1e300)
def test_every_time_has_a_date_folder_or_is_refused_with_its_value(started: float):
    try:
        path = LAYOUT.frames_of("run", started, "eels")
    except ValueError as exc:
        assert repr(started) in str(exc)
        assert "seconds since 1970" in str(exc)
    else:
        year, month, day = path.relative_to(LAYOUT.data).parts[:3]
        assert re.fullmatch(r"\d{4}/\d\d/\d\d", f"{year}/{month}/{day}")


@given(NAMES, NAMES)
def test_a_detector_receives_the_path_where_the_writer_creates_its_file(run: str, detector: str):
    assume(detector)
    provider = RunPathProvider(LAYOUT)
    provider.opened(run, 86400.0)
    place = provider(detector)
    received = Path(place.directory_path) / f"{place.filename}.h5"
    assert received == LAYOUT.frames_of(run, 86400.0, detector)


@given(NAMES, NAMES, st.integers(0, 10**18 - 1))
def test_every_valid_reference_survives_conversion_to_a_string(
    run: str, detector: str, number: int
):
    try:
        reference = Reference(run=run, detector=detector, number=number)
    except ValueError as exc:
        assert not run or "/" in run or not detector or "/" in detector or "." in detector
        assert repr(detector if run and "/" not in run else run) in str(exc)
    else:
        assert Reference.parse(str(reference)) == reference


@given(
    st.one_of(
        st.text(EVERYTHING),
        st.text("/0123456789-+_ \n٣a"),
        st.from_regex(r"[a-z.]*[./][a-z/]*/[0-9]*", fullmatch=True),
        st.none(), st.integers(), st.binary(), st.just("run.eels/" + "9" * 5000),
    )
)  # fmt: skip
def test_any_value_is_parsed_as_a_reference_or_refused_as_none(text: Any):
    try:
        reference = Reference.parse(text)
    except ValueError as exc:
        assert "is not a reference: expected '<run uid>.<detector>/<number>'" in str(exc)
    else:
        assert str(reference) == text


def test_a_reference_with_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="-1"):
        Reference(run="run", detector="eels", number=-1)
