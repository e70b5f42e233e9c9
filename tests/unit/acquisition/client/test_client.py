import threading
from pathlib import Path
from typing import Any

import pytest

from bluesky_em.acquisition.client import AsyncClient, Client, ServerAddress
from bluesky_em.errors import ServerUnreachable
from tests.support.fake_server import FakeDriver, calling, free_port, served


def test_a_dead_port_is_named_with_what_to_do():
    port = free_port()
    with calling(f"PYRO:eels_server@127.0.0.1:{port}") as client:
        with pytest.raises(ServerUnreachable) as caught:
            client.call("identity")
    message = str(caught.value)
    assert message.startswith(f"No acquisition server answers at 127.0.0.1:{port} ([Errno ")
    assert "`bluesky-em serve gatan`" in message
    assert "check host and port in your devices/ file" in message


def test_an_unreachable_server_is_a_connection_error():
    with calling(f"PYRO:eels_server@127.0.0.1:{free_port()}") as client:
        with pytest.raises(ConnectionError):
            client.call("identity")


@pytest.mark.parametrize(
    "uri",
    [
        "", "gatan-pc:9091", "PYRO:eels_server", "PYRONAME:eels_server", "PYRO:eels_server@pc",
        "PYRO:eels_server@gatan-pc:99999", "PYRO:eels_server@gatan-pc:0", "PYRO:@gatan-pc:9091",
        "PYRO:eels_server@gatan-pc:9091/x", "PYRO:eels_server@gatan..pc:9091",
        "PYRO:eels_server@./u:/tmp/socket", "PYRONAME:eels_server@gatan-pc:9091",
        "http://gatan-pc:9091", "\0", None, 9091,
    ],
)  # fmt: skip
def test_what_is_not_an_address_is_refused_with_an_example_of_one(uri: Any):
    with pytest.raises(ValueError) as caught:
        Client(uri)
    assert str(caught.value).startswith(f"{uri!r} is not an address of an acquisition server")
    assert "'PYRO:eels_server@gatan-pc:9091'" in str(caught.value)


def test_a_computer_that_is_not_there_is_named():
    with calling("PYRO:eels_server@no-such-pc.invalid:9091") as client:
        with pytest.raises(ServerUnreachable, match="no computer named 'no-such-pc.invalid'"):
            client.call("identity")


def test_an_address_is_taken_apart_and_put_together():
    assert str(ServerAddress.parse("PYRO:eels_server@[::1]:9091")) == "[::1]:9091"
    assert str(ServerAddress.parse(" pyro:eels_server@gatan-pc:9091 ")) == "gatan-pc:9091"


def test_a_remote_value_error_arrives_as_one_with_its_words(tmp_path: Path):
    with served(FakeDriver(), tmp_path) as uri, calling(uri) as client:
        with pytest.raises(ValueError, match="energy_offset is 5000; it must be between"):
            client.call("set", "energy_offset", 5000)
        assert client.call("get", "energy_offset") == 0.0


def test_a_call_that_takes_too_long_says_how_long_it_waited(tmp_path: Path):
    driver = FakeDriver()
    driver.block.set()
    with served(driver, tmp_path) as uri, calling(uri) as client:
        with pytest.raises(ServerUnreachable, match="did not answer 'expose' within 0.05 s"):
            client.call("expose", "run.eels/0", "eels", {}, timeout=0.05)
        client.call("abort")


def test_a_client_connects_again_when_the_server_is_back_on_its_port(tmp_path: Path):
    with served(FakeDriver(), tmp_path) as uri, calling(uri) as client:
        assert client.call("identity")["name"] == "fake"
        port = int(uri.rpartition(":")[2])
    with calling(uri) as client:
        with pytest.raises(ServerUnreachable):
            client.call("identity")
        with served(FakeDriver(), tmp_path, port=port):
            assert client.call("identity")["name"] == "fake"


def test_closing_twice_is_harmless_and_the_next_call_connects_again(tmp_path: Path):
    with served(FakeDriver(), tmp_path) as uri, calling(uri) as client:
        client.call("identity")
        client.close()
        client.close()
        assert client.call("identity")["name"] == "fake"


def test_a_client_that_is_not_called_starts_no_thread():
    before = threading.active_count()
    AsyncClient("PYRO:eels_server@127.0.0.1:1")
    assert threading.active_count() == before
