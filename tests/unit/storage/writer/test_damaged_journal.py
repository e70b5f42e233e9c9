"""A run whose process died, and whose journal has a damaged document."""

import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from bluesky_em.acquisition.instrument_pc.exposure import Exposure
from bluesky_em.acquisition.instrument_pc.spool import Spool
from bluesky_em.files.codec import pack
from bluesky_em.files.layout import Layout
from bluesky_em.storage.writer import Writer, _frame_transfer
from tests.unit.storage.writer import test_frame_finder
from tests.unit.storage.writer.test_frame_finder import Run
from tests.unit.storage.writer.test_frame_transfer import LocalSpoolClient
from tests.unit.storage.writer.test_writer import IdleThread

PATIENCE = 60.0  # seconds


def pixels(number: int) -> np.ndarray:
    return np.full((1, 4), number + 1.0, "<f4")


def test_only_the_frame_of_a_damaged_event_is_not_stored_and_its_spool_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    header = test_frame_finder._header
    monkeypatch.setattr(
        test_frame_finder, "_header", lambda n: header(n) | {"checksum": zlib.crc32(pixels(n))}
    )
    monkeypatch.setattr("bluesky_em.storage.catalog._feeder.PeriodicThread", IdleThread)
    spool, layout = Spool(tmp_path / "spool"), Layout(tmp_path)
    monkeypatch.setattr(_frame_transfer, "SpoolClient", lambda _: LocalSpoolClient(spool))
    layout.journal.mkdir()
    run = Run(layout)
    references = [run.shot("eels")[0] for _ in range(10)]
    for number, reference in enumerate(references):
        spool.put(reference, Exposure(pixels(number), [], {}, 1.0, 2.0))
    records = [pack(name, document) for name, document in run.documents]
    third = [n for n, (name, _) in enumerate(run.documents) if name == "event"][2]
    data = bytearray(b"".join(records))
    data[sum(map(len, records[:third])) + len(records[third]) // 2] ^= 1
    layout.journal_of(run.uid).write_bytes(data)

    writer = Writer(tmp_path, lambda: None)
    deadline = time.monotonic() + PATIENCE
    while spool.references() != [references[2]]:
        writer._read_journals()
        writer._find_abandoned()
        assert time.monotonic() < deadline, spool.references()
        time.sleep(0.01)
    counts = {stage.value: count for stage, count in writer._ledger.counts().items()}
    assert counts == {"captured": 0, "stored": 9, "catalogued": 0, "failed": 1}
    assert writer._ledger.stages([references[2]])[references[2]][1] == (
        "in no event: the journal was damaged. It stays in its spool"
    )
    assert "What is whole behind it is read, too" in caplog.text
    assert not writer.trouble
    writer.close()
