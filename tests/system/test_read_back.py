"""Frames read from any place are the frames that were exposed."""

import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import httpx
import numpy as np
import pytest

from bluesky_em import Data, NotReady, UnknownReference
from bluesky_em.app.session import Session
from bluesky_em.files import journal_reader
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.plan_stubs import wait_for
from bluesky_em.reference import run_of

RECORDING = Path(__file__).parents[3] / "shared" / "data" / "EELS_STO.dm3"


def test_frames_read_over_http_have_the_checksum_taken_at_the_exposure(
    session: Session, http: Data
) -> None:
    plan = session.plans["spectrum"](session.devices["eels"], num=3, exposure=0.001)
    references = session.RE(plan).plan_result
    http.wait(references)
    documents = journal_reader.read(session.storage.layout.journal_of(run_of(references[0])))
    checksums = [d["datum_kwargs"]["checksum"] for name, d in documents if name == "datum"]
    assert [zlib.crc32(http.open(reference).read()) for reference in references] == checksums


@pytest.mark.skipif(
    not RECORDING.exists(),
    reason=f"{RECORDING} is absent: recordings are no part of the project; pyTEMlib has it",
)
def test_a_replayed_recording_reads_back_as_rosettasciio_reads_it(tmp_path: Path) -> None:
    from rsciio.digitalmicrograph import file_reader

    (recorded,) = file_reader(RECORDING)
    with Session(tmp_path, replay=RECORDING, latency=False, tiled="http://127.0.0.1:1") as session:
        reference = session.acquire_eels(exposure=0.001)
        session.data.wait(reference, until="stored")
        frame = session.data.open(reference)
        np.testing.assert_array_equal(frame.read(), recorded["data"])
        assert frame.read().dtype == recorded["data"].dtype
        (axis,), (expected,) = frame.axes, recorded["axes"]
        assert (axis.offset, axis.scale, axis.units) == (
            expected["offset"], expected["scale"], expected["units"],
        )  # fmt: skip


def test_an_image_comes_back_with_axes_in_metres(session: Session, http: Data) -> None:
    reference = session.acquire_haadf(size=128, dwell=1e-6)
    http.wait(reference)
    image = http.open(reference).to_xarray()
    assert image.dims == ("y", "x") and image.shape == (128, 128) and image.dtype == np.uint16
    assert image.x.attrs["units"] == "m"
    assert image.mean() > 0  # the beam was on, for the scan only
    assert session.RE(_read_blanked(session)).plan_result is True


def test_the_file_is_an_nxdata_that_any_program_opens_once_the_run_is_complete(
    session: Session,
) -> None:
    reference = session.acquire_eels(exposure=0.001)
    uid = run_of(reference)
    session.data.wait(uid)
    (path,) = session.storage.layout.data.glob(f"*/*/*/{uid}/eels.h5")
    with h5py.File(path) as file:  # without this package
        data = file[file.attrs["default"]][file["entry"].attrs["default"]]
        assert data.attrs["NX_class"] == "NXdata"
        np.testing.assert_array_equal(data["data"][0], session.data.open(reference).read())
        assert data["energy"].attrs["units"] == "eV"


def test_metadata_have_run_configuration_and_exposure(session: Session, http: Data) -> None:
    plan = session.plans["spectrum"](session.devices["eels"], exposure=0.002, md={"sample": "STO"})
    (reference,) = session.RE(plan).plan_result
    http.wait(reference)
    here, there = session.data.open(reference).metadata, http.open(reference).metadata
    assert here["start"]["sample"] == there["start"]["sample"] == "STO"
    for metadata in (here, there):
        assert metadata["configuration"]["eels"]["data"]["eels-exposure"] == 0.002
    assert here["frame"]["exposure"] == 0.002


def test_a_table_can_be_read_while_another_grows(session: Session, tiled: TiledAddress) -> None:
    def spectra(num: int) -> str:
        plan = session.plans["spectrum"](session.devices["eels"], num=num, exposure=0.01)
        uid = session.RE(plan).run_start_uids[0]
        session.data.wait(uid)
        return uid

    table = f"{tiled.uri}/api/v1/table/full/{spectra(1)}/primary/internal"
    grown = threading.Event()

    def read() -> set[int]:
        key = {"Authorization": f"Apikey {tiled.api_key}"}
        with httpx.Client(headers=key, timeout=60) as client:
            answers = set()
            while not grown.is_set():
                answers.add(client.get(table).status_code)
            return answers

    with ThreadPoolExecutor() as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            uid = spectra(40)
        finally:
            grown.set()
        assert [reader.result() for reader in readers] == [{200}] * 3
    events = session.data.catalog[uid]["primary"].base["internal"].read()
    assert list(events["seq_num"]) == list(range(1, 41))


def test_another_process_reads_with_the_tiled_address_only(
    session: Session, tiled: TiledAddress
) -> None:
    reference = session.acquire_eels(exposure=0.001)
    script = (
        "import sys; from bluesky_em import Data\n"
        f"data = Data({tiled.uri!r}, api_key={tiled.api_key!r})\n"
        f"data.wait({reference!r})\n"
        f"print(data.open({reference!r}).read().sum())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(float(session.data.open(reference).read().sum()))


def test_another_process_reads_with_the_storage_folder(session: Session) -> None:
    reference = session.acquire_eels(exposure=0.001)
    data = Data(storage=session.storage.layout.root)
    assert data.wait(reference, until="stored").stage in ("stored", "catalogued")
    assert data.open(reference).read().shape == (2048,)
    data.close()


async def test_waiting_can_be_awaited(session: Session) -> None:
    status = await session.data.wait_async(session.storage.references[-1])
    assert status.stage == "catalogued"


def test_a_plan_can_wait_for_its_references(session: Session) -> None:
    def plan():
        references = yield from session.plans["spectrum"](session.devices["eels"], exposure=0.001)
        yield from wait_for(references, session.data)
        return references

    (reference,) = session.RE(plan()).plan_result
    assert session.data.status(reference).stage == "catalogued"


def test_a_plan_that_waits_for_an_unknown_reference_fails(session: Session) -> None:
    with pytest.raises(UnknownReference, match=r"no run in .* handed out 'unknown\.eels/0'"):
        session.RE(wait_for("unknown.eels/0", session.data))


def test_waiting_for_any_of_several_references_ends_with_the_first(session: Session) -> None:
    known = session.storage.references[-1]
    session.data.wait(known)
    pending = session.acquire_eels(exposure=0.001)
    done = session.data.wait([known, pending], any=True)
    assert known in [status.reference for status in done]
    assert len(session.data.wait([known, pending], progress=True)) == 2


def test_a_reference_that_was_not_handed_out_is_unknown(session: Session, http: Data) -> None:
    run = run_of(session.storage.references[0])
    session.data.wait(run)
    for data in (session.data, http):
        with pytest.raises(UnknownReference, match=rf"eels/999' has no such frame: it has {run}"):
            data.status(f"{run}.eels/999")
    with pytest.raises(UnknownReference, match="storage.references"):
        session.data.wait("no-such-run.eels/0", timeout=0.1)
    with pytest.raises(UnknownReference, match="is not a reference: expected '<run uid>"):
        session.data.open("eels")


def test_the_beginning_of_a_runs_uid_is_enough(session: Session, http: Data) -> None:
    reference = session.acquire_eels(exposure=0.001)
    uid = run_of(reference)
    session.data.wait(uid)
    short = reference.replace(uid, uid[:10])
    for data in (session.data, http):
        assert data.wait(short).reference == data.status(short).reference == reference
        np.testing.assert_array_equal(data.open(short).read(), data.open(reference).read())
        assert data.wait(uid[:10]).reference == uid
        assert data.stream(uid[:10]).attrs["run"] == uid
        assert data.follow(uid[:10]).run == uid


def test_over_http_a_run_that_does_not_exist_yet_is_not_ready(http: Data) -> None:
    with pytest.raises(NotReady, match=r"not catalogued within 0.3 s.*not in Tiled \(yet\)"):
        http.wait("no-such-run.eels/0", timeout=0.3)


def _read_blanked(session: Session):
    import bluesky.plan_stubs as bps

    return (yield from bps.rd(session.devices["microscope"].beam_blanked))
