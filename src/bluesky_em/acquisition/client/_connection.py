"""The client's end of one connection to an acquisition server.

Why not Pyro's proxy: it creates objects of any class it knows from what the server sends, decodes
the answer to its handshake with any serializer that the answer names, and has one TLS setting for
all connections of a process. The protocol is Pyro's, so either end may be one of Pyro's.
"""

from __future__ import annotations

import builtins
import contextlib
import socket
from typing import Any

import msgpack
import numpy as np
from Pyro5 import protocol, socketutil
from Pyro5.errors import CommunicationError, ProtocolError

from ..instrument_pc import credentials, wire
from ._address import ServerAddress

_ANSWERS = {
    protocol.MSG_CONNECT: (protocol.MSG_CONNECTOK, protocol.MSG_CONNECTFAIL),
    protocol.MSG_INVOKE: (protocol.MSG_RESULT,),
    protocol.MSG_PING: (protocol.MSG_PING,),
}


class Refused(CommunicationError):
    """The server answers, but refuses this client; the message has its reason."""


class Connection:
    """A connection to one object of an acquisition server; use it from one thread only.

    After any communication error it is unusable: open another one.

    Args:
        address: of the object.
        token: empty for none.
        timeout: in s, until the server has accepted this client.

    Raises:
        OSError: no server answers there, or not with TLS, or its certificate is not trusted.
        CommunicationError: the answer is not an acquisition server's.
        Refused: the server does not accept this client.
        ValueError: BLUESKY_EM_TLS_CA cannot be used.
    """

    def __init__(self, address: ServerAddress, token: str, timeout: float):
        self._object = address.object
        self._number = 0
        tls = credentials.client_tls()
        sock = socket.create_connection((address.host, address.port), timeout)
        try:
            socketutil.set_keepalive(sock)
            if tls is not None:
                sock = tls.wrap_socket(sock, server_hostname=address.host)
            self._wire = wire.Wire(sock)
            hello = {"handshake": token, "object": address.object}
            answer = self._exchange(protocol.MSG_CONNECT, _pack(hello), timeout)
        except BaseException:
            sock.close()
            raise
        if answer.type == protocol.MSG_CONNECTFAIL:
            self.close()
            raise Refused(str(_unpack(answer.data)))

    def call(self, method: str, args: tuple[Any, ...], timeout: float) -> Any:
        """Call a method; return what it returned, or the exception that it raised.

        Raises:
            CommunicationError: the connection failed, or `timeout` seconds have passed.
            TypeError: an argument is not plain data.
            ValueError: the arguments are too large for one message.
        """
        request = _pack((self._object, method, args, {}))
        if len(request) > wire.MAX_MESSAGE:
            raise ValueError(
                f"the arguments of {method!r} have {len(request)} bytes; at most "
                f"{wire.MAX_MESSAGE} go to an acquisition server"
            )
        answer = self._exchange(protocol.MSG_INVOKE, request, timeout)
        data = _unpack(answer.data)
        return _exception(data) if answer.flags & protocol.FLAGS_EXCEPTION else data

    def ping(self, timeout: float) -> None:
        """Check that the connection still works.

        Raises:
            CommunicationError: it does not.
        """
        self._exchange(protocol.MSG_PING, b"ping", timeout)

    def close(self) -> None:
        """Close the connection; closing twice is harmless."""
        self._wire.close()

    def _exchange(self, kind: int, payload: bytes, timeout: float) -> protocol.ReceivingMessage:
        self._number = (self._number + 1) & 0xFFFF
        self._wire.settimeout(timeout)
        request = protocol.SendingMessage(kind, 0, self._number, wire.MSGPACK, payload)
        self._wire.send(request.data)
        answer = self._wire.receive()
        if answer.seq != self._number or answer.type not in _ANSWERS[kind]:
            raise ProtocolError(
                f"request {self._number} of type {kind} got answer {answer.seq} of type "
                f"{answer.type}"
            )
        return answer


def _pack(data: Any) -> bytes:
    return msgpack.Packer(default=_plain).pack(data)


def _unpack(data: Any) -> Any:
    try:
        return msgpack.unpackb(data, ext_hook=wire.number, strict_map_key=False)
    except Exception as exc:  # msgpack's errors have no common root
        raise ProtocolError(f"the answer is not plain msgpack data: {exc}") from exc


def _plain(value: Any) -> Any:
    """Convert NumPy's numbers to plain ones; refuse anything else."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(
        f"{value!r:.80} cannot go to an acquisition server: give numbers, text, bytes, lists or "
        f"dictionaries, not {type(value).__name__}"
    )


def _exception(data: Any) -> Exception:
    """Return the server's exception if it is one of Python's, else a RuntimeError that names it."""
    if not isinstance(data, dict):
        return RuntimeError(str(data))
    name, args = str(data.get("__class__")), tuple(data.get("args", ()))
    module, _, short = name.rpartition(".")
    kind = getattr(builtins, short, None) if module == "builtins" else None
    if isinstance(kind, type) and issubclass(kind, Exception):
        with contextlib.suppress(TypeError):  # its arguments do not fit
            return kind(*args)
    return RuntimeError(": ".join([name, *map(str, args)]))
