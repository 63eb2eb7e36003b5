"""The metrics port: ``/metrics``, ``/healthz`` and ``/readyz`` on threads of their own.

Threads, so that a scrape never stalls the event loop and a loop that hangs is still told by ``/healthz``; few of them
and each with a time limit, so that a scraper that stalls cannot use them up.

Units: seconds.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from server.errors import Unauthenticated
from server.keys import Keys

MAX_THREADS = 16
CLIENT_TIMEOUT_S = 5.0
Check = Callable[[], tuple[bool, object]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], family: socket.AddressFamily
    ):
        self.address_family = family
        self._room = threading.BoundedSemaphore(MAX_THREADS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(
                request
            )  # all threads are held by slow scrapers, for CLIENT_TIMEOUT_S at most
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a scraper that hung up


class MetricsServer:
    """Serves until ``close``.

    Attributes:
        port: the port it listens on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        *,
        alive: Check,
        ready: Check,
        keys: Keys,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        """Listen.

        Raises:
            OSError: the port cannot be had.
        """
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        checks = {"/healthz": alive, "/readyz": ready}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = CLIENT_TIMEOUT_S
            server_version = "vitrine"
            sys_version = ""

            def do_GET(self) -> None:
                path = self.path.split("?", 1)[0]
                if path in checks:
                    good, detail = checks[path]()
                    self._send(200 if good else 503, "application/json", json.dumps(detail).encode())
                    return
                try:
                    keys.check(_bytes(self.headers["authorization"]), _bytes(self.headers["x-api-key"]))
                except Unauthenticated as error:
                    self._send(401, "text/plain; charset=utf-8", error.message.encode())
                    return
                if path == "/metrics":
                    encode, content_type = choose_encoder(self.headers.get("accept", ""))
                    self._send(200, content_type, encode(registry))
                else:
                    self._send(
                        404, "text/plain; charset=utf-8", b"there are /metrics, /healthz and /readyz here\n"
                    )

            do_HEAD = do_GET

            def _send(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = _Server(address[:2], Handler, family)  # type: ignore[arg-type]
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            # The handshake happens on the connection's thread at the first read, under its time limit.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.2},
            name="vitrine-metrics",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; scrapes that are under way end on their own."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=1.0)


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("latin-1", "replace")
