from dataclasses import asdict, replace
from typing import Any

from bluesky_em import Reference
from bluesky_em.axes import Axis
from bluesky_em.files.tiled.row_map import (
    RowMap,
    axes_at,
    common_facts,
    descriptor_at,
    facts_at,
    find,
)  # fmt: skip
from bluesky_em.frame import Frame

ENERGY = Axis(name="energy", units="eV", offset=0.0, scale=0.5, size=4)


def frame(row: int, number: int, *, uid: str = "run", offset: float = 0.0) -> Frame:
    return Frame(
        reference=f"{uid}.eels/{number}", run="run", stream="primary", detector="eels",
        number=number, row=row, server="", path="", shape=(4,), dtype="<f4", checksum=0,
        axes=(replace(ENERGY, offset=offset),), ended=0.0,
    )  # fmt: skip


def scanned(one: Frame, *scan: Axis) -> Frame:
    return replace(one, metadata={"scan": [asdict(axis) for axis in scan]})


def segments_of(*frames: Frame) -> list[dict[str, Any]]:
    rows = RowMap()
    for each in frames:
        rows.add(each)
    return rows.dump()["segments"]


def row_of(segments: list[dict[str, Any]], number: int, run: str = "run") -> int | None:
    return find(segments, Reference(run=run, detector="eels", number=number))


def test_one_segment_while_numbers_and_rows_increase_together():
    (segment,) = segments_of(*(frame(row, row + 2) for row in range(1000)))
    assert (segment["row"], segment["number"], segment["run"]) == (0, 2, "run")
    assert axes_at([segment], 999) == (ENERGY,)


def test_a_segment_has_the_scan_of_its_rows_and_another_scan_begins_a_segment():
    y, x = replace(ENERGY, name="y"), replace(ENERGY, name="x")
    below = replace(y, offset=2.0)
    first, second = segments_of(
        frame(0, 0),
        scanned(frame(1, 1), y, x),
    )
    assert "scan" not in first
    assert [Axis.load(axis) for axis in second["scan"]] == [y, x]
    scans = [(y, x), (y, x), (below, x)]
    segments = segments_of(*(scanned(frame(row, row), *scan) for row, scan in enumerate(scans)))
    assert [segment["row"] for segment in segments] == [0, 2]


def test_a_skipped_number_begins_a_segment():
    segments = segments_of(frame(0, 0), frame(1, 1), frame(2, 4), frame(3, 5))
    assert [(s["row"], s["number"]) for s in segments] == [(0, 0), (2, 4)]
    assert [row_of(segments, number) for number in (0, 1, 4, 5)] == [0, 1, 2, 3]


def test_a_skipped_row_begins_a_segment():
    segments = segments_of(frame(0, 0), frame(2, 1))
    assert [row_of(segments, number) for number in (0, 1)] == [0, 2]


def test_changed_axes_begin_a_segment_and_each_row_keeps_its_axes():
    segments = segments_of(frame(0, 0), frame(1, 1, offset=7.0), frame(2, 2, offset=7.0))
    assert [s["row"] for s in segments] == [0, 1]
    assert [axes_at(segments, row)[0].offset for row in range(3)] == [0.0, 7.0, 7.0]


def test_references_with_different_uids_have_different_segments():
    segments = segments_of(frame(0, 0, uid="a"), frame(1, 0, uid="b"))
    assert [row_of(segments, 0, run) for run in ("a", "b")] == [0, 1]


def test_a_reference_outside_all_segments_is_not_found():
    segments = segments_of(frame(0, 5))
    assert row_of(segments, 4) is None
    assert row_of(segments, 5, run="another") is None
    assert row_of([], 0) is None


def test_a_skipped_number_is_not_found():
    segments = segments_of(frame(0, 0), frame(1, 1), frame(2, 4))
    assert row_of(segments, 2) is None


def test_a_failed_row_is_listed_with_its_reason():
    rows = RowMap()
    rows.add(frame(0, 0))
    rows.fail(frame(0, 0), "died with its server")
    assert rows.dump()["failed"] == {"0": "died with its server"}


def test_the_map_is_changed_only_when_its_metadata_are():
    rows = RowMap()
    assert not rows.changed
    rows.add(frame(0, 0))
    assert rows.changed
    rows.dump()
    rows.add(frame(1, 1))
    assert not rows.changed
    rows.fail(frame(1, 1), "lost")
    assert rows.changed


def with_facts(row: int, **facts: Any) -> Frame:
    return replace(frame(row, row), metadata=facts)


def dump_of(*frames: Frame) -> dict[str, Any]:
    rows = RowMap()
    for each in frames:
        rows.add(each)
    return rows.dump()


def test_each_row_has_its_own_facts_and_only_changes_are_kept() -> None:
    about = dump_of(
        with_facts(0, exposure=0.01, frames=1), with_facts(1, exposure=0.01, frames=1),
        with_facts(2, exposure=0.05, frames=1), with_facts(3, exposure=0.05),
    )  # fmt: skip
    assert about["facts"] == [
        (0, {"exposure": 0.01, "frames": 1}), (2, {"exposure": 0.05}), (3, {"frames": None}),
    ]  # fmt: skip
    assert len(about["segments"]) == 1
    found = [facts_at(about, row) for row in range(4)]
    assert found[:2] == [{"exposure": 0.01, "frames": 1}] * 2
    assert found[2:] == [{"exposure": 0.05, "frames": 1}, {"exposure": 0.05}]
    assert common_facts(about) == {}
    assert common_facts(dump_of(with_facts(0, a=1, b=2), with_facts(1, a=1, b=3))) == {"a": 1}


def test_an_older_catalog_has_no_facts_and_one_descriptor() -> None:
    about = {"segments": [{"row": 0, "number": 0, "run": "run", "axes": []}], "failed": {}}
    assert facts_at(about, 0) is None and common_facts(about) == {}
    assert descriptor_at(about["segments"], 0) == 0


def test_another_descriptor_begins_a_segment() -> None:
    rows = RowMap()
    for row, descriptor in enumerate((0, 0, 1, 1, 0)):
        rows.add(frame(row, row), descriptor)
    segments = rows.dump()["segments"]
    assert [segment["row"] for segment in segments] == [0, 2, 4]
    assert [descriptor_at(segments, row) for row in range(5)] == [0, 0, 1, 1, 0]


def test_facts_that_change_with_every_row_are_described_in_linear_size() -> None:
    rows, sent, count = RowMap(), 0, 10_000
    about: dict[str, Any] = {}
    for row in range(count):
        rows.add(with_facts(row, saturation_fraction=row / count))
        if rows.changed:
            about = rows.dump()
            sent += len(about["facts"])
        assert rows.size["facts"] == len(about["facts"])
        known = facts_at(about, row)  # a row has its own facts, or none yet
        assert known in (None, {"saturation_fraction": row / count})
    assert sent < 20 * count
    rows.add(with_facts(count, saturation_fraction=0.5))
    assert rows.is_behind and not rows.changed
    assert facts_at(rows.dump(), count - 1) == {"saturation_fraction": (count - 1) / count}
    assert not rows.is_behind
