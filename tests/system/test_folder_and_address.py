"""A reader with the storage folder and one with the Tiled address have the same."""

import math
import random
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import h5py
import hypothesis
import numpy as np
import pytest
import xarray
from bluesky.preprocessors import set_run_key_wrapper as in_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from ophyd_async.core import TriggerInfo

from bluesky_em import Data, MapInfo
from bluesky_em.app.session import Session
from bluesky_em.data.export import FileFormat, select, write
from bluesky_em.files.ledger import Ledger
from bluesky_em.plan_stubs import fly, per_shot
from bluesky_em.reference import run_of
from bluesky_em.storage.upkeep.audit import audit_run
from tests.support import any_values
from tests.support.any_values import any_key

DTYPES = ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<f4", "<f8"]
WORD_DTYPES = ["<U3", "|S9"]
SHAPES: list[list[int]] = [[1], [3], [2, 2], [16], [17], [40], [3, 7]]
RAGGED_SHAPES: list[tuple[None, *tuple[int, ...]]] = [(None,), (None, 3)]
RAGGED_DTYPES = ["<i4", "<i8", "<f4", "<f8"]
NAMES = [
    "x", "X", "x_", "y", "time", "seq_num", "ts_x", "energy", "a-b", "a b", "a_1", "a", "_a", "Δ",
    "it's", 'q"q', "select", "n" * 70, "x,y", "x;y", "$x", "1", "(x)", "x=1", "internal_later_1",
    *any_values.NAMES,
]  # fmt: skip
STREAMS = ["primary", "baseline", "dark field", "Δ", "a/b", ".."]
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=3)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "number": st.floats(), "integer": st.integers(-(2**53), 2**53), "boolean": st.booleans(),
    "string": WORDS,
}  # fmt: skip
METADATA = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), WORDS),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.text("abΔ_ ", min_size=1), inner, max_size=2)
    ),
    max_leaves=4,
)
UNITS = st.sampled_from([{}, {"units": "nA"}, {"units": None}])


def _array(dtype: str, shape: list[int]) -> st.SearchStrategy[Any]:
    words = dtype in WORD_DTYPES
    numpy = "<U3" if words else dtype
    elements: dict[str, Any] = {"elements": WORDS.filter(lambda w: len(w.encode()) <= 9)}
    arrays = npst.arrays(numpy, tuple(shape), **(elements if words else {}))
    return arrays | arrays.map(np.ndarray.tolist)


@st.composite
def _keys(draw: st.DrawFn) -> tuple[dict[str, Any], st.SearchStrategy[Any]]:
    """A data key and its values; None is among those that a column or an array can hold."""
    if draw(st.booleans()):
        return draw(any_key())
    common = {"source": "s", **draw(UNITS)}
    kind = draw(st.sampled_from([*SCALARS, "array", "array", "words", "ragged"]))
    if kind in SCALARS:
        return {**common, "dtype": kind, "shape": []}, st.none() | SCALARS[kind]
    if kind == "ragged":
        shape, dtype = draw(st.sampled_from(RAGGED_SHAPES)), draw(st.sampled_from(RAGGED_DTYPES))
        values = st.integers(0, 3).flatmap(lambda n: npst.arrays(dtype, (n, *shape[1:])))
    else:
        shape = draw(st.sampled_from(SHAPES))
        dtype = draw(st.sampled_from(DTYPES if kind == "array" else WORD_DTYPES))
        values = st.none() | _array(dtype, shape)
    return {**common, "dtype": "array", "shape": [*shape], "dtype_numpy": dtype}, values


@st.composite
def _streams(draw: st.DrawFn, name: str, run: str) -> list[tuple[str, Any]]:
    """The documents of one stream: some descriptors, and events of any of them."""
    keys = draw(st.dictionaries(st.sampled_from(NAMES), _keys(), min_size=1, max_size=5))
    documents: list[tuple[str, Any]] = []
    for number in range(draw(st.integers(1, 3))):
        mine = sorted(draw(st.sets(st.sampled_from(sorted(keys)), min_size=1)))
        uid = str(uuid.uuid4())
        lamp = {"data": {"lamp-power": number}, "timestamps": {"lamp-power": 1.5}}
        lamp["data_keys"] = {"lamp-power": {"source": "s", "dtype": "number", "shape": []}}
        documents.append((
            "descriptor",
            {
                "uid": uid, "name": name, "run_start": run, "time": 1.0, "hints": {},
                "data_keys": {key: keys[key][0] for key in mine}, "configuration": {"lamp": lamp},
                "object_keys": {"device": mine},
            },
        ))  # fmt: skip
        for _ in range(draw(st.integers(0, 2))):
            data = {key: draw(keys[key][1]) for key in mine}
            seq_num = sum(kind == "event" for kind, _ in documents) + 1
            documents.append((
                "event",
                {
                    "uid": str(uuid.uuid4()), "descriptor": uid, "seq_num": seq_num,
                    "time": 100.0 + seq_num, "data": data, "filled": {},
                    "timestamps": dict.fromkeys(data, 99.5),
                },
            ))  # fmt: skip
    return documents


@st.composite
def runs(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """The documents of one run."""
    uid = str(uuid.uuid4())
    metadata = draw(st.dictionaries(st.sampled_from(["note", "place", "n"]), METADATA))
    documents = [("start", {"uid": uid, "time": 86400.0, **metadata})]
    for name in draw(st.lists(st.sampled_from(STREAMS), min_size=1, max_size=2, unique=True)):
        documents += draw(_streams(name, uid))
    stop = {"uid": str(uuid.uuid4()), "run_start": uid, "time": 86401.0, "exit_status": "success"}
    return [*documents, ("stop", stop)]


def assert_same(one: Any, other: Any) -> None:
    """Check two values of events, or of metadata, for equality; NaN equals NaN."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, np.ndarray):
        assert (one.dtype.kind, one.shape) == (other.dtype.kind, other.shape)
        np.testing.assert_array_equal(one, other)
    else:
        both_nan = isinstance(one, float) and math.isnan(one) and math.isnan(other)
        assert both_nan or (one == other and type(one) is type(other)), (one, other)


def assert_same_stream(folder: xarray.Dataset, address: xarray.Dataset) -> None:
    xarray.testing.assert_identical(folder, address)
    for name in folder.variables:
        assert folder[name].dtype == address[name].dtype, name


def followed(data: Data, uid: str) -> list[dict[str, Any]]:
    points = [
        {
            "stream": point.stream, "index": point.index, "seq_num": point.seq_num,
            "time": point.time, "data": dict(point.data), "references": dict(point.references),
            "failed": dict(point.failed),
        }
        for point in data.follow(uid, streams=None, patience=60)
    ]  # fmt: skip
    return sorted(points, key=lambda point: (point["stream"], point["index"]))


def assert_read_the_same(session: Session, http: Data, documents: list[tuple[str, Any]]) -> None:
    """Store a run, and compare what the storage folder and the address give of it."""
    (_, start), *_ = documents
    for name, document in documents:
        session.storage(name, document)
    session.data.wait(start["uid"], timeout=60)
    for stream in {d["name"] for name, d in documents if name == "descriptor"}:
        assert_same_stream(
            session.data.stream(start["uid"], stream), http.stream(start["uid"], stream)
        )
    with closing(Ledger(session.storage.layout.ledger)) as ledger:
        findings = audit_run(session.storage.layout, ledger, start["uid"], session.data.catalog)
        assert [str(finding) for finding in findings] == []
    folder, address = followed(session.data, start["uid"]), followed(http, start["uid"])
    assert len(folder) == len(address) == sum(name == "event" for name, _ in documents)
    for one, other in zip(folder, address, strict=True):
        assert_same(one, other)


@pytest.mark.timeout(4 * 3600)  # with --long
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # retries in other threads do
def test_any_run_reads_the_same_by_folder_and_by_address(
    session: Session, http: Data, long: bool
) -> None:
    """The seed and, after a failure, the example are printed."""
    number = random.randrange(2**32)
    print(f"seed {number}")

    @hypothesis.seed(number)
    @settings(
        max_examples=2000 if long else 25, derandomize=False, print_blob=True, deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(runs())
    def same(documents: list[tuple[str, Any]]) -> None:
        assert_read_the_same(session, http, documents)

    same()


@pytest.mark.parametrize("value", [np.full(4, np.nan, "<f4"), np.array([[np.nan, np.inf], [0, 1]])])
def test_nan_and_infinity_in_a_small_array_are_the_same_by_address(
    session: Session, http: Data, value: np.ndarray
) -> None:
    run, descriptor = str(uuid.uuid4()), str(uuid.uuid4())
    key = {"source": "s", "dtype": "array", "shape": [*value.shape], "dtype_numpy": value.dtype.str}
    documents: list[tuple[str, Any]] = [
        ("start", {"uid": run, "time": 86400.0}),
        ("descriptor", {
            "uid": descriptor, "name": "primary", "run_start": run, "time": 1.0, "hints": {},
            "data_keys": {"k": key}, "configuration": {}, "object_keys": {"device": ["k"]},
        }),
        ("event", {
            "uid": str(uuid.uuid4()), "descriptor": descriptor, "seq_num": 1, "time": 101.0,
            "data": {"k": value}, "timestamps": {"k": 99.5}, "filled": {},
        }),
        ("stop", {
            "uid": str(uuid.uuid4()), "run_start": run, "time": 86401.0, "exit_status": "success"
        }),
    ]  # fmt: skip
    assert_read_the_same(session, http, documents)
    np.testing.assert_array_equal(http.stream(run)["k"][0], value)


def assert_same_frames(session: Session, http: Data, references: list[str]) -> None:
    """Check status, metadata, axes and pixels of frames; only the folder knows a frame's `time`."""
    for reference in references:
        assert http.wait(reference) == session.data.wait(reference)
        assert http.status(reference) == session.data.status(reference)
        folder, address = session.data.open(reference), http.open(reference)
        assert folder.axes == address.axes
        np.testing.assert_array_equal(folder.read(), address.read())
        facts = {key: value for key, value in folder.metadata["frame"].items() if key != "time"}
        assert address.metadata["frame"] == facts
        assert address.metadata["configuration"] == folder.metadata["configuration"]
        assert address.metadata["start"] == folder.metadata["start"]


def test_a_frame_has_the_exposure_that_was_set_when_it_was_taken(
    session: Session, http: Data, tmp_path: Path
) -> None:
    eels, references = session.devices["eels"], []
    exposures, offsets = (0.01, 0.02, 0.05), (0.0, 100.0, 400.0)

    @bpp.stage_decorator([eels])
    @bpp.run_decorator()
    def plan():
        for exposure, offset in zip(exposures, offsets, strict=True):
            yield from bps.mv(eels.exposure, exposure, eels.energy_offset, offset)
            references.extend((yield from per_shot([eels])))

    (uid,) = session.RE(plan()).run_start_uids
    session.data.wait(uid)
    session.RE(bps.mv(eels.energy_offset, 0.0))
    assert_same_frames(session, http, references)
    for reference, exposure, offset in zip(references, exposures, offsets, strict=True):
        metadata = http.open(reference).metadata
        settings_then = metadata["configuration"]["eels"]["data"]
        assert metadata["frame"]["exposure"] == settings_then["eels-exposure"] == exposure
        assert settings_then["eels-energy_offset"] == metadata["frame"]["energy_offset"] == offset
    assert_same_stream(session.data.stream(uid), http.stream(uid))
    assert "exposure" not in http.stream(uid).eels.attrs
    for data in (session.data, http):
        whole, one = select(data, uid), select(data, uid, rows=range(1, 2))
        assert "energy" not in whole.array.coords
        with pytest.raises(ValueError, match=r"have different axes.*from row 1 on energy .*--rows"):
            write(whole, tmp_path / "all.hspy", FileFormat.HSPY)
        write(one, tmp_path / "one.csv", FileFormat.CSV)
        energies = np.loadtxt(tmp_path / "one.csv", delimiter=",", skiprows=1)[:, 0]
        np.testing.assert_allclose(energies, session.data.open(references[1]).axes[0].values)
        (tmp_path / "one.csv").unlink()


@pytest.mark.parametrize(
    "info",
    [TriggerInfo(number_of_events=3, livetime=0.004), MapInfo(shape=(2, 3), livetime=0.003)],
    ids=["series", "map"],
)
def test_a_fly_scan_has_its_own_exposure_not_that_of_the_settings(
    session: Session, http: Data, info: Any, tmp_path: Path
) -> None:
    eels = session.devices["eels"]
    session.RE(bps.mv(eels.exposure, 0.002))

    @bpp.stage_decorator([eels])
    @bpp.run_decorator()
    def plan():
        yield from fly([eels], info)

    (uid,) = session.RE(plan()).run_start_uids
    session.data.wait(uid)
    assert_same_frames(session, http, [f"{uid}.eels/{number}" for number in (0, 2)])
    metadata = http.open(f"{uid}.eels/0").metadata
    assert metadata["frame"]["exposure"] == info.livetime
    settings_then = metadata["configuration"].get("eels", {}).get("data", {})
    assert settings_then.get("eels-exposure") in (None, info.livetime)
    assert_same_stream(session.data.stream(uid), http.stream(uid))
    assert http.stream(uid).eels.attrs["exposure"] == info.livetime
    for data, name in ((session.data, "folder.nxs"), (http, "address.nxs")):
        write(select(data, uid), tmp_path / name, FileFormat.NXS)
    assert _content(tmp_path / "folder.nxs") == _content(tmp_path / "address.nxs")


def test_frames_of_runs_that_are_open_at_once_are_found_by_address(
    session: Session, http: Data
) -> None:
    eels, haadf = session.devices["eels"], session.devices["haadf"]
    references: list[str] = []

    def plan():
        yield from in_run(bps.open_run({}), "a")
        yield from in_run(bps.open_run({}), "b")
        for _ in range(2):
            references.extend((yield from in_run(per_shot([eels]), "a")))
            references.extend((yield from in_run(per_shot([haadf]), "b")))
        yield from in_run(bps.close_run(), "b")
        yield from in_run(bps.close_run(), "a")

    uids = session.RE(plan()).run_start_uids
    assert all(run_of(reference) not in uids for reference in references)
    for uid in uids:
        session.data.wait(uid)
    assert_same_frames(session, http, references)


def _content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, node: (
                found.update({name: np.asarray(node[()]).tolist()})
                if isinstance(node, h5py.Dataset)
                else None
            )
        )
    return found
