"""SpoolClient: what the writer asks of an acquisition server, one typed method per call."""

from __future__ import annotations

from ._answers import FrameHeader, ServerStatus
from ._client import DEFAULT_TIMEOUT, Client


class SpoolClient:
    """A blocking connection to the spool of one acquisition server; use it from one thread only.

    Every method raises `ServerUnreachable` if the server does not answer, or else what the server
    raised.

    Args:
        uri: e.g. `PYRO:eels_server@gatan-pc:9091`.
        token: defaults to the environment's BLUESKY_EM_TOKEN.

    Raises:
        ValueError: `uri` is not an address with a host and a port.
    """

    def __init__(self, uri: str, *, token: str | None = None):
        self.uri = uri
        self._client = Client(uri, token=token)

    def status(self, *, timeout: float = DEFAULT_TIMEOUT) -> ServerStatus:
        """Return the fill level of the spool, that PC's clock, and whether it exposes."""
        return self._client.call("status", timeout=timeout)

    def references(self) -> list[str]:
        """Return the references of all frames and blocks in the spool."""
        return self._client.call("references")

    def header(self, reference: str) -> FrameHeader:
        """Return the header of a frame or block.

        Raises:
            LookupError: it is not in the spool.
        """
        return self._client.call("header", reference)

    def fetch(self, reference: str, start: int, size: int) -> bytes:
        """Return bytes of a frame or block: `size` at most, `MAX_FETCH` at most, fewer at its end.

        Raises:
            LookupError: it is not in the spool.
        """
        return self._client.call("fetch", reference, start, size)

    def release(self, references: list[str]) -> None:
        """Remove frames and blocks from the spool; one that is not there is skipped."""
        self._client.call("release", references)

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        self._client.close()
