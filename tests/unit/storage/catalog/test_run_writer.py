"""A follower that finds a new array of updates waits for its row map."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bluesky_em.axes import Axis
from bluesky_em.frame import Frame
from bluesky_em.storage.catalog._fallback import Fallback
from bluesky_em.storage.catalog._run_writer import TiledRunWriter

SUM = {"mode": "accumulate", "shape": [4], "dtype": "<f4"}
FRAME = Frame(
    reference="run.eels/0", run="run", stream="primary", detector="eels", number=0, row=0,
    server="", path="data/eels.h5", shape=(4,), dtype="<f4", checksum=0,
    axes=(Axis(name="energy", units="eV", offset=0.0, scale=1.0, size=4),), ended=0.0, update=SUM,
)  # fmt: skip


def test_a_new_array_of_updates_announces_as_many_entries_as_its_row_map_will_have():
    created: dict[str, Any] = {}
    stream = SimpleNamespace(
        metadata={"data_keys": {"eels": {"shape": [4], "dtype_numpy": "<f4", "dtype": "array"}}},
        new=lambda **given: created.update(given),
    )
    writer: Any = TiledRunWriter(object(), lambda _: [], Path(), Fallback())
    writer._frame_arrays.add(FRAME, 0, {"eels"})
    writer.stream_nodes["descriptor"] = stream
    writer.resources["primary/eels"] = {
        "uid": "primary/eels", "data_key": "eels", "mimetype": "application/x-hdf5",
        "uri": "file://localhost/eels.h5", "parameters": {"dataset": "/entry/data/data"},
    }  # fmt: skip
    writer.get_sres_node("primary/eels", "descriptor")
    (source,) = created["data_sources"]
    assert source.properties == {"segments": 1, "failed": 0, "facts": 0}
    assert created["metadata"] == {}, "the row map comes later"
