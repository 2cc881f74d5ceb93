"""An object store on this machine: moto's S3 behind a server that can be told to refuse."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

_REFUSAL = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


class Store:
    """A real HTTP server that speaks S3.

    Attributes:
        url: where it listens.
        asked: how many requests came.
        refuses: says of a request, by its number and method, whether it is answered 503.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.refuses: Callable[[int, str], bool] = lambda number, method: False
        self._answer = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._app, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            self.asked += 1
            number = self.asked
        if self.refuses(number, environ["REQUEST_METHOD"]):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [_REFUSAL]
        return self._answer(environ, start_response)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
