"""One microscope session for the whole test run: a Tiled server needs 10-15 s to start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bluesky_em import Data
from bluesky_em.app.session import Session
from bluesky_em.files.tiled.address import TiledAddress, address_of

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Two simulated instrument PCs, a RunEngine, a Storage with writer and Tiled server."""
    folder = tmp_path_factory.mktemp("storage")
    with Session(folder, root=ROOT) as session:
        session.sd.baseline.clear()  # most tests are about the documents of their own devices
        yield session
        session.storage.close(wait=True)


@pytest.fixture(scope="session")
def tiled(session: Session) -> TiledAddress:
    """Where the session's Tiled server answers."""
    assert session.data.catalog is not None  # waits for its start
    address = address_of(session.storage.layout)
    assert address is not None
    return address


@pytest.fixture
def http(tiled: TiledAddress) -> Iterator[Data]:
    """What a PC has that has only the Tiled address."""
    data = Data(tiled.uri, api_key=tiled.api_key)
    yield data
    data.close()
