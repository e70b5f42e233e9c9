"""A storage disk that becomes full during a run: a real file system, really filled."""

import contextlib
import errno
import logging
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from bluesky import plans as bp
from ophyd_async.core import init_devices

from bluesky_em import Storage, gatan
from bluesky_em.acquisition.client import close_all
from bluesky_em.app.session import run_engine
from bluesky_em.app.simulated_pcs import SimulatedPCs
from bluesky_em.files import journal_reader
from bluesky_em.files.ledger import Ledger
from bluesky_em.storage.upkeep.audit import audit_run

MEGABYTE = 1 << 20
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 MB."""
    image, mount = tmp_path / "disk.img", tmp_path / "disk"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(128 * MEGABYTE)
    try:
        subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"this machine cannot mount a loopback file system: {exc}")
    yield mount
    subprocess.run(["umount", "--lazy", mount], check=True)  # a writer may still be ending


def fill(disk: Path) -> Path:
    """Fill the disk to the last byte with a file that is not ours."""
    junk = disk / "junk"
    with junk.open("ab", buffering=0) as file:
        for size in (MEGABYTE, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as exc:
                assert exc.errno == errno.ENOSPC
    assert shutil.disk_usage(disk).free < 4096
    return junk


class Relief(logging.Handler):
    """Frees the disk 1 s after a detector has logged that it waits for space."""

    def __init__(self, disk: Path):
        super().__init__()
        self.words = ""
        self._disk = disk

    def emit(self, record: logging.LogRecord) -> None:
        if " waits: " in record.getMessage() and not self.words:
            self.words = record.getMessage()
            threading.Timer(1.0, (self._disk / "junk").unlink).start()


@contextlib.contextmanager
def spectra_into(
    disk: Path, spools: Path, tiled: str | None
) -> Iterator[tuple[Storage, Callable[..., tuple[str, str]]]]:
    """A storage folder on that disk, spools of 2 MB elsewhere, and a plan that takes spectra.

    The disk is filled at certain events, and freed when a detector logs that it waits.
    """
    relief = Relief(disk)
    logging.getLogger("bluesky_em.detector").addHandler(relief)
    pcs = SimulatedPCs(spools, latency=False, spool_limit=0.002)
    with run_engine() as engine, Storage(disk / "storage", tiled=tiled) as storage, pcs:
        if tiled is None:
            assert storage.data.catalog is not None  # waits until all of it has started
        engine.subscribe(storage)
        with init_devices():
            eels = gatan.Spectrometer(pcs.uris["gatan"], path_provider=storage.path_provider)

        def take(num: int, fill_at: Sequence[int]) -> tuple[str, str]:
            def fill_at_event(name: str, document: dict[str, Any]) -> None:
                if name == "event" and document["seq_num"] in fill_at and not relief.words:
                    fill(disk)

            done = engine(bp.count([eels], num=num), fill_at_event)
            return done.run_start_uids[0], relief.words  # type: ignore

        yield storage, take
    close_all()
    logging.getLogger("bluesky_em.detector").removeHandler(relief)


@pytest.mark.timeout(240)
def test_with_the_disk_full_spectra_go_into_the_spool_then_wait_and_nothing_is_lost(
    small_disk: Path, tmp_path: Path
) -> None:
    with spectra_into(small_disk, tmp_path, None) as (storage, take):
        uid, words = take(400, fill_at=(10,))
        assert "eels waits: the spool" in words and "2.0 MB of 2.0 MB" in words
        storage.data.wait(uid, timeout=120)
        ledger = Ledger(storage.layout.ledger)
        assert not list(audit_run(storage.layout, ledger, uid, storage.data.catalog))
        ledger.close()
        assert storage.data.catalog[uid]["primary/eels"].shape == (400, 2048)
        storage.close(wait=True)


def test_when_even_the_journals_reserve_is_taken_detectors_wait_and_no_document_is_lost(
    small_disk: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with spectra_into(small_disk, tmp_path, NOWHERE) as (storage, take):
        uid, words = take(100, fill_at=(10, *range(30, 100)))
        assert "cannot be written (No space left on device)" in words
        assert "documents wait for it in memory" in words
        references = [f"{uid}.eels/{number}" for number in range(100)]
        statuses = storage.data.wait(references, until="stored", timeout=60)
        assert len(statuses) == 100
        names = [name for name, _ in journal_reader.read(storage.layout.journal_of(uid))]
        assert names.count("event") == names.count("datum") == 100 and names[-1] == "stop"
    assert "documents now go into the last 16 MB" in caplog.text
    assert "can be written again, nothing is lost" in caplog.text
