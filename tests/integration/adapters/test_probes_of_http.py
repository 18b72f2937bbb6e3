"""HTTP and HTTPS probes: method, headers, logins, certificates."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from models.environments import HttpProbe
from tests.integration.adapters.conftest import ComposeProject
from tests.support.certificates import self_signed
from tests.support.probed import ask

pytestmark = pytest.mark.engine
PASSWORD = "s3cret-of-the-page"
# user:PASSWORD as Basic authentication writes it.
BASIC = "Basic dXNlcjpzM2NyZXQtb2YtdGhlLXBhZ2U="


@contextmanager
def echoing(certificate: Path | None = None) -> Iterator[int]:
    """A server whose answer is the request: method, host and header X-Wish; /private needs a login."""

    class Echo(BaseHTTPRequestHandler):
        def answer(self) -> None:
            known = self.headers["Authorization"] in (BASIC, f"Bearer {PASSWORD}")
            status = 401 if self.path == "/private" and not known else 200
            body = f"{self.command} {self.headers['Host']} {self.headers['X-Wish']}".encode()
            self.send_response(status)
            self.send_header("X-Served-By", "echo 1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_OPTIONS = answer  # noqa: N815 - http.server asks for these names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def page(port: int, **fields: object) -> HttpProbe:
    return HttpProbe.model_validate({"kind": "http", "port": port} | fields)


@pytest.mark.parametrize(
    ("fields", "ok", "detail"),
    [
        ({"method": "POST", "contains": "POST"}, True, "answered 200"),
        ({"method": "HEAD"}, True, "answered 200"),
        ({"headers": {"X-Wish": "tea"}, "contains": "tea"}, True, "answered 200"),
        ({"headers": {"Host": "shop.test"}, "contains": "shop.test"}, True, "answered 200"),
        ({"expected_headers": {"x-served-by": "echo"}}, True, "answered 200"),
        ({"expected_headers": {"X-Served-By": ""}}, True, "answered 200"),
        ({"expected_headers": {"X-Served-By": "nginx"}}, False, "with X-Served-By: echo 1.0, not 'nginx'"),
        ({"expected_headers": {"X-Cache": ""}}, False, "answered 200 without a header X-Cache"),
        ({"path": "/private", "user": "user", "password_secret": "PW"}, True, "answered 200"),
        ({"path": "/private", "password_secret": "PW"}, True, "answered 200"),
        ({"path": "/private"}, False, "it asks for a login; set user and password_secret"),
        ({"path": "/private", "status": 401}, True, "answered 401"),
        ({"path": "/private", "user": "nobody", "password_secret": "PW"}, False, "compare secret PW"),
        ({"path": "/private", "password_secret": "UNKNOWN"}, False, "secret UNKNOWN is not set"),
    ],
)
async def test_a_page_is_asked_as_the_probe_says(on_the_host: ComposeProject, fields, ok, detail) -> None:
    with echoing() as port:
        result = await ask(on_the_host, page(port, **fields), PW=PASSWORD)
    assert result.ok is ok, result.detail
    assert detail in result.detail
    assert PASSWORD not in result.detail


async def test_a_secret_that_is_no_header_is_not_shown(on_the_host: ComposeProject) -> None:
    with echoing() as port:
        result = await ask(on_the_host, page(port, password_secret="PW"), PW="two\nlines-of-it")
    assert not result.ok
    assert "secret PW cannot be sent" in result.detail
    assert "lines-of-it" not in result.detail


async def test_an_untrusted_certificate_fails_unless_it_need_not_be_verified(
    on_the_host: ComposeProject, tmp_path: Path
) -> None:
    with echoing(self_signed(tmp_path)) as port:
        verified = await ask(on_the_host, page(port, scheme="https"))
        unverified = {"verify": False, "reason": "it signs its own", "server_name": "shop.test"}
        trusted = await ask(on_the_host, page(port, scheme="https", tls=unverified, contains="shop.test"))
    assert not verified.ok
    assert "its certificate is not accepted" in verified.detail
    assert "set tls.server_name" in verified.detail
    assert trusted.ok, trusted.detail


async def test_https_at_a_port_of_plain_http_says_so(on_the_host: ComposeProject) -> None:
    with echoing() as port:
        result = await ask(on_the_host, page(port, scheme="https"))
    assert not result.ok
    assert "if the port speaks plain HTTP, set scheme: http" in result.detail
