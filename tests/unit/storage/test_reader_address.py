from pathlib import Path

import pytest

from bluesky_em.files.layout import Layout
from bluesky_em.files.tiled.address import TiledAddress, publish
from bluesky_em.storage.reader_address import ReaderAddress, reader_address

URI = "http://127.0.0.1:8000"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.catalog.mkdir()
    return layout


def test_there_is_no_address_until_the_embedded_server_is_ready(layout: Layout) -> None:
    assert reader_address(layout, None, None) is None
    publish(layout, TiledAddress(uri=URI, api_key="read", ready=False))
    assert reader_address(layout, None, None) is None


def test_readers_of_the_embedded_server_receive_its_read_only_key(layout: Layout) -> None:
    publish(layout, TiledAddress(uri=URI, api_key="read", writer_key="write"))
    assert reader_address(layout, None, None) == ReaderAddress(uri=URI, api_key="read")


@pytest.mark.parametrize(("given", "expected"), [("mine", "mine"), (None, "of the environment")])
def test_readers_of_another_server_use_the_key_of_storage(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    monkeypatch.setenv("TILED_API_KEY", "of the environment")
    assert reader_address(layout, URI, given) == ReaderAddress(uri=URI, api_key=expected)
