"""An S3 server on a free port of this machine; its URL is the first line on stdout.

``POST /refused`` with methods such as ``PUT,POST`` has it refuse them from then on, with the answer of S3.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # pyright: ignore[reportMissingTypeStubs]
from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

DENIED = (
    b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message>"
    b"<AWSAccessKeyId>access-key-of-the-test</AWSAccessKeyId><StringToSign>secret-key-of-the-test</StringToSign>"
    b"</Error>"
)


class Refusing:
    """The application, and a switch."""

    def __init__(self) -> None:
        self.application = DomainDispatcherApplication(create_backend_app)
        self.refused = ""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if environ["PATH_INFO"] == "/refused":
            self.refused = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0)).decode()
            start_response("204 No Content", [])
            return []
        if environ["REQUEST_METHOD"] in self.refused.split(","):
            start_response("403 Forbidden", [("Content-Length", str(len(DENIED)))])
            return [DENIED]
        answer: Iterable[bytes] = self.application(environ, start_response)
        return answer


class Silent(WSGIRequestHandler):
    """Keeps connections, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 the base class's
        """Write nothing."""


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, Refusing(), threaded=True, request_handler=Silent)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
