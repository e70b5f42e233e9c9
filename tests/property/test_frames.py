"""Frames: each reference is in one row or in none, and its stage never goes back."""

from contextlib import closing
from pathlib import Path
from typing import Any

from event_model import pack_datum_page, pack_event_page
from hypothesis import example, given
from hypothesis import strategies as st

from bluesky_em import Reference, ReferenceState
from bluesky_em.axes import Axis
from bluesky_em.detector._documents import datum, resource
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import Entry
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.files.tiled.row_map import RowMap, axes_at, find
from bluesky_em.frame import Frame
from bluesky_em.reference import base_of
from bluesky_em.storage.writer._frame_finder import FrameFinder

LAYOUT = Layout(Path("/storage"))
SERVER = "PYRO:eels_server@gatan-pc:9091"
DETECTORS = st.sampled_from(["eels", "EELS", "haadf", "eels-dark", "试样"])
STREAMS = st.sampled_from(["primary", "dark", "", "eels", "../x"])

Document = tuple[str, Any]


@st.composite
def shots(draw: st.DrawFn) -> list[Document]:
    """Draw a run of several detectors and streams, with pages, pauses and repeated documents."""
    documents: list[Document] = [("start", {"uid": "run", "time": 0.0})]
    numbers: dict[str, int] = {}
    for _ in range(draw(st.integers(0, 8))):
        stream = draw(STREAMS)
        names = draw(st.lists(DETECTORS, max_size=3, unique=True))
        data: dict[str, Any] = {}
        for name in names:
            if name not in numbers or draw(st.integers(0, 9)) == 0:  # again after a pause
                ours = resource(base_of("run", name), "/", "x.h5", SERVER, name, header(0))
                documents.append(("resource", {**ours, "run_start": "run"}))
            numbers[name] = numbers.get(name, -1) + 1 + draw(st.sampled_from([0, 0, 0, 1, 2]))
            each = datum(
                Reference(run="run", detector=name, number=numbers[name]), header(numbers[name])
            )
            many = draw(st.sampled_from([1, 1, 1, 2]))  # 2: a document that came twice
            page = draw(st.booleans())
            documents += [("datum_page", pack_datum_page(each)) if page else ("datum", each)] * many
            data[name] = each["datum_id"]
        if draw(st.integers(0, 5)) == 0:
            continue  # the RunEngine has dropped this point
        described = {"uid": f"descriptor {stream}", "name": stream, "run_start": "run"}
        if ("descriptor", described) not in documents:
            documents.append(("descriptor", described))
        event: Any = {
            "uid": "", "descriptor": described["uid"], "time": 0.0,
            "seq_num": draw(st.integers(1, 3)), "data": {**data, "title": "run", "energy": 3.0},
            "timestamps": {}, "filled": {},
        }  # fmt: skip
        many = draw(st.sampled_from([1, 1, 1, 2]))
        page = draw(st.booleans())
        documents += [("event_page", pack_event_page(event)) if page else ("event", event)] * many
    return documents


def header(number: int) -> dict[str, Any]:
    axis = {"name": "energy", "units": "eV", "offset": float(number), "scale": 1.0, "size": 4}
    return {
        "shape": [4], "dtype": "<f4", "checksum": number, "axes": [axis], "metadata": {},
        "started": 1.0, "ended": 2.0,
    }  # fmt: skip


def found(documents: list[Document]) -> tuple[list[Frame], list[Frame]]:
    finder = FrameFinder(LAYOUT)
    frames = [frame for name, document in documents for frame in finder(name, document)]
    return frames, finder.unread()


@given(shots())
def test_each_reference_is_in_one_row_or_in_none_and_files_have_no_gaps(documents: list[Document]):
    frames, unread = found(documents)
    handed_out = {document["datum_id"] for name, document in documents if name == "datum"}
    handed_out |= {d["datum_id"][0] for name, d in documents if name == "datum_page"}
    assert sorted(frame.reference for frame in frames + unread) == sorted(handed_out)
    for path in {frame.path for frame in frames}:
        mine = [frame for frame in frames if frame.path == path]
        assert [frame.row for frame in mine] == list(range(len(mine)))
        assert len({(frame.stream, frame.detector) for frame in mine}) == 1
    assert all(frame.row == -1 and not frame.path for frame in unread)
    for frame in frames:
        assert frame.checksum == frame.number == Reference.parse(frame.reference).number
    assert found(documents) == (frames, unread)


@st.composite
def rows(draw: st.DrawFn) -> list[Frame]:
    """Draw the frames of one array in Tiled: numbers in any order, of any run, each once."""
    names = draw(
        st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12)), max_size=20, unique=True)
    )
    row, frames = -1, []
    for run, number in sorted(names) if draw(st.booleans()) else names:
        row += 1 + draw(st.sampled_from([0, 0, 0, 0, 1]))
        frames.append(a_frame(run, number, row, offset=draw(st.sampled_from([0.0, 0.0, 7.0]))))
    return frames


def a_frame(run: str, number: int, row: int, *, offset: float = 0.0, **fields: Any) -> Frame:
    axis = Axis(name="energy", units="eV", offset=offset, scale=0.5, size=4)
    plain: dict[str, Any] = {
        "reference": f"{run}.eels/{number}", "run": "run", "stream": "primary", "detector": "eels",
        "number": number, "row": row, "server": SERVER, "path": "", "shape": (4,), "dtype": "<f4",
        "checksum": 0, "axes": (axis,), "ended": 0.0,
    }  # fmt: skip
    return Frame(**{**plain, **fields})


@given(rows())
@example([a_frame("a", 5, 0), a_frame("a", 3, 1)])
@example([a_frame("a", 0, 0), a_frame("a", 1, 2)])
def test_a_reference_is_found_in_its_row_with_its_axes_among_any_others(
    frames: list[Frame],
):
    row_map, last = RowMap(), -1
    for frame in frames:
        row_map.add(frame)
        last = frame.row
    segments = row_map.dump()["segments"]
    for frame in frames:
        assert find(segments, Reference.parse(frame.reference)) == frame.row
        assert axes_at(segments, frame.row) == frame.axes
    known = {frame.reference for frame in frames}
    for run in "abc":
        for number in range(40):
            reference = Reference(run=run, detector="eels", number=number)
            row = find(segments, reference)
            assert str(reference) in known or row is None or row > last


REFERENCES = [f"run.eels/{number}" for number in range(3)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["captured", "stored", "catalogued", "failed"]),
        st.lists(st.sampled_from(REFERENCES), max_size=3),
        st.text(max_size=3),
    ),
    max_size=12,
)
METADATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


def fresh_ledger() -> closing[LedgerWriter]:
    return closing(LedgerWriter(Path(":memory:")))


@given(STEPS)
def test_a_stage_never_goes_back_and_a_failure_keeps_its_first_reason(
    steps: list[tuple[str, list[str], str]],
):
    with fresh_ledger() as ledger:
        before: dict[str, Entry] = {}
        for step, references, reason in steps:
            match step:
                case "captured":
                    ledger.add_frames(
                        a_frame("run", REFERENCES.index(r), 0, checksum=len(reason))
                        for r in references
                    )
                case "failed":
                    for reference in references:
                        ledger.mark_failed(reference, reason)
                case "stored":
                    known = [ledger.find(reference) for reference in references]
                    ledger.mark_stored(entry.frame for entry in known if entry)
                case _:
                    ledger.mark_catalogued(references)
            now = {entry.frame.reference: entry for entry in ledger.frames("run")}
            assert before.keys() <= now.keys() <= before.keys() | set(references)
            for reference, old in before.items():
                new = now[reference]
                assert new.frame == old.frame
                assert new == old or (new.stage, old.stage) in {
                    (ReferenceState.STORED, ReferenceState.CAPTURED),
                    (ReferenceState.CATALOGUED, ReferenceState.STORED),
                    (ReferenceState.FAILED, ReferenceState.CAPTURED),
                }
                assert new == old or (reference in references and new.stage == step)
                assert new.reason in ("", old.reason, reason)
            counts = ledger.counts()
            assert sum(counts.values()) == len(now)
            assert ledger.stages(REFERENCES) == {r: (e.stage, e.reason) for r, e in now.items()}
            before = now


@given(st.text(max_size=9), METADATA, st.floats(allow_nan=False), st.integers(0, 2**32 - 1))
def test_an_entered_frame_comes_back_unchanged(
    stream: str, metadata: Any, ended: float, checksum: int
):
    frame = a_frame(
        "run", 0, 0, stream=stream, metadata={"said": metadata}, ended=ended, checksum=checksum
    )
    with fresh_ledger() as ledger:
        ledger.add_frames([frame])
        entry = ledger.find(frame.reference)
        assert entry is not None
        assert entry.frame == frame
