"""The door of an acquisition server: who comes in, and how many at once.

Python 3.7 syntax, and nothing but Pyro5. Who has not given the token yet is a *stranger*, who
may say one small thing within seconds; then he is a *guest*.

Why not Pyro's pool of workers: when all 80 are taken, it answers the next caller from the loop
that accepts, and waits there for his first message: 81 silent connections lock everybody out for
ever. With TLS, one does.
"""

import contextlib
import hmac
import socket
import threading
import time

import Pyro5.server
from Pyro5 import protocol
from Pyro5.errors import CommunicationError, ConnectionClosedError

from .wire import LARGEST, Wire, check_plain

STRANGERS = 64  # connections at once that have not given the token
STRANGER_TIME = 5.0  # seconds a stranger has for TLS and token together, byte by byte or not
STRANGER_BYTES = 2 << 10  # of his message; room for a token of 1 kB
GUESTS = 128  # connections at once that have given it; a control PC needs about ten
QUEUE = 1024  # connections that wait to be accepted; where it is full, callers try again after 1 s
ANSWER_TIME = 30.0  # seconds a guest may take to accept the next part of an answer

_LOOK = 5.0  # seconds between two looks of an idle thread whether it is to end
_ENDING = 1.0  # seconds a thread may take to notice that it was hung up
_BLOCK = 1 << 16  # bytes


class Daemon(Pyro5.server.Daemon):
    """A Pyro daemon that lets nobody in without the token, and cannot be crowded out.

    Args:
        host: the interface to listen on.
        port: 0 picks a free one.
        token: empty for none.
        tls: an `ssl.SSLContext`; None for plain text.
    """

    def __init__(self, host, port, token, tls=None):
        super(Daemon, self).__init__(host=host, port=port)
        self.sock.listen(QUEUE)  # type: ignore
        self._token = token
        self.transportServer.pool.close()  # type: ignore
        self.transportServer.pool = self._door = _ConnectionPool(tls)  # type: ignore

    def validateHandshake(self, conn, data):  # noqa: N802 (Pyro's name)
        """Check the token a client sends with its first message."""
        if self._token and not _same(data, self._token):
            raise ValueError(
                "this acquisition server wants a token: set BLUESKY_EM_TOKEN to its own"
                if not data
                else "this acquisition server wants a token: set BLUESKY_EM_TOKEN, which is "
                "another one here"
            )
        self._door.admit(conn)
        return "hello"


class _ConnectionPool:
    """Gives each connection a thread, in the place of Pyro's pool of workers.

    Where there are too many, the one that has been silent for the longest goes: a flood displaces
    itself, and a control PC that is hung up on dials again by itself.
    """

    def __init__(self, tls):
        self._tls = tls
        self._lock = threading.Lock()
        self._threads = {}

    def process(self, job):
        """Attend to a new connection; Pyro's accept loop calls this, so it must not fail."""
        job.csock.keep_open = True  # from here on it is ours to close
        visitor = _Connection(job.csock.sock)
        thread = threading.Thread(target=self._attend, args=(job, visitor), name="visitor")
        thread.daemon = True
        try:
            if self._has_room(known=False, most=STRANGERS):
                with self._lock:
                    self._threads[visitor] = thread
                    thread.start()
                return
        except RuntimeError:  # this computer has no more threads
            with self._lock:
                self._threads.pop(visitor, None)
        visitor.close()

    def admit(self, visitor):
        """Make a stranger a guest.

        Raises:
            RuntimeError: there are too many, and all of them busy.
        """
        if not self._has_room(known=True, most=GUESTS):
            raise RuntimeError("{} connections to this server are busy, no more".format(GUESTS))
        visitor.welcome()

    def close(self):
        """Hang up on everybody, after the answers that are under way."""
        with self._lock:
            threads = dict(self._threads)
        for visitor in threads:
            visitor.leave()
        for visitor, thread in threads.items():
            if visitor.silent_since is not None and thread is not threading.current_thread():
                thread.join(_ENDING)

    def num_workers(self):
        """Count the connections; Pyro's description of itself asks for it."""
        return len(self._threads)

    def _attend(self, job, visitor):
        try:
            with contextlib.suppress(OSError, CommunicationError):  # he speaks no TLS
                if self._tls is not None:
                    visitor.secure(self._tls)
                job.csock = visitor
                job()
        finally:
            visitor.close()
            with self._lock:
                self._threads.pop(visitor, None)

    def _has_room(self, known, most):
        """Tell whether one more of a kind may be here; hang up on a silent one to make room."""
        with self._lock:
            there = [visitor for visitor in self._threads if visitor.known == known]
            if len(there) < most:
                return True
            silent = [(visitor.silent_since, id(visitor), visitor) for visitor in there]
            silent = [entry for entry in silent if entry[0] is not None]
            if not silent:
                return False
            visitor = min(silent)[2]
            thread = self._threads[visitor]
        visitor.hang_up()
        thread.join(_ENDING)
        return not thread.is_alive()


class _Connection(Wire):
    """The server's end of a connection."""

    largest = STRANGER_BYTES

    def __init__(self, sock):
        super(_Connection, self).__init__(sock)
        self.known = False
        self.silent_since = time.monotonic()
        """since when a message is awaited; None while one is being answered"""
        self._deadline = self.silent_since + STRANGER_TIME
        self._leaving = False
        self._unread = b""

    def secure(self, tls):
        """Have the client's TLS handshake.

        Raises:
            OSError: the client does not speak TLS, or not in time.
        """
        self.sock.settimeout(self._patience())
        self.sock = tls.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
        if self._leaving:  # `hang_up` may have met the socket before it was wrapped
            raise ConnectionClosedError("hung up")
        self.sock.do_handshake()

    def welcome(self):
        """From now on this is a guest: he may be silent, and say more."""
        self.known = True
        self.largest = LARGEST
        self.sock.settimeout(ANSWER_TIME)

    def recv(self, size):
        """Give Pyro the next bytes, of messages that are plain data only."""
        if size and not self._unread:
            self.silent_since = time.monotonic()
            header, message, payload = self.take()
            if message.type != protocol.MSG_PING:
                self._check_plain(payload)
            self.silent_since = None
            self.sock.settimeout(ANSWER_TIME)
            self._unread = header + payload
        part, self._unread = self._unread[:size], self._unread[size:]
        return part

    def exactly(self, size):
        """Take so many bytes, for as long as this visitor may be silent."""
        data = bytearray()
        while len(data) < size:
            if self._leaving:
                raise ConnectionClosedError("hung up")
            try:
                self.sock.settimeout(self._patience())
                part = self.sock.recv(min(size - len(data), _BLOCK))
            except socket.timeout:
                if self.known:
                    continue
                raise ConnectionClosedError("a stranger was silent for too long") from None
            except OSError as exc:
                raise ConnectionClosedError("the connection was lost: {}".format(exc)) from exc
            if not part:
                raise ConnectionClosedError("the visitor hung up")
            data += part
        return bytes(data)

    def leave(self):
        """Hang up, but not before an answer that is under way."""
        self._leaving = True
        if self.silent_since is not None:
            self.hang_up()

    def hang_up(self):
        """End the connection from another thread."""
        self._leaving = True
        with contextlib.suppress(OSError):
            # Not the SSLSocket's own: its thread would not wake.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def _patience(self):
        return _LOOK if self.known else max(self._deadline - time.monotonic(), 0.001)

    def _check_plain(self, payload):
        if self.known:
            check_plain(payload)
        else:  # lists in lists would cost a thousand times their own size
            check_plain(payload, max_map_len=2, max_array_len=0, max_ext_len=0)


def _same(data, token):
    return isinstance(data, str) and hmac.compare_digest(
        data.encode("utf-8"), token.encode("utf-8")
    )
