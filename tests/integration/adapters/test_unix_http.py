import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest

from adapters.docker.unix_http import UnixHttp

SECONDS = 0.5


class Answers(BaseHTTPRequestHandler):
    """Says on which connection it was asked what; keeps connections, as an engine does."""

    protocol_version = "HTTP/1.1"
    connections = 0
    lets_go = threading.Event()
    ended = threading.Event()

    def setup(self) -> None:
        super().setup()
        Answers.connections += 1
        self.number = Answers.connections

    def finish(self) -> None:
        super().finish()
        Answers.ended.set()

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.lets_go.wait(10 * SECONDS)
        if self.path == "/hangs-up":
            self.close_connection = True
            self.request.shutdown(socket.SHUT_RDWR)
            return
        body = f"{self.number} {self.path}".encode()
        self.send_response(404 if self.path == "/nothing" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: object) -> None:
        pass


class UnixServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Who asked for what is slow has gone: nothing to print."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    Answers.connections = 0
    Answers.lets_go.clear()
    Answers.ended.clear()
    with UnixServer(str(tmp_path / "s"), Answers) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield str(tmp_path / "s")
        Answers.lets_go.set()
        server.shutdown()
        serving.join()


@pytest.fixture
def http(address: str) -> Iterator[UnixHttp]:
    with closing(UnixHttp(address, seconds=SECONDS)) as asking:
        yield asking


def test_a_connection_is_reused_and_queries_are_encoded(http: UnixHttp) -> None:
    assert http.get("/a", {}) == b"1 /a"
    assert http.get("/b", {"all": 1, "filters": '{"a": "b c"}'}) == b"1 /b?all=1&filters=%7B%22a%22%3A+%22b+c%22%7D"


def test_an_error_answer_is_none_and_keeps_the_connection(http: UnixHttp) -> None:
    assert http.get("/nothing", {}) is None
    assert http.get("/a", {}) == b"1 /a"


def test_a_lost_connection_is_none_and_reopened_by_the_next_request(http: UnixHttp) -> None:
    assert http.get("/a", {}) == b"1 /a"
    assert http.get("/hangs-up", {}) is None
    assert http.get("/a", {}) == b"2 /a"


def test_a_late_answer_times_out_and_is_never_taken_for_another(http: UnixHttp) -> None:
    with pytest.raises(TimeoutError):
        http.get("/slow", {})
    assert http.get("/a", {}) == b"2 /a"


def test_threads_use_connections_of_their_own(http: UnixHttp) -> None:
    with ThreadPoolExecutor(1) as other:
        late = other.submit(http.get, "/slow", {})
        answers = [http.get(f"/{number}", {}) for number in range(20)]
        assert isinstance(late.exception(), TimeoutError)
    assert [answer.split()[1].decode() for answer in answers if answer] == [f"/{number}" for number in range(20)]


def test_without_a_listener_the_answer_is_none(tmp_path: Path) -> None:
    assert UnixHttp(str(tmp_path / "nobody"), seconds=SECONDS).get("/a", {}) is None


def test_a_dropped_client_closes_its_connections(address: str) -> None:
    def ask_and_forget() -> None:
        assert UnixHttp(address, seconds=SECONDS).get("/a", {}) == b"1 /a"

    ask_and_forget()
    assert Answers.ended.wait(SECONDS)
