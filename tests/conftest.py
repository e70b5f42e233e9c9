"""Tiers, and one microscope session for all tests: a Tiled server takes 10 to 15 s to start."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from bluesky_em import Data
from bluesky_em.app.session import Session
from bluesky_em.files.tiled.address import TiledAddress, address_of

ROOT = Path(__file__).parents[1]
SLOW_TIERS = {ROOT / "tests" / "system", ROOT / "tests" / "crash"}


def pytest_addoption(parser: pytest.Parser) -> None:
    tiers = parser.getgroup("bluesky-em")
    tiers.addoption(
        "--all", action="store_true", help="also run tests/system, tests/crash and docs"
    )
    tiers.addoption("--long", action="store_true", help="more examples, kills and cases")


def pytest_configure(config: pytest.Config) -> None:
    """Draw the same examples in every run; with `--all`, also run the code of the pages."""
    settings.register_profile(
        "same-every-time",
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=1000 if config.getoption("--long") else 100,
    )
    settings.load_profile("same-every-time")
    if config.getoption("--all") and not _is_named(config):
        config.args.append(str(ROOT / "docs"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the slow tiers out, unless they are named or `--all` is given."""
    slow = collection_path in SLOW_TIERS
    return True if slow and not _is_named(config) and not config.getoption("--all") else None


def _is_named(config: pytest.Config) -> bool:
    return config.args_source is pytest.Config.ArgsSource.ARGS


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether to repeat until it hurts: `--long`."""
    return request.config.getoption("--long")


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
    """The address of the session's Tiled server."""
    assert session.data.catalog is not None  # waits for its start
    address = address_of(session.storage.layout)
    assert address is not None
    return address


@pytest.fixture
def http(tiled: TiledAddress) -> Iterator[Data]:
    """A reader on a PC that has only the Tiled address."""
    data = Data(tiled.uri, api_key=tiled.api_key)
    yield data
    data.close()
