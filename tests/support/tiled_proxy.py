"""A proxy before a real Tiled server: it refuses, delays or passes on requests."""

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

PASSED_ON = {"content-type", "etag", "retry-after"}


class TiledProxy(ThreadingHTTPServer):
    """Passes requests on to `target`, unless `refusal` is set.

    Attributes:
        refusal: the HTTP status of every answer; 0 passes requests on.
        refusals_left: how many such answers it gives; None: no end.
        garbage: the content type and body of every answer, if given.
        delay: s before each answer.
        refuses_new: refuse the runs that are created from now on: 500 to every request about them,
            and the connection is closed, as Tiled does after an internal error.
        refused: uids of those runs.
        asked: number of requests by HTTP status of the answer.
    """

    daemon_threads = True

    def __init__(self, target: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"
        self.refusal = 0
        self.refusals_left: int | None = None
        self.garbage: tuple[str, bytes] | None = None
        self.has_left = False
        self.delay = 0.0
        self.refuses_new = False
        self.refused: set[str] = set()
        self.asked: Counter[int] = Counter()
        self.stopping = threading.Event()
        self.client = httpx.Client(base_url=target, timeout=60)

    def leave(self) -> None:
        """Refuse connections, as a computer without the server does."""
        self.has_left = True
        self.shutdown()
        self.server_close()

    def refuses(self) -> bool:
        """Whether the next answer is a refusal; counts it."""
        if self.refusals_left is None:
            return bool(self.refusal)
        self.refusals_left -= 1
        return self.refusals_left >= 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore broken connections: the writer closes one whose answer takes too long."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TiledProxy

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.stopping.wait(self.server.delay)
        if self.server.has_left or self.server.stopping.is_set():
            self.close_connection = True
            return
        if self.is_refused(body):
            status, headers, content = 500, {}, b'{"detail": "Internal server error"}'
            self.close_connection = True
        elif self.server.garbage is not None:
            kind, content = self.server.garbage
            status, headers = 200, {"content-type": kind}
        elif self.server.refuses():
            status, headers, content = self.server.refusal, {}, b'{"detail": "refused"}'
        else:
            kept = {k: v for k, v in self.headers.items() if k.lower() != "accept-encoding"}
            response = self.server.client.request(
                self.command, self.path, content=body, headers=kept
            )
            status, headers, content = response.status_code, response.headers, response.content
        self.server.asked[status] += 1
        self.send_response(status)
        for name in PASSED_ON & set(headers):
            self.send_header(name, headers[name])
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def is_refused(self, body: bytes) -> bool:
        """Whether a request is about a refused run; the first one creates its node."""
        created = self.path.split("?")[0].endswith("/metadata/") and self.command == "POST"
        if created and self.server.refuses_new:
            self.server.refused.add(json.loads(body)["id"])
        about = self.path.encode() + (body if created else b"")
        return any(uid.encode() in about for uid in set(self.server.refused))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def proxy_to(target: str) -> Iterator[TiledProxy]:
    proxy = TiledProxy(target)
    thread = threading.Thread(target=proxy.serve_forever, args=[0.05], daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stopping.set()
        proxy.shutdown()
        proxy.server_close()
        proxy.client.close()
        thread.join()
