"""Acquisition servers with TLS, and certificates made by openssl."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bluesky_em.acquisition.instrument_pc import connections
from bluesky_em.acquisition.instrument_pc.server import serve
from bluesky_em.errors import ServerUnreachable
from tests.support.fake_server import PATIENCE, FakeDriver, calling, served
from tests.support.raw_connection import (
    GARBAGE,
    TOKEN,
    connection,
    open_socket,
    started,
)


@dataclass
class Certificates:
    """Created with the command of docs/how-to/use-tls.md."""

    folder: Path

    def make(self, name: str, host: str = "IP:127.0.0.1") -> None:
        command = (
            f"req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {name}.key -out {name}.crt"
            f" -subj /CN={name} -addext subjectAltName={host}"
        )
        subprocess.run(
            ["openssl", *command.split()], cwd=self.folder, check=True, capture_output=True
        )

    def path(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this computer, which makes the certificates of this test")
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    certificates.make("pc")
    certificates.make("impostor")
    certificates.make("elsewhere", "DNS:elsewhere")
    return certificates


@pytest.fixture(scope="module")
def tls_server(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    with started(
        tmp_path_factory.mktemp("spool"),
        BLUESKY_EM_TOKEN=TOKEN,
        BLUESKY_EM_TLS_CERT=certificates.path("pc.crt"),
        BLUESKY_EM_TLS_KEY=certificates.path("pc.key"),
    ) as uri:
        yield uri


@pytest.fixture
def trusting(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A control PC that knows the certificate of `pc`."""
    monkeypatch.setenv("BLUESKY_EM_TLS_CA", certificates.path("pc.crt"))
    monkeypatch.setenv("BLUESKY_EM_TOKEN", TOKEN)
    return monkeypatch


def test_with_tls_frames_travel_encrypted(
    tls_server: str, trusting: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with connection(tls_server) as encrypted:
        assert encrypted._wire.sock.version() in ("TLSv1.2", "TLSv1.3")
        encrypted.call("expose", ("run.eels/0", "eels", {}), PATIENCE)
        assert len(encrypted.call("fetch", ("run.eels/0", 0, 99), PATIENCE)) == 16


def test_large_blocks_pass_tls_unchanged(
    certificates: Certificates, trusting: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trusting.setenv("BLUESKY_EM_TLS_CERT", certificates.path("pc.crt"))
    trusting.setenv("BLUESKY_EM_TLS_KEY", certificates.path("pc.key"))
    driver = FakeDriver()
    driver.array = np.arange(1 << 19, dtype="<i4")
    with served(driver, tmp_path) as uri, calling(uri) as line:
        line.call("expose", "run.eels/0", "eels", {})
        blocks = [line.call("fetch", "run.eels/0", i << 20, 1 << 20) for i in (0, 1)]
    assert b"".join(blocks) == driver.array.tobytes()


def test_tls_does_not_replace_the_token(tls_server: str, trusting: pytest.MonkeyPatch) -> None:
    with calling(tls_server, "open up") as line:
        with pytest.raises(ServerUnreachable, match="wants a token: set BLUESKY_EM_TOKEN"):
            line.call("identity")


def test_a_client_in_plain_text_is_refused_and_the_error_names_tls(tls_server: str) -> None:
    with calling(tls_server, TOKEN) as line:
        with pytest.raises(ServerUnreachable, match=r"does it demand TLS \(BLUESKY_EM_TLS_CA"):
            line.call("identity")


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_server_with_tls_survives_garbage(
    garbage: bytes, tls_server: str, trusting: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            sock = stack.enter_context(open_socket(tls_server))
            with contextlib.suppress(OSError):
                sock.sendall(garbage)
        with calling(tls_server) as line:
            assert line.call("identity")["name"] == "fake"


def test_silent_connections_do_not_block_a_server_with_tls(
    tls_server: str, trusting: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3 * connections.UNAUTHENTICATED_LIMIT):
            stack.enter_context(open_socket(tls_server))
        with calling(tls_server) as line:
            assert line.call("identity")["name"] == "fake"


@pytest.mark.parametrize(
    ("trusted", "words"),
    [("impostor.crt", "self-signed certificate"), ("elsewhere.crt", "self-signed certificate")],
)
def test_a_server_with_another_certificate_is_not_used(
    trusted: str, words: str, tls_server: str, certificates: Certificates,
    trusting: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    trusting.setenv("BLUESKY_EM_TLS_CA", certificates.path(trusted))
    with calling(tls_server) as line:
        with pytest.raises(ServerUnreachable, match="cannot prove that it is 127.0.0.1: " + words):
            line.call("identity")


def test_a_certificate_of_another_computer_is_refused(
    certificates: Certificates, trusting: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trusting.setenv("BLUESKY_EM_TLS_CERT", certificates.path("elsewhere.crt"))
    trusting.setenv("BLUESKY_EM_TLS_KEY", certificates.path("elsewhere.key"))
    trusting.setenv("BLUESKY_EM_TLS_CA", certificates.path("elsewhere.crt"))
    with served(FakeDriver(), tmp_path) as uri, calling(uri) as line:
        with pytest.raises(ServerUnreachable, match="not valid for '127.0.0.1'.*devices/ file"):
            line.call("identity")


def test_a_server_in_plain_text_is_refused_by_a_client_with_tls(
    trusting: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with served(FakeDriver(), tmp_path) as uri, calling(uri) as line:
        with pytest.raises(ServerUnreachable, match="does not speak TLS.*set BLUESKY_EM_TLS_CERT"):
            line.call("identity")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"CERT": "pc.crt", "KEY": "no-such.key"}, "BLUESKY_EM_TLS_CERT='.*pc.crt' and .* cannot"),
        ({"CERT": "pc.crt", "KEY": "impostor.key"}, "cannot be used .*two PEM files"),
        ({"CERT": "pc.crt"}, "cannot be used"),
        ({"KEY": "pc.key"}, "BLUESKY_EM_TLS_KEY is set without BLUESKY_EM_TLS_CERT"),
    ],
)
def test_a_server_whose_certificate_cannot_be_used_does_not_start(
    variables: dict[str, str], words: str, certificates: Certificates, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, file in variables.items():
        monkeypatch.setenv(f"BLUESKY_EM_TLS_{name}", certificates.path(file))
    with pytest.raises(ValueError, match=words):
        serve(FakeDriver(), "eels_server", "127.0.0.1", 0, str(tmp_path))


@pytest.mark.parametrize("file", ["no-such.crt", "pc.key"])
def test_certificates_that_cannot_be_used_are_named(
    file: str, tls_server: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLUESKY_EM_TLS_CA", certificates.path(file))
    with (
        calling(tls_server) as line,
        pytest.raises(ValueError, match=f"TLS_CA='.*{file}' cannot be used"),
    ):
        line.call("identity")
