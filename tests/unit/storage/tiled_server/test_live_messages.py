"""Limits of the live messages that the embedded Tiled server keeps for followers."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tiled.server.streaming import StreamingCache

from bluesky_em import Storage
from bluesky_em.storage.tiled_server._live_messages import MESSAGE_BYTES
from bluesky_em.storage.tiled_server._live_settings import LiveCache

DAY = 24 * 3600
GIGABYTE = 1 << 30


def cache_of(settings: LiveCache) -> Any:
    """The cache as Tiled creates it."""
    config = settings.config()
    return StreamingCache({**config, "datastore": config["uri"].partition("://")[0]})


def keep(cache: Any, node: str, payloads: list[bytes]) -> None:
    async def send() -> None:
        for payload in payloads:
            number = await cache.incr_seq(node)
            await cache.set(node, number, {"sequence": number}, payload=payload)

    asyncio.run(send())


def kept(cache: Any, node: str, number: int) -> list[bytes | None]:
    """Metadata and payload of a message, if they are kept."""
    return asyncio.run(cache._datastore.get(f"data:{node}:{number}", "metadata", "payload"))


def test_by_default_a_day_and_a_gigabyte_are_kept_in_the_server_s_memory() -> None:
    settings = LiveCache()
    assert (settings.seconds, settings.bytes, settings.redis) == (DAY, GIGABYTE, "")
    assert settings.config() == {"uri": "memory"}
    data = cache_of(settings)._datastore._data_cache
    assert (data.ttl, data.maxsize) == (DAY, GIGABYTE)


def test_the_environment_changes_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLUESKY_EM_LIVE_SECONDS", "90.5")
    monkeypatch.setenv("BLUESKY_EM_LIVE_BYTES", "5000000")
    data = cache_of(LiveCache())._datastore._data_cache
    assert (data.ttl, data.maxsize) == (90.5, 5_000_000)
    monkeypatch.setenv("BLUESKY_EM_LIVE_REDIS", "redis://localhost:6379/3")
    assert LiveCache().config() == {"uri": "redis://localhost:6379/3", "data_ttl": 91}


@pytest.mark.parametrize("name, value, said", [
    ("SECONDS", "0", "seconds\n  Input should be greater than 0"),
    ("SECONDS", "a day", "seconds\n  Input should be a valid number"),
    ("BYTES", "4096", "bytes\n  Input should be greater than or equal to 1048576"),
    ("BYTES", "1 GB", "bytes\n  Input should be a valid integer"),
    ("REDIS", "localhost:6379", "redis\n  String should match pattern .*redis"),
])  # fmt: skip
def test_wrong_settings_are_refused_and_named(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"BLUESKY_EM_LIVE_{name}", value)
    with pytest.raises(ValidationError, match=f"the environment's BLUESKY_EM_LIVE_...\n{said}"):
        LiveCache()


def test_above_the_byte_limit_the_oldest_messages_are_deleted() -> None:
    cache = cache_of(LiveCache(bytes=1 << 20))
    keep(cache, "node", [b"x" * (100_000 - MESSAGE_BYTES)] * 20)
    found = [number for number in range(1, 21) if kept(cache, "node", number)[0]]
    assert found == [*range(11, 21)]


def test_a_message_above_half_the_byte_limit_is_kept_without_its_payload() -> None:
    cache = cache_of(LiveCache(bytes=1 << 20))
    keep(cache, "node", [b"small", b"x" * 600_000, b"small"])
    assert [kept(cache, "node", number)[1] for number in (1, 2, 3)] == [b"small", None, b"small"]
    assert kept(cache, "node", 2)[0] is not None


def test_a_message_larger_than_the_byte_limit_is_not_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = cache_of(LiveCache(bytes=1 << 20))
    asyncio.run(cache.set("node", 1, {"metadata": "x" * (2 << 20)}))
    assert kept(cache, "node", 1) == [None, None]
    assert "a live message is not sent: value too large" in caplog.text


def test_messages_of_more_than_a_thousand_nodes_keep_their_numbers() -> None:
    cache = cache_of(LiveCache())
    for turn in (1, 2):
        for node in range(1500):
            assert asyncio.run(cache.incr_seq(f"node {node}")) == turn


def test_a_storage_whose_server_could_not_start_is_not_opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BLUESKY_EM_LIVE_SECONDS", "-1")
    with pytest.raises(ValueError, match="the environment's BLUESKY_EM_LIVE_...\nseconds"):
        Storage(tmp_path)
