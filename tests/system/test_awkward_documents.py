"""Unusual documents that real plans emit: no accepted data are lost, and every run completes."""

import time
from datetime import datetime
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.utils import MsgGenerator
from ophyd import Signal
from ophyd.sim import SynSignalWithRegistry

from bluesky_em import Data
from bluesky_em.app.session import Session
from bluesky_em.files.tiled.values import address_name
from bluesky_em.plan_stubs import per_shot
from bluesky_em.reference import run_of


class Odd(Signal):
    """Returns the next of some values at each read, whatever its data key promises."""

    def __init__(self, name: str, values: list[Any], **key: Any):
        super().__init__(name=name, value=None)
        self._values = iter(values)
        self._key = {"source": "sim", "dtype": "number", "shape": [], **key}

    def describe(self) -> dict[str, Any]:
        return {self.name: self._key}

    def read(self) -> dict[str, Any]:
        return {self.name: {"value": next(self._values), "timestamp": time.time()}}

    def describe_configuration(self) -> dict[str, Any]:
        return {"gain": {"source": "sim", "dtype": "number", "shape": []}}

    def read_configuration(self) -> dict[str, Any]:
        return {"gain": {"value": float("nan"), "timestamp": 0.0}}


def read_all(session: Session, devices: list[Any], **md: Any) -> str:
    """Run two events of some devices, wait until the run is complete, and return its uid."""

    @bpp.run_decorator(md=md)
    def plan() -> MsgGenerator[None]:
        for _ in range(2):
            yield from per_shot(devices)

    (uid,) = session.RE(plan()).run_start_uids
    session.data.wait(uid)
    return uid


def test_numbers_that_begin_as_integers_or_missing_keep_their_values(
    session: Session, http: Data
) -> None:
    class Fickle(Signal):
        def describe(self) -> dict[str, Any]:
            return {self.name: {"source": "sim", "dtype": "number", "shape": []}}

    fickle = Fickle(name="fickle", value=0)
    values = [0, 0.25, 3, -1.5]

    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        for value in values:
            fickle.put(value)
            yield from per_shot([fickle])
            yield from bps.sleep(0.15)  # a separate flush

    (uid,) = session.RE(plan()).run_start_uids
    session.data.wait(uid)
    assert list(http.catalog[uid]["primary"].read()["fickle"]) == values


def test_a_run_inside_another_does_not_mix_up_their_references(
    session: Session, http: Data
) -> None:
    eels = session.devices["eels"]

    def plan() -> MsgGenerator[list[str]]:
        from bluesky.preprocessors import set_run_key_wrapper as in_run

        yield from in_run(bps.open_run(), "outer")
        references = []
        for _ in range(2):
            references += yield from in_run(per_shot([eels]), "outer")
            yield from in_run(bps.open_run(), "inner")
            references += yield from in_run(per_shot([eels]), "inner")
            yield from in_run(bps.close_run(), "inner")
            references += yield from in_run(per_shot([eels]), "outer")
        yield from in_run(bps.close_run(), "outer")
        return references

    result = session.RE(plan())
    assert len(set(result.plan_result)) == 6
    for uid in result.run_start_uids:
        session.data.wait(uid)
    outer = http.catalog[result.run_start_uids[0]]["primary/eels"]
    expected = [session.data.open(result.plan_result[i]).read() for i in (0, 2, 3, 5)]
    np.testing.assert_array_equal(outer.read(), expected)


def test_a_classic_detector_staged_once_for_two_runs_is_stored_in_both(session: Session) -> None:
    folder = session.storage.layout.data / "classic"
    folder.mkdir(exist_ok=True)
    camera = SynSignalWithRegistry(
        func=lambda: np.full((4, 4), time.time()), name="camera", save_path=str(folder)
    )

    @bpp.stage_decorator([camera])
    def plan() -> MsgGenerator[None]:
        for _ in range(2):
            yield from bpp.run_wrapper(per_shot([camera]))

    uids = session.RE(plan()).run_start_uids
    for uid in uids:
        session.data.wait(uid)
        assert session.data.catalog[uid]["primary/camera"].shape[1:] == (4, 4)


def test_metadata_of_any_type_are_kept_in_a_readable_form(session: Session, http: Data) -> None:
    session.RE.md["began"] = datetime(2026, 1, 1)
    try:
        reference = session.acquire_eels(exposure=0.001)
    finally:
        del session.RE.md["began"]
    uid = run_of(reference)
    session.data.wait(uid)
    assert http.catalog[uid].metadata["start"]["began"] == "2026-01-01T00:00:00"


def test_a_clock_that_jumps_during_a_run_changes_only_the_time_stamps(
    session: Session, http: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = [0.0, 3e9, -1.7e9, 1e4]
    now = time.time
    references: list[str] = []

    @bpp.run_decorator()
    def plan() -> MsgGenerator[None]:
        for jump in jumps:
            monkeypatch.setattr(time, "time", lambda jump=jump: now() + jump)
            references.extend((yield from per_shot([session.devices["eels"]])))
        monkeypatch.setattr(time, "time", now)

    (uid,) = session.RE(plan()).run_start_uids
    session.data.wait(uid)
    table = http.catalog[uid]["primary"].base["internal"].read()
    assert list(table["seq_num"]) == [1, 2, 3, 4] and np.ptp(table["time"]) > 1e9
    for reference in references:
        assert http.open(reference).read().shape == (2048,)


def test_values_that_do_not_match_their_descriptor_are_left_out_with_a_note_and_the_run_is_complete(
    session: Session, http: Data
) -> None:
    eels = session.devices["eels"]
    uid = read_all(
        session,
        [
            eels,
            Odd("count", [1, 2.5], dtype="integer"),
            Odd("huge", [2**63, -1], dtype="integer"),
            Odd("text", ["abc", 1.5]),
            Odd("matrix", [[[1, 2], [3, 4]], "none"], dtype="array", shape=[2, 2]),
            Odd("profile", [np.arange(20.0), np.arange(3.0)], dtype="array", shape=[20]),
        ],
    )
    run = http.catalog[uid]
    events = run["primary"].read()
    assert events["eels"].shape == (2, 2048)
    assert events["count"].values.tolist()[0] == 1
    assert np.isnan(events["count"].values[1])
    assert events["huge"].values.tolist()[1] == -1
    assert np.isnan(events["text"].values[0])
    np.testing.assert_array_equal(events["profile"][1][:3], [0, 1, 2])
    notes = "\n".join(run.metadata["notes"])
    for said in (
        "count of event 2 is left out here: '2.5' is not of type integer",
        "huge of event 1 is left out here",
        "text of event 1 is left out here: 'abc' is not of type number",
        "matrix of event 2 is left out here",
    ):
        assert said in notes


def test_data_keys_that_cannot_be_columns_are_renamed_with_a_note(
    session: Session, http: Data
) -> None:
    names = ["time", "Δ energy", "x", "X", "ts_x", "a long name; " * 6]
    uid = read_all(session, [Odd(name, [number, number]) for number, name in enumerate(names)])
    events, notes = http.catalog[uid]["primary"].read(), http.catalog[uid].metadata["notes"]
    for number, name in enumerate(names):
        found = [
            note for note in notes if note.startswith(f"{name!r} of stream 'primary' is column")
        ]
        column = found[0].split("'")[-2] if found else name
        assert events[column].values.tolist() == [number, number]
    assert "x" not in notes and len(notes) == 5


def test_metadata_that_json_cannot_store_become_text_and_never_another_number(
    session: Session, http: Data
) -> None:
    md = {
        "nanoseconds": 1_700_000_000_000_000_001, "electrons": 1e20, "no limit": float("inf"),
        "phases": np.array([1j]), "story": "Δ" * 300_000, "many": {str(i): i for i in range(5000)},
    }  # fmt: skip
    uid = read_all(session, [Odd("x", [1.0, 2.0])], **md)
    start = http.catalog[uid].metadata["start"]
    assert start["nanoseconds"] == "1700000000000000001"
    assert (start["electrons"], start["no limit"], start["phases"]) == ("1e+20", "inf", ["1j"])
    assert (start["story"], start["many"]) == (md["story"], md["many"])
    configuration = http.catalog[uid]["primary"].metadata["configuration"]
    assert configuration["x"]["data"]["gain"] is None


def test_stream_names_of_any_language_work_and_one_that_is_not_an_address_is_replaced(
    session: Session, http: Data
) -> None:
    eels = session.devices["eels"]

    @bpp.run_decorator()
    def plan(stream: str) -> MsgGenerator[None]:
        yield from bps.trigger_and_read([eels], name=stream)

    for stream in ("光谱 Δ", "a;b&c=d", "~"):
        (uid,) = session.RE(plan(stream)).run_start_uids
        session.data.wait(uid)
        reference = session.storage.references[-1]
        np.testing.assert_array_equal(
            http.open(reference).read(), session.data.open(reference).read()
        )
        assert http.catalog[uid][stream]["eels"].shape == (1, 2048)
    for stream in ("a/b", "..", "50%", "what?"):
        (uid,) = session.RE(plan(stream)).run_start_uids
        session.data.wait(uid)
        run, name = http.catalog[uid], address_name(stream)
        assert f"the stream {stream!r} is {name!r} here" in run.metadata["notes"]
        reference = session.storage.references[-1]
        np.testing.assert_array_equal(
            http.open(reference).read(), session.data.open(reference).read()
        )


def test_a_run_ends_even_if_its_events_refer_to_data_without_a_document(
    session: Session, http: Data
) -> None:
    ghost = Odd("ghost", ["a", "b"], dtype="array", shape=[4, 4], external="FILESTORE:")
    uid = read_all(session, [ghost, Odd("x", [1.0, 2.0])])
    assert (
        "ghost of event 1 refers to 'a', for which no datum"
        in http.catalog[uid].metadata["notes"][0]
    )
    assert http.catalog[uid]["primary"].read()["x"].values.tolist() == [1.0, 2.0]


def test_more_signals_than_one_table_has_columns_are_all_stored(
    session: Session, http: Data
) -> None:
    uid = read_all(session, [Odd(f"motor{number}", [number, -number]) for number in range(550)])
    events = http.catalog[uid]["primary"].read()
    assert [float(events[f"motor{number}"][1]) for number in range(550)] == [*range(0, -550, -1)]
