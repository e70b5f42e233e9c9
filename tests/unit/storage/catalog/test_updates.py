"""The description of an array that updates change, for Tiled."""

from typing import Any

import pytest

from bluesky_em.axes import Axis
from bluesky_em.files.hdf5.updates import Extent
from bluesky_em.frame import Frame
from bluesky_em.storage.catalog._updates import UpdateMap
from bluesky_em.update_modes import UpdateDeclaration

CUBE = {"mode": "add_slice", "shape": [6, 3, 4], "dtype": "<f4"}
SUM = {"mode": "accumulate", "shape": [4], "dtype": "<u2"}
LIVE = {"mode": "replace", "shape": [4], "dtype": "<u2", "keep_versions": 3}
Index = tuple[int, ...] | None


def frame(row: int, update: dict[str, Any], index: Index = None) -> Frame:
    shape = tuple(update["shape"][1:]) if index else tuple(update["shape"])
    names = ["x", "energy"][-len(shape) :]
    axes = [
        Axis(name=n, units="", offset=0.0, scale=1.0, size=s)
        for n, s in zip(names, shape, strict=True)
    ]
    scan = [vars(Axis(name=n, units="m", offset=0.0, scale=1.0, size=6)) for n in ("y", "x")]
    return Frame(
        reference=f"run.eels/{row}", run="run", stream="primary", detector="eels", number=row,
        row=row, server="", path="eels.h5", shape=shape, dtype="<f4", checksum=row + 7,
        axes=tuple(axes), ended=1.0, metadata={"scan": scan} if index else {}, update=update,
        index=index,
    )  # fmt: skip


def map_of(*frames: Frame, failed: int | None = None) -> UpdateMap:
    updates = UpdateMap(frames[0])
    for each in frames:
        if each.row == failed:
            updates.fail(each, "it is lost")
        updates.add(each)
    return updates


def test_a_cube_is_as_high_as_the_highest_line_received():
    updates = map_of(
        frame(0, CUBE, (0, 0, 0)), frame(1, CUBE, (4, 0, 0)), frame(2, CUBE, (2, 0, 0))
    )
    assert updates.extent.shape == (5, 3, 4)
    assert [axis.name for axis in updates.axes] == ["y", "x", "energy"]
    about = updates.dump()["update"]
    assert about["count"] == 3
    assert about["values"]["2"] == {"checksum": 9, "index": (2, 0, 0)}


def test_subscribers_receive_only_the_lines_that_are_new():
    updates = map_of(frame(0, CUBE, (0, 0, 0)))
    assert updates.extent.changed() == ((0, 0, 0), (1, 3, 4))
    updates.add(frame(1, CUBE, (3, 0, 0)))
    updates.add(frame(2, CUBE, (2, 0, 0)))
    assert updates.extent.changed() == ((2, 0, 0), (2, 3, 4))
    assert updates.extent.changed() == ((0, 0, 0), (0, 0, 0))


def test_a_lost_line_is_counted_and_is_not_in_the_cube():
    updates = map_of(frame(0, CUBE, (0, 0, 0)), frame(1, CUBE, (5, 0, 0)), failed=1)
    assert updates.extent.shape == (1, 3, 4)
    dump = updates.dump()
    assert dump["failed"] == {"1": "it is lost"} and dump["update"]["count"] == 2
    assert [*dump["update"]["values"]] == ["0"]


@pytest.mark.parametrize("update, readable", [(SUM, []), (LIVE, ["2"])])
def test_a_sum_has_no_readable_frame_and_a_live_view_has_the_newest(update: Any, readable: Any):
    updates = map_of(*(frame(n, update) for n in range(4)), failed=3)
    assert updates.extent.shape == (4,) and [axis.name for axis in updates.axes] == ["energy"]
    assert [*updates.dump()["update"]["values"]] == readable


def test_an_unlimited_axis_is_as_long_as_its_longest_update():
    extent = Extent(UpdateDeclaration.load({**CUBE, "shape": [None, None]}))
    extent.add((2, 5), (1, 0))
    extent.add((7,), (0, 3))
    assert extent.shape == (3, 10)
