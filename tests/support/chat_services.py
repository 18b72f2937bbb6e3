"""Stand-ins of Discord, Slack and Teams under their own names, behind a proxy that the clients use."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.chat_rules import RULES

DISCORD, SLACK, TEAMS = RULES
SLACK_ADDRESS = f"https://{SLACK}/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
TEAMS_ADDRESS = (
    f"https://{TEAMS}:443/workflows/643e69f83c8944438d68119179a10a64/triggers/manual/paths/invoke"
    "?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)
DISCORD_ADDRESS = f"https://{DISCORD}/api/webhooks/123456789012345678/{'T' * 68}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a stand-in answers instead of judging a request; `hang`: nothing, until it is closed."""

    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    hang: bool = False


class ChatServices:
    """The three services: what they accepted and refused, by host."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.accepted: dict[str, list[Any]] = {host: [] for host in RULES}
        self.refused: dict[str, list[list[str]]] = {host: [] for host in RULES}
        self.asked: list[str] = []
        """The host and path of every request."""
        self.answers: deque[Reply] = deque()
        """What is answered first, whatever is sent."""
        self.closed = threading.Event()
        services = self

        class ChatHandler(BaseHTTPRequestHandler):
            host = ""

            def do_CONNECT(self) -> None:
                self.host = self.path.partition(":")[0]
                self.send_response(200)
                self.end_headers()
                self.connection = context.wrap_socket(self.connection, server_side=True)
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
                self.handle_one_request()
                self.close_connection = True

            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                services.asked.append(f"{self.host}{self.path}")
                given = services.answers.popleft() if services.answers else services.judge(self.host, content)
                if given.hang:
                    services.closed.wait(60)
                    return
                self.send_response(given.status)
                for name, value in given.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(given.body)))
                self.end_headers()
                self.wfile.write(given.body.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it is called by
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), ChatHandler)
        self.proxy = f"http://127.0.0.1:{self.server.server_port}"

    def judge(self, host: str, content: Any) -> Reply:
        """Accept or refuse as the service does."""
        if objections := RULES[host](content):
            self.refused[host].append(objections)
            if host == SLACK:
                return Reply(status=400, body="invalid_blocks")
            errors = {"code": 50035, "message": "Invalid Form Body", "errors": objections}
            return Reply(status=400, headers={"Content-Type": "application/json"}, body=json.dumps(errors))
        self.accepted[host].append(content)
        return {DISCORD: Reply(status=204), SLACK: Reply(status=200, body="ok"), TEAMS: Reply(status=202)}[host]


def busy(seconds: float, *, in_header: bool = True) -> Reply:
    """Answer 429 as Discord does, with the seconds to wait in the body, and in the header too."""
    body = json.dumps({"message": "You are being rate limited.", "retry_after": seconds, "global": False})
    return Reply(status=429, headers={"Retry-After": str(seconds)} if in_header else {}, body=body)


@pytest.fixture(scope="session")
def _certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stand-ins of chat services")])
    names = [*map(x509.DNSName, RULES), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("chat") / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def chat(_certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServices]:
    """The three services, reachable by their own names from this process."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate)
    services = ChatServices(context)
    thread = threading.Thread(target=services.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("HTTPS_PROXY", services.proxy)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(_certificate))
    yield services
    services.closed.set()
    services.server.shutdown()
    thread.join()
    services.server.server_close()
