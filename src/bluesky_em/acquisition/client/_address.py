"""The address of an acquisition server: `PYRO:<name>@<host>:<port>`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PATTERN = re.compile(
    r"(?i:PYRO):(?P<object>[^\s@]+)@(?P<host>\[[0-9a-fA-F:.%]+\]|[^\s:@/]+):(?P<port>\d+)"
)


@dataclass(frozen=True, kw_only=True)
class ServerAddress:
    """The address of one object of a server."""

    object: str
    """e.g. `eels_server`"""
    host: str
    port: int

    @classmethod
    def parse(cls, uri: str) -> ServerAddress:
        """Split an address into its parts.

        Raises:
            ValueError: `uri` is not an address; the message has an example of one.
        """
        match = _PATTERN.fullmatch(str(uri).strip())
        if match is None or not 0 < int(match["port"]) < 65536 or not _is_name(match["host"]):
            raise ValueError(
                f"{uri!r} is not an address of an acquisition server; expected "
                "'PYRO:<name>@<host>:<port>', e.g. 'PYRO:eels_server@gatan-pc:9091'"
            )
        return cls(object=match["object"], host=match["host"].strip("[]"), port=int(match["port"]))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _is_name(host: str) -> bool:
    try:
        host.encode("idna")
    except UnicodeError:  # e.g. `gatan..pc`, which would otherwise fail only when connecting
        return False
    return True
