"""Tokens: which give access to a server, and which do not."""

import os
from pathlib import Path

import pytest
from Pyro5 import protocol

from bluesky_em.acquisition.instrument_pc import credentials
from bluesky_em.acquisition.instrument_pc.server import serve
from tests.support.fake_server import FakeDriver, calling, served
from tests.support.raw_connection import (
    all_from,
    authenticated,
    connect,
    open_socket,
)

ODD = [
    None, True, 5, 5.0, b"5", ["5"], {"5": "5"}, "", " 5", "5 ", "5\0", "５", "x" * 1500, "é" * 900,
]  # fmt: skip


def test_odd_tokens_give_no_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLUESKY_EM_TOKEN", "5")
    with served(FakeDriver(), tmp_path) as uri:
        for odd in ODD:
            with open_socket(uri) as sock:
                sock.sendall(connect({"handshake": odd, "object": "eels_server"}))
                assert all_from(sock)[6] == protocol.MSG_CONNECTFAIL, odd
        authenticated(uri, {"handshake": "5", "object": "eels_server"}).close()


@pytest.mark.parametrize("blank", [" ", "\t", "   \n"])
def test_a_token_of_blanks_is_no_token(
    blank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLUESKY_EM_TOKEN", blank)
    with pytest.raises(PermissionError, match="without a token"):
        serve(FakeDriver(), "eels_server", "0.0.0.0", 0, str(tmp_path))


def test_blanks_around_a_token_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLUESKY_EM_TOKEN", "word ")  # as `set X=word && serve` leaves it
    with served(FakeDriver(), tmp_path) as uri:
        monkeypatch.setenv("BLUESKY_EM_TOKEN", "word")
        with calling(uri) as line:
            assert line.call("identity")["name"] == "fake"


@pytest.mark.parametrize(
    ("token", "words"), [("x" * 1025, "has 1025 bytes, at most 1024"), ("\udcff", "not UTF-8 text")]
)
def test_a_token_that_cannot_be_sent_is_refused_at_once(
    token: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"BLUESKY_EM_TOKEN": token})
    with pytest.raises(ValueError, match=words):
        credentials.token()
