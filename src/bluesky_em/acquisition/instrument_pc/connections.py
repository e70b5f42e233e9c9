"""Connections to an acquisition server: authentication, and limits on their number.

Python 3.7 syntax, and nothing but Pyro5. Until the token has been verified a connection is
unauthenticated: at most 2 kB within 5 s. Afterwards it may stay idle, and send larger messages.

Why not Pyro's pool of workers: when all 80 are taken, it answers the next client from the thread
that accepts connections, and waits there for the client's first message: 81 silent connections
block the server permanently. With TLS, one does.
"""

import contextlib
import hmac
import socket
import threading
import time

import Pyro5.server
from Pyro5 import protocol
from Pyro5.errors import CommunicationError, ConnectionClosedError

from .wire import MAX_MESSAGE, Wire, check_plain

UNAUTHENTICATED_LIMIT = 64  # connections at once without a verified token
UNAUTHENTICATED_TIMEOUT = 5.0  # seconds for TLS and token together, however few bytes come at once
UNAUTHENTICATED_BYTES = 2 << 10  # of the first message; room for a token of 1 kB
AUTHENTICATED_LIMIT = 128  # connections at once with a verified token; a control PC needs about ten
ACCEPT_QUEUE = 1024  # connections not accepted yet; when it is full, clients retry after 1 s
ANSWER_TIMEOUT = 30.0  # seconds in which a client must accept the next part of an answer

_IDLE_CHECK_INTERVAL = 5.0  # seconds between two checks of an idle thread whether it must end
_JOIN_TIMEOUT = 1.0  # seconds a thread may take to notice that its connection was closed
_BLOCK_BYTES = 1 << 16


class Daemon(Pyro5.server.Daemon):
    """A Pyro daemon that demands the token, and stays available under many connections.

    Args:
        host: the interface to listen on.
        port: 0 picks a free one.
        token: empty for none.
        tls: an `ssl.SSLContext`; None for plain text.
    """

    def __init__(self, host, port, token, tls=None):
        super(Daemon, self).__init__(host=host, port=port)
        self.sock.listen(ACCEPT_QUEUE)  # type: ignore
        self._token = token
        self.transportServer.pool.close()  # type: ignore
        self.transportServer.pool = self._pool = _ConnectionPool(tls)  # type: ignore

    def validateHandshake(self, conn, data):  # noqa: N802 (Pyro's name)
        """Verify the token that a client sends with its first message."""
        if self._token and not _equal(data, self._token):
            raise ValueError(
                "this acquisition server wants a token: set BLUESKY_EM_TOKEN to its own"
                if not data
                else "this acquisition server wants a token: set BLUESKY_EM_TOKEN, which is "
                "another one here"
            )
        self._pool.admit(conn)
        return "hello"


class _ConnectionPool:
    """A thread for each connection, in the place of Pyro's pool of workers.

    Where there are too many connections, the one that has been idle for the longest is closed: a
    flood displaces itself, and a control PC connects again by itself.
    """

    def __init__(self, tls):
        self._tls = tls
        self._lock = threading.Lock()
        self._threads = {}

    def process(self, job):
        """Serve a new connection; Pyro's accept loop calls this, so it must not fail."""
        job.csock.keep_open = True  # from here on closing it is up to us
        connection = _Connection(job.csock.sock)
        thread = threading.Thread(target=self._serve, args=(job, connection), name="connection")
        thread.daemon = True
        try:
            if self._has_room(authenticated=False, limit=UNAUTHENTICATED_LIMIT):
                with self._lock:
                    self._threads[connection] = thread
                    thread.start()
                return
        except RuntimeError:  # this computer has no more threads
            with self._lock:
                self._threads.pop(connection, None)
        connection.close()

    def admit(self, connection):
        """Count a connection as authenticated, and lift its limits.

        Raises:
            RuntimeError: there are too many, and all of them busy.
        """
        if not self._has_room(authenticated=True, limit=AUTHENTICATED_LIMIT):
            raise RuntimeError(
                "{} connections to this server are busy, no more".format(AUTHENTICATED_LIMIT)
            )
        connection.lift_limits()

    def close(self):
        """Close all connections, each after the answer it is sending."""
        with self._lock:
            threads = dict(self._threads)
        for connection in threads:
            connection.close_when_idle()
        for connection, thread in threads.items():
            if connection.idle_since is not None and thread is not threading.current_thread():
                thread.join(_JOIN_TIMEOUT)

    def num_workers(self):
        """Count the connections; Pyro's description of itself asks for it."""
        return len(self._threads)

    def _serve(self, job, connection):
        try:
            with contextlib.suppress(OSError, CommunicationError):  # the client does not speak TLS
                if self._tls is not None:
                    connection.secure(self._tls)
                job.csock = connection
                job()
        finally:
            connection.close()
            with self._lock:
                self._threads.pop(connection, None)

    def _has_room(self, authenticated, limit):
        """Return whether one more connection of a kind may exist; close an idle one if needed."""
        with self._lock:
            same = [each for each in self._threads if each.authenticated == authenticated]
            if len(same) < limit:
                return True
            idle = [(each.idle_since, id(each), each) for each in same]
            idle = [entry for entry in idle if entry[0] is not None]
            if not idle:
                return False
            connection = min(idle)[2]
            thread = self._threads[connection]
        connection.shut_down()
        thread.join(_JOIN_TIMEOUT)
        return not thread.is_alive()


class _Connection(Wire):
    """The server's end of a connection."""

    largest = UNAUTHENTICATED_BYTES

    def __init__(self, sock):
        super(_Connection, self).__init__(sock)
        self.authenticated = False
        self.idle_since = time.monotonic()
        """since when the next message is awaited; None while one is being answered"""
        self._deadline = self.idle_since + UNAUTHENTICATED_TIMEOUT
        self._closing = False
        self._unread = b""

    def secure(self, tls):
        """Do the TLS handshake.

        Raises:
            OSError: the client does not speak TLS, or not in time.
        """
        self.sock.settimeout(self._timeout())
        self.sock = tls.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
        if self._closing:  # `shut_down` may have been called before the socket was wrapped
            raise ConnectionClosedError("the connection was closed")
        self.sock.do_handshake()

    def lift_limits(self):
        """Allow idle times and large messages: the token has been verified."""
        self.authenticated = True
        self.largest = MAX_MESSAGE
        self.sock.settimeout(ANSWER_TIMEOUT)

    def recv(self, size):
        """Return the next bytes to Pyro, of messages that contain plain data only."""
        if size and not self._unread:
            self.idle_since = time.monotonic()
            header, message, payload = self.take()
            if message.type != protocol.MSG_PING:
                self._check_plain(payload)
            self.idle_since = None
            self.sock.settimeout(ANSWER_TIMEOUT)
            self._unread = header + payload
        part, self._unread = self._unread[:size], self._unread[size:]
        return part

    def exactly(self, size):
        """Receive this number of bytes, for as long as this connection may be idle."""
        data = bytearray()
        while len(data) < size:
            if self._closing:
                raise ConnectionClosedError("the connection was closed")
            try:
                self.sock.settimeout(self._timeout())
                part = self.sock.recv(min(size - len(data), _BLOCK_BYTES))
            except socket.timeout:
                if self.authenticated:
                    continue
                raise ConnectionClosedError("no token came in time") from None
            except OSError as exc:
                raise ConnectionClosedError("the connection was lost: {}".format(exc)) from exc
            if not part:
                raise ConnectionClosedError("the client closed the connection")
            data += part
        return bytes(data)

    def close_when_idle(self):
        """Close the connection, but not before an answer that is being sent."""
        self._closing = True
        if self.idle_since is not None:
            self.shut_down()

    def shut_down(self):
        """Close the connection from another thread."""
        self._closing = True
        with contextlib.suppress(OSError):
            # Not the SSLSocket's own method: its thread would not wake.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def _timeout(self):
        if self.authenticated:
            return _IDLE_CHECK_INTERVAL
        return max(self._deadline - time.monotonic(), 0.001)

    def _check_plain(self, payload):
        if self.authenticated:
            check_plain(payload)
        else:  # lists in lists would cost a thousand times their own size
            check_plain(payload, max_map_len=2, max_array_len=0, max_ext_len=0)


def _equal(data, token):
    return isinstance(data, str) and hmac.compare_digest(
        data.encode("utf-8"), token.encode("utf-8")
    )
