"""Storage folders of awkward names: what is called catalogued can be read through Tiled."""

import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ophyd_async.core import init_devices
from tiled import alembic_utils
from tiled.catalog.alembic_constants import ALEMBIC_DIR, ALEMBIC_INI_TEMPLATE_PATH
from tiled.catalog.core import ALL_REVISIONS
from tiled.client import from_uri

from bluesky_em import Storage
from bluesky_em.app.session import Session
from bluesky_em.files.hdf5 import FramesReader
from bluesky_em.files.layout import Layout
from bluesky_em.files.ledger import Ledger
from bluesky_em.files.ledger_writer import LedgerWriter
from bluesky_em.files.tiled.address import TiledAddress
from bluesky_em.gatan import Spectrometer
from bluesky_em.reference import ReferenceState, run_of
from bluesky_em.storage.catalog import RunEnding
from bluesky_em.storage.catalog._run_feed import RunFeed
from bluesky_em.storage.upkeep.audit import audit_run

PATIENCE = 60.0  # seconds
AWKWARD = 'my data 50%20 it\'s "x" Ünï 光谱 ;&x=1'
NAMES = [
    "my data", "50%", "50%20 off", "it's", '"quoted"', "Ünï", "光谱", "a;b&c=1", "x" * 200, "dot.",
    "space ", "a/../dots", "link/inside", "+,!$^`|<>*[1]{a}", AWKWARD,
]  # fmt: skip


@pytest.fixture(scope="module")
def uid(session: Session) -> str:
    """A complete run of the session."""
    uid = run_of(session.acquire_eels(exposure=0.001))
    session.data.wait(uid, timeout=PATIENCE)
    return uid


@pytest.fixture(scope="module")
def client(tiled: TiledAddress) -> Iterator[Any]:
    client: Any = from_uri(tiled.uri, api_key=tiled.writer_key).include_data_sources()
    with closing(client.context):
        yield client


def copy_run(session: Session, uid: str, layout: Layout) -> LedgerWriter:
    """Put a stored run of the session into another storage folder; return the ledger there."""
    own = session.storage.layout
    path = layout.journal_of(uid)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(own.journal_of(uid), path)
    with closing(Ledger(own.ledger)) as ledger:
        frames = [entry.frame for entry in ledger.frames(uid)]
    for frame in frames:
        (layout.root / frame.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(own.root / frame.path, layout.root / frame.path)
    ledger = LedgerWriter(layout.ledger)
    ledger.add_run(uid)
    ledger.add_frames(frames)
    ledger.mark_stored(frames)
    return ledger


def feed(client: Any, uid: str, layout: Layout, ledger: LedgerWriter) -> None:
    """Write a run into a container of Tiled, as the writer does."""
    ending = RunEnding(files_closed=True, abandoned=False)
    feed = RunFeed(layout.journal_of(uid), client, ledger, layout, ending)
    deadline = time.monotonic() + PATIENCE
    with closing(feed):
        while not feed.step():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("name", NAMES)
def test_verify_and_tiled_agree_in_a_folder_of_this_name(
    session: Session, client: Any, uid: str, name: str
) -> None:
    top = session.storage.layout.data / "names"
    (top / "inside").mkdir(parents=True, exist_ok=True)
    if not (top / "link").is_symlink():
        (top / "link").symlink_to(".")
        (top / "a").mkdir()
    layout = Layout.of(top / name)
    there = client.create_container(f"names-{NAMES.index(name)}")
    with closing(copy_run(session, uid, layout)) as ledger:
        feed(there, uid, layout, ledger)
        assert list(audit_run(layout, ledger, uid, there)) == []
        (entry,) = ledger.frames(uid)
    assert entry.stage is ReferenceState.CATALOGUED
    with FramesReader(layout.root / entry.frame.path) as reader:
        assert np.array_equal(there[uid]["primary"].base["eels"][0], reader.read(0))


@pytest.mark.parametrize("character", "#?")
def test_a_name_that_no_uri_can_carry_is_refused_when_storage_is_made(
    tmp_path: Path, character: str
) -> None:
    with pytest.raises(ValueError, match="Rename that folder, or give another one"):
        Storage(tmp_path / f"a{character}b")


def test_a_run_whose_frames_tiled_cannot_read_stays_stored_and_says_where_they_are(
    session: Session, client: Any, uid: str, tmp_path: Path
) -> None:
    layout = Layout.of(tmp_path)  # which that server may not read
    there = client.create_container("names-unreadable")
    with closing(copy_run(session, uid, layout)) as ledger:
        with pytest.raises(RuntimeError, match="Tiled cannot read back .*HTTP 500") as caught:
            feed(there, uid, layout, ledger)
        (entry,) = ledger.frames(uid)
        assert not ledger.is_complete(uid)
    assert f"the data are safe in {layout.root / entry.frame.path}" in str(caught.value)
    assert entry.stage is ReferenceState.STORED
    assert "stop" not in there[uid].metadata


def read_run(storage: Storage, uid: str) -> tuple[np.ndarray, list[int]]:
    """Read a run's frames and its event numbers through Tiled."""
    stream = storage.data.catalog[uid]["primary"].base
    return stream["eels"].read(), list(stream["internal"].read()["seq_num"])


@pytest.fixture(scope="module")
def folder(session: Session, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of an awkward name with one run, which its own Tiled server has read back."""
    folder = tmp_path_factory.mktemp("own") / AWKWARD
    with Storage(folder) as storage:
        session.RE.unsubscribe(session.token)
        token = session.RE.subscribe(storage)
        assert session.pcs is not None
        with init_devices():
            eels = Spectrometer(
                session.pcs.uris["gatan"], path_provider=storage.path_provider, name="eels"
            )
        session.devices["eels"], before = eels, session.devices["eels"]
        try:
            uid = run_of(session.acquire_eels(exposure=0.001))
        finally:
            session.devices["eels"] = before
            session.RE.unsubscribe(token)
            session.token = session.RE.subscribe(session.storage)
        assert storage.data.catalog is not None  # waits for its start
        storage.data.wait(uid, timeout=PATIENCE)
        frames, numbers = read_run(storage, uid)
        assert frames.shape == (1, 2048) and numbers == [1]
        storage.close(wait=True)
    return folder, uid


@pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")  # Tiled's own
def test_a_folder_that_was_moved_and_is_of_an_older_tiled_opens_with_its_runs(
    folder: tuple[Path, str], tmp_path: Path
) -> None:
    (old, uid), new = folder, tmp_path / "moved to ü"
    catalog = f"sqlite+aiosqlite:///{old / 'catalog' / 'catalog.db'}"
    template, migrations = Path(ALEMBIC_INI_TEMPLATE_PATH), Path(ALEMBIC_DIR)
    alembic_utils.downgrade(template, migrations, catalog, ALL_REVISIONS[1])
    old.rename(new)
    with Storage(new) as storage:
        frames, numbers = read_run(storage, uid)
        (entry,) = storage._ledger.frames(uid)
        assert np.array_equal(frames[0], storage.data.open(entry.frame.reference).read())
        assert numbers == [1]
        storage.close(wait=True)
    copies = [path.name for path in (new / "catalog").glob("catalog-*.db")]
    assert len(copies) == 2 and any("moved" in name for name in copies)
    assert any(ALL_REVISIONS[1] in name for name in copies)
