"""The configuration that a frame shows is the one that was valid for it."""

from pathlib import Path
from typing import Any

from bluesky_em.data._descriptors import Descriptors
from bluesky_em.data._frame_metadata import metadata_in_tiled, valid_for
from bluesky_em.files.journal import Journal


def configuration(exposure: float, **other: Any) -> dict[str, Any]:
    return {"eels": {"data": {"eels-exposure": exposure, **other}}}


def test_facts_of_the_exposure_win_over_the_settings_of_the_descriptor() -> None:
    valid = valid_for("eels", {"exposure": 0.05}, [configuration(0.01, **{"eels-gain": 2})])
    assert valid == configuration(0.05, **{"eels-gain": 2})
    assert valid_for("eels", None, [configuration(0.01)]) == configuration(0.01)
    assert valid_for("haadf", {"exposure": 0.05}, [configuration(0.01)]) == configuration(0.01)


def test_a_later_descriptor_is_valid_for_its_own_rows() -> None:
    lamp = [{"lamp": {"data": {"lamp-power": power}}} for power in (1, 2)]
    stream = {"configuration": lamp[0], "_config_updates": [{"configuration": lamp[1]}]}
    segments = [{"row": 0, "axes": []}, {"row": 2, "axes": [], "descriptor": 1}]
    for row, expected in ((0, lamp[0]), (1, lamp[0]), (2, lamp[1]), (5, lamp[1])):
        about = {"segments": segments, "failed": {}}
        assert metadata_in_tiled("eels", row, about, {}, stream)["configuration"] == expected


def test_the_journal_is_read_as_far_as_the_row_that_is_asked_for(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.msgpack")
    descriptors = Descriptors(tmp_path / "run.msgpack")
    journal.append("start", {"uid": "run", "time": 0.0})
    for uid in ("first", "second"):
        journal.append("descriptor", {"uid": uid, "name": "primary", "data_keys": {}})
        for _ in range(2):
            journal.append("event", {"descriptor": uid, "data": {}, "timestamps": {}})

    def valid_at(row: int) -> list[str]:
        return [descriptor["uid"] for descriptor in descriptors.valid_at("primary", row)]

    assert valid_at(0) == ["first"] and descriptors.start["uid"] == "run"
    assert valid_at(2) == ["first", "second"] and valid_at(1) == ["first"]
    journal.append("event", {"descriptor": "first", "data": {}, "timestamps": {}})
    assert valid_at(4) == ["first"]
    assert valid_at(9) == ["first"]  # not in the journal yet
    descriptors.close()
    journal.close()
