"""The callback, given documents in any order: keeps each once, in its run or beside a run."""

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from event_model import pack_datum_page, pack_event_page
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_em import Reference, Storage
from bluesky_em.detector._documents import data_key, datum, resource
from bluesky_em.documents import STRAY, datums, is_ours
from bluesky_em.errors import DuplicateReference
from bluesky_em.files.codec import pack
from bluesky_em.files.journal import Journal, is_abandoned
from bluesky_em.files.journal_reader import read
from bluesky_em.files.layout import Layout, plain
from bluesky_em.storage import callback
from bluesky_em.storage.writer._frame_finder import FrameFinder

SERVER = "PYRO:eels_server@gatan-pc:9091"
AXIS = {"name": "energy", "units": "eV", "offset": 0.0, "scale": 1.0, "size": 4}
HEADER: dict[str, Any] = {
    "shape": [4], "dtype": "<f4", "checksum": 7, "axes": [AXIS], "metadata": {}, "started": 1.0,
    "ended": 2.0,
}  # fmt: skip
LINKS = {"start": "uid", "event": "descriptor", "event_page": "descriptor", "datum": "resource",
         "datum_page": "resource"}  # fmt: skip
NAMES = st.sampled_from([*"start stop event datum bulk_events event_model".split(), "", "Start"])
GARBAGE = st.sampled_from(
    [None, 3, True, ["x"], {}, {"x": 1}, object(), 2**70, "\ud800", float("nan")]
)
ACCIDENTS = "lose double move strip spoil poison rename replace disk".split()
FULL = "no space left on the disk"

Document = tuple[str, Any]


@st.composite
def a_run(draw: st.DrawFn, run: str) -> list[Document]:
    """A run of our detector and perhaps a classic one; each uid begins with its run's uid."""
    key = data_key("eels", SERVER, [4], "<f4", ["energy"])
    found = {"eels": SERVER, **({"ccd": None} if draw(st.booleans()) else {})}
    documents: list[Document] = [("start", {"uid": run, "time": 0.0, "md": "Δ"})]
    for name, server in found.items():
        ours = resource(f"{run}:{name}", "/", "x.h5", SERVER, name, HEADER)
        spec = {} if server else {"spec": "AD_TIFF", "resource_kwargs": {"path": "x"}}
        documents.append(("resource", {**ours, **spec, "run_start": run}))
    for stream in draw(st.sampled_from([["primary"], ["primary", "dark"], ["primary", "dark 2"]])):
        documents.append((
            "descriptor",
            {"uid": f"{run}:{stream}", "run_start": run, "time": 1.0, "name": stream,
             "data_keys": dict.fromkeys(found, key)},
        ))  # fmt: skip
        for number in range(draw(st.integers(0, 3))):
            pages = draw(st.booleans())
            data = {}
            for name in found:
                reference = Reference(run=run, detector=f"{stream}-{name}", number=number)
                each = {**datum(reference, HEADER), "resource": f"{run}:{name}"}
                if name == "ccd":
                    each["datum_id"] = f"{run}:ccd/{stream}/{number}"
                data[name] = each["datum_id"]
                documents.append(
                    ("datum_page", pack_datum_page(each)) if pages else ("datum", each)
                )
            event: Any = {
                "uid": f"{run}:{stream}:{number}", "descriptor": f"{run}:{stream}", "time": 2.0,
                "seq_num": number + 1, "data": data, "timestamps": dict.fromkeys(data, 2.0),
                "filled": dict.fromkeys(data, False),
            }  # fmt: skip
            documents.append(("event_page", pack_event_page(event)) if pages else ("event", event))
    stop = {"uid": f"{run}:stop", "run_start": run, "time": 3.0, "exit_status": "success"}
    return [*documents, ("stop", stop)] if draw(st.booleans()) else documents


@st.composite
def interleaved(draw: st.DrawFn) -> list[Document]:
    """The documents of some runs, those of each in order."""
    runs = [draw(a_run(f"run-{letter}")) for letter in "abc"[: draw(st.integers(1, 3))]]
    together: list[Document] = []
    while any(runs):
        chosen = draw(st.sampled_from([run for run in runs if run]))
        many = draw(st.integers(1, 4))
        together += chosen[:many]
        del chosen[:many]
    return together


@st.composite
def with_accidents(draw: st.DrawFn) -> tuple[list[Document], set[str]]:
    """Interleaved runs with some damaged documents, and the runs without damage."""
    documents = draw(interleaved())
    unhurt = {run_of(*document) for document in documents}
    for nth in range(draw(st.integers(1, 4))):
        if not documents:
            break
        where, to = (draw(st.integers(0, len(documents) - 1)) for _ in range(2))
        name, document = documents[where]
        unhurt.discard(run_of(name, document))
        garbage = draw(GARBAGE | st.just(f"garbage {nth}"))
        fields = [*document] if isinstance(document, Mapping) else []
        field = draw(st.sampled_from(fields or [""]))
        match draw(st.sampled_from(ACCIDENTS)):
            case "lose":
                del documents[where]
            case "double":
                documents.insert(to, documents[where])
            case "move":
                documents.insert(to, documents.pop(where))
            case "rename":
                documents[where] = draw(NAMES), document
            case "strip" if fields:
                documents[where] = name, {f: v for f, v in document.items() if f != field}
            case "spoil" if fields:
                documents[where] = name, {**document, field: garbage}
            case "poison" if fields:
                documents[where] = name, {**document, "extra": garbage}
            case "disk" if fields:
                documents[where] = name, {**document, "extra": FULL}
            case _:
                documents[where] = name, garbage
    return documents, unhurt


def run_of(name: str, document: Any) -> str:
    """The run that a document names; empty if the document is damaged."""
    link = document.get(LINKS.get(name, "run_start"), "") if isinstance(document, Mapping) else ""
    if not isinstance(link, str):
        return ""
    return link if name == "start" else link.partition(":")[0]


def is_adopted(file: str, name: str, document: Any) -> bool:
    """Check whether a journal has a document only because it came too late for its own run.

    The same is true of a classic detector that was staged for several runs: the documents do not
    show the difference.
    """
    if name not in ("resource", "datum", "datum_page"):
        return False
    home = document.get("resource", document.get("uid"))
    return home.startswith("run-") and plain(home.partition(":")[0]) != file


class Idle:
    """Takes the place of a Storage's supervisor; starts no processes."""

    def __init__(self, *_: Any, **__: Any):
        pass

    def close(self, **_: Any) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def _no_processes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callback, "Supervisor", Idle)
        patch.setattr("bluesky_em.storage.open_journals.Journal", FullDisk)
        patch.setattr("bluesky_em.storage.open_journals.DiskReserve.restore", lambda _: None)
        yield


class FullDisk(Journal):
    """A journal whose disk has no space for some documents."""

    def append(self, name: str, document: Any) -> None:
        if document.get("extra") == FULL:
            raise OSError(28, FULL)
        super().append(name, document)


class Warnings(logging.Handler):
    """Counts the documents that Storage warns it cannot assign to a run."""

    strays = 0

    def emit(self, record: logging.LogRecord) -> None:
        if "each is kept as" not in record.getMessage():
            assert "cannot belong to a run, and is " in record.getMessage()
            self.strays += 1


@contextmanager
def emptied() -> Iterator[tuple[Path, Warnings]]:
    """A folder, and the warnings of Storage while it is in use."""
    warnings = Warnings()
    callback.logger.addHandler(warnings)
    callback.logger.propagate = False
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder), warnings
    finally:
        callback.logger.propagate = True
        callback.logger.removeHandler(warnings)


def is_stray(record: Any) -> bool:
    return record[0] == STRAY


def feed(documents: list[Document]) -> tuple[list[Document], dict[str, list[Document]], list[Any]]:
    """Pass documents to a Storage; return those it kept, the journals and all frames in them."""
    taken = []
    with emptied() as (folder, warnings):
        with Storage(folder, tiled="http://127.0.0.1:1") as kept:
            for name, document in documents:
                before = warnings.strays
                try:
                    kept(name, document)
                except OSError as exc:
                    assert FULL in str(exc) or "has begun already" in str(exc)
                except DuplicateReference:
                    assert name in ("datum", "datum_page")  # it came a second time
                else:
                    taken += [(name, document)] * (before == warnings.strays)
        journals = {path.stem: read(path) for path in folder.glob("journal/*.msgpack")}
        strays = [record for journal in journals.values() for record in journal if is_stray(record)]
        assert len(strays) <= warnings.strays
        journals = {
            file: [record for record in journal if not is_stray(record)]
            for file, journal in journals.items()
        }
        assert all(is_abandoned(path) for path in folder.glob("journal/*.msgpack"))
        frames = []
        for journal in journals.values():
            find = FrameFinder(Layout(folder))
            frames.append(([f for name, doc in journal for f in find(name, doc)], find.unread()))
    return taken, journals, frames


def packed(documents: list[Any]) -> list[bytes]:
    return [pack(name, document) for name, document in documents]


@given(interleaved())
def test_runs_that_overlap_are_kept_apart_whole_and_in_order(documents: list[Document]):
    taken, journals, _ = feed(documents)
    assert taken == documents
    for run, journal in journals.items():
        assert packed(journal) == packed([d for d in documents if run_of(*d) == run])


@given(with_accidents())
@settings(max_examples=300)
def test_each_document_is_kept_once_in_its_run_or_beside_a_run_in_any_order(
    documents_and_unhurt: tuple[list[Document], set[str]],
):
    documents, unhurt = documents_and_unhurt
    taken, journals, found = feed(documents)
    own = {
        file: packed([record for record in journal if not is_adopted(file, *record)])
        for file, journal in journals.items()
    }
    adopted = [
        record
        for file, journal in journals.items()
        for record in journal
        if record[0] != "resource" and is_adopted(file, *record)
    ]
    assert Counter([*chain(*own.values()), *packed(adopted)]) == Counter(packed(taken))
    for file, records in own.items():
        in_order = iter(packed([each for each in taken if plain(run_of(*each)) == file]))
        assert all(record in in_order for record in records)
    for run in unhurt:
        assert own[run] == packed([each for each in documents if run_of(*each) == run])
    for journal, (frames, unread) in zip(journals.values(), found, strict=True):
        ours = {doc["uid"] for name, doc in journal if name == "resource" and is_ours(doc)}
        handed_out = {
            each["datum_id"]
            for n, d in journal
            for each in datums(n, d)
            if each["resource"] in ours
        }
        assert sorted(f.reference for f in [*frames, *unread]) == sorted(handed_out)


@given(a_run("run-a"))
def test_a_stop_with_a_value_of_any_kind_ends_its_run_and_the_next_one_begins(
    documents: list[Document],
):
    stop = {"uid": "x", "run_start": "run-a", "time": 3.0, "exit_status": "fail", "why": 1j}
    with emptied() as (folder, _), Storage(folder, tiled="http://127.0.0.1:1") as kept:
        for name, document in documents:
            if name != "stop":
                kept(name, document)
        kept("stop", stop)
        assert kept.path_provider.run is None
        kept("start", {"uid": "run-b", "time": 4.0})
        assert kept.path_provider.run == "run-b"
        *before, last = read(kept.layout.journal_of("run-a"))
        assert last == ["stop", {**stop, "why": [0.0, 1.0]}]
        assert packed(before) == packed([each for each in documents if each[0] != "stop"])


@given(interleaved())
def test_a_storage_subscribed_twice_says_so_at_the_first_document(documents: list[Document]):
    with emptied() as (folder, _), Storage(folder, tiled="http://127.0.0.1:1") as kept:
        for name, document in documents:
            if name == "start":
                kept(name, document)
                with pytest.raises(FileExistsError, match="has begun already.*subscribed twice"):
                    kept(name, document)
        assert kept.path_provider.open_runs == {d["uid"] for n, d in documents if n == "start"}


@given(st.permutations(["run-a", "run-b"]), st.permutations(["run-a", "run-b"]))
def test_a_classic_detector_in_two_open_runs_is_kept_in_the_one_that_named_it_last(
    told: list[str], stopped: list[str]
):
    camera = {**resource("staged once", "/", "x", SERVER, "ccd", HEADER), "spec": "AD_TIFF"}
    picture = {"datum_id": "staged once/0", "resource": "staged once", "datum_kwargs": {}}
    stop = {"time": 3.0, "exit_status": "success"}
    documents: list[Document] = [
        *(("start", {"uid": run, "time": 0.0}) for run in ("run-a", "run-b")),
        *(("resource", {**camera, "run_start": run}) for run in told),
        ("datum", picture),
        *(("stop", {**stop, "uid": run, "run_start": run}) for run in stopped),
    ]
    taken, journals, _ = feed(documents)
    assert taken == documents
    assert [name for name, _ in journals[told[0]]] == ["start", "resource", "stop"]
    assert [name for name, _ in journals[told[1]]] == ["start", "resource", "datum", "stop"]


def test_an_event_without_its_datum_is_kept_beside_the_run_since_it_could_never_be_resolved():
    start = {"uid": "run-a", "time": 0.0}
    key = data_key("eels", SERVER, [4], "<f4", ["energy"])
    descriptor = {"uid": "d", "run_start": "run-a", "time": 1.0, "name": "primary"}
    event = {"uid": "e", "descriptor": "d", "time": 2.0, "seq_num": 1, "timestamps": {"eels": 2.0}}
    lost = {**event, "data": {"eels": "run-a.eels/0"}}
    whole = {**event, "data": {"eels": "another-run.eels/0", "title": "run-a"}}
    with emptied() as (folder, told), Storage(folder, tiled="http://127.0.0.1:1") as kept:
        kept("start", start)
        kept("descriptor", {**descriptor, "data_keys": {"eels": key}})
        kept("event", lost)
        kept("event", whole)
        *_, stray, last = read(kept.layout.journal_of("run-a"))
    assert told.strays == 1
    assert last == ["event", whole]
    assert stray[0] == STRAY and (stray[1]["name"], stray[1]["document"]) == ("event", lost)
    assert "'run-a.eels/0', but the datum" in stray[1]["why"]
    assert "read the detector itself" in stray[1]["why"]


def test_a_document_that_comes_before_any_run_is_logged_and_stops_no_plan(
    caplog: pytest.LogCaptureFixture,
):
    event = {"uid": "e", "descriptor": "d", "time": 2.0, "seq_num": 1, "data": {}, "timestamps": {}}
    with tempfile.TemporaryDirectory() as folder:
        with Storage(folder, tiled="http://127.0.0.1:1") as kept:
            kept("event", event)
    assert "event document cannot belong to a run, and is not kept, since no run" in caplog.text
    assert "Subscribe Storage before the run begins" in caplog.text


def test_each_kind_of_value_is_logged_once(caplog: pytest.LogCaptureFixture):
    with tempfile.TemporaryDirectory() as folder:
        with Storage(folder, tiled="http://127.0.0.1:1") as kept:
            for number in range(3):
                kept("start", {"uid": f"run-{number}", "time": 0.0, "began": date(2026, 1, 1)})
    told = [record.getMessage() for record in caplog.records if "hold values" in record.message]
    assert told == ["documents hold values of type date; each is kept as ISO text"]
