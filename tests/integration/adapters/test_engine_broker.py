"""The broker as a process, in front of an engine that writes down what reaches it."""

from __future__ import annotations

import json
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.runtime.broker_policy import PROJECT
from tests.support.brokers import ATTACKS, RAW_ATTACKS, ask, attacked, container, forbidden, running_broker

OWN, ID, FOREIGN = "roas-test", "a" * 64, "f" * 64
CREATE = f"/v1.45/containers/create?name={OWN}-web-1"
GOOD = orjson.dumps(container(OWN))


def answer(status: int, body: object = None, *headers: str) -> bytes:
    data = orjson.dumps(body)
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


class RecordingEngine(socketserver.ThreadingUnixStreamServer):
    """Knows one container of the project and one of others; keeps every connection's bytes."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path) -> None:
        self.connections: list[bytearray] = []
        self.gone = threading.Event()
        self._open = 0
        self._changed = threading.Condition()
        self._path = str(path)
        super().__init__(self._path, _Connection)

    def process_request(self, request: socket.socket, client_address: object) -> None:
        with self._changed:
            self._open += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def everything(self) -> list[bytes]:
        """What came on each connection, once all that were made are read to their end."""
        with socket.socket(socket.AF_UNIX) as last:
            # Connections are accepted in their order, so before this one all others were.
            last.connect(self._path)
            last.shutdown(socket.SHUT_WR)
            last.recv(1)
        with self._changed:
            assert self._changed.wait_for(lambda: self._open == 0, 20)
        return [bytes(connection) for connection in self.connections if connection]

    def answer_to(self, method: str, path: str) -> bytes:
        for name, identity, project in (("own", ID, OWN), ("foreign", FOREIGN, "roas-ops")):
            labels = {"Labels": {PROJECT: project}}
            if path in (f"/containers/{name}/json", f"/containers/{identity}/json"):
                config = {"Env": ["PASSWORD=geheim"], "Image": "i", **labels}
                return answer(200, {"Id": identity, "Name": f"/{name}", "Config": config, "State": {}})
            if path == f"/networks/{name}":
                return answer(200, {"Id": identity, "Name": name, **labels})
            if path in (f"/exec/{name}/json", f"/exec/{identity}/json"):
                return answer(200, {"ID": identity, "ContainerID": identity})
        if method == "GET" and path not in ("/_ping", "/containers/json", "/info"):
            return answer(404, {"message": "No such thing"})
        return answer(200, [] if path == "/containers/json" else {"Id": ID})


class _Connection(socketserver.BaseRequestHandler):
    server: RecordingEngine

    def handle(self) -> None:
        received = bytearray()
        self.server.connections.append(received)
        self.request.settimeout(30)
        while b"\r\n\r\n" not in received:
            data = self.request.recv(65536)
            if not data:
                return
            received += data
        method, target = received.split(b" ", 2)[:2]
        path = re.sub(r"^/v[0-9.]+", "", target.decode().partition("?")[0])
        if path == "/events":
            self.request.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            self._record_rest(received)
            self.server.gone.set()
        elif path == f"/exec/{ID}/start" and b"Upgrade: tcp" in received:
            self.request.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello ")
            self._record_rest(received)
            self.request.sendall(b"bye")
        else:
            self.request.sendall(self.server.answer_to(method.decode(), path))
            # A client that keeps to the rules closes now; one that is tricked sends more.
            self._record_rest(received)

    def _record_rest(self, received: bytearray) -> None:
        self.request.settimeout(5)
        try:
            while data := self.request.recv(65536):
                received += data
        except TimeoutError:
            received += b"--- not closed"


@contextmanager
def recording(folder: Path) -> Iterator[RecordingEngine]:
    engine = RecordingEngine(folder / "engine.sock")
    thread = threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield engine
    finally:
        engine.shutdown()
        thread.join()
        engine.server_close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RecordingEngine, Path]]:
    folder = tmp_path_factory.mktemp("broker")
    with (
        recording(folder) as engine,
        running_broker(folder, OWN, roots=["/srv/app"], engine=folder / "engine.sock") as at,
    ):
        yield engine, at


@pytest.fixture
def engine(served: tuple[RecordingEngine, Path]) -> RecordingEngine:
    served[0].everything()
    served[0].connections.clear()
    return served[0]


@pytest.fixture
def broker(served: tuple[RecordingEngine, Path], engine: RecordingEngine) -> Path:
    return served[1]


def raw(method: str, target: str, body: bytes = b"", *headers: str, length: bool = True) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *headers]
    lines += [f"Content-Length: {len(body)}"] if length and body else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(body: bytes) -> bytes:
    return b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"


def send(at: Path, data: bytes) -> bytes:
    """All that is answered until the broker closes."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(at))
        received = b""
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            # It answered and closed before it had read everything.
            pass
        try:
            while more := client.recv(65536):
                received += more
        except ConnectionResetError:
            pass
    return received


def parsed(connection: bytes) -> tuple[str, str, bytes]:
    """The one request of a connection, as a strict reader sees it."""
    head, _, rest = connection.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    method, target, version = lines[0].split(" ")
    headers = [line.split(": ", 1) for line in lines[1:]]
    names = [name.lower() for name, _ in headers]
    assert version == "HTTP/1.1"
    assert len(set(names)) == len(names)
    assert "transfer-encoding" not in names
    length = int(dict(headers).get("Content-Length", "0"))
    assert len(rest) == length, "more than one request on a connection"
    assert "close" in dict(headers)["Connection"]
    return method, target, rest


def assert_harmless(engine: RecordingEngine) -> None:
    for connection in engine.everything():
        method, target, body = parsed(connection)
        path = re.sub(r"^/v[0-9.]+", "", target.partition("?")[0])
        if path == "/containers/create":
            reported = json.loads(body)
            assert forbidden(reported) == []
            assert reported["Labels"][PROJECT] == OWN
        elif method not in ("GET", "HEAD"):
            assert FOREIGN not in path
            assert "foreign" not in path
            assert path not in ("/build", "/images/load", "/commit")
            assert "fromSrc" not in target
            assert "rivileged" not in body.decode("latin-1").replace('"Privileged":false', "")


@pytest.mark.parametrize("attack", [*ATTACKS, *RAW_ATTACKS])
def test_no_attack_reaches_the_engine(engine: RecordingEngine, broker: Path, attack: str) -> None:
    body = attacked(attack, OWN)
    assert send(broker, raw("POST", CREATE, body)).startswith((b"HTTP/1.1 403", b"HTTP/1.1 400"))
    assert send(broker, raw("POST", CREATE, chunked(body), "Transfer-Encoding: chunked", length=False)).startswith(
        (b"HTTP/1.1 403", b"HTTP/1.1 400")
    )
    assert [one for one in engine.everything() if b"/create" in one] == []


HIDDEN = raw("POST", CREATE, attacked("privileged", OWN))


@pytest.mark.parametrize(
    "data",
    [
        raw("POST", CREATE, GOOD, "Transfer-Encoding: chunked"),
        raw("POST", CREATE, chunked(GOOD) + HIDDEN, "Transfer-Encoding: chunked"),
        raw("POST", CREATE, b"0\r\n\r\n" + HIDDEN, "Transfer-Encoding: chunked"),
        raw("POST", CREATE, GOOD, "Content-Length: 1"),
        raw("POST", CREATE, GOOD, f"Content-Length: +{len(GOOD)}", length=False),
        raw("POST", CREATE, GOOD, f"Content-Length : {len(GOOD)}", length=False),
        raw("POST", CREATE, chunked(GOOD), "Transfer-Encoding: xchunked", length=False),
        raw("POST", CREATE, chunked(GOOD), "Transfer-Encoding: chunked, chunked", length=False),
        raw("POST", CREATE, chunked(GOOD), "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", length=False),
        b"POST /containers/create HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 200_000,
        raw("GET", "/_ping", b"", "X: " + "a" * 200_000),
        b"\x00\xff" * 100,
        b"\r\n\r\n\r\n",
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused(engine: RecordingEngine, broker: Path, data: bytes) -> None:
    assert not send(broker, data).startswith(b"HTTP/1.1 2")
    assert engine.everything() == []


def test_a_request_hidden_behind_another_is_never_read(engine: RecordingEngine, broker: Path) -> None:
    for first in (raw("GET", "/_ping"), raw("POST", CREATE, GOOD), raw("POST", "/containers/own/start")):
        send(broker, first + HIDDEN)
        send(broker, first[:-4] + b"\r\nConnection: keep-alive\r\n\r\n" + HIDDEN)
    assert engine.everything()
    assert_harmless(engine)


def test_a_request_hidden_behind_a_take_over_that_fails_is_never_read(engine: RecordingEngine, broker: Path) -> None:
    upgrade = ("Connection: Upgrade", "Upgrade: tcp", "Content-Type: application/json")
    for target in ("/exec/nothing/start", "/exec/foreign/start", "/containers/own/start", "/exec/own/resize"):
        received = send(broker, raw("POST", target, b"{}", *upgrade) + HIDDEN)
        assert not received.startswith(b"HTTP/1.1 101")
    assert_harmless(engine)


def test_a_body_that_is_too_large_is_refused(engine: RecordingEngine, broker: Path) -> None:
    body = orjson.dumps(container(OWN) | {"Env": ["x" * 5_000_000]})
    send(broker, raw("POST", CREATE, body))
    assert engine.everything() == []
    assert ask(broker, "GET", "/_ping")[0] == 200


def test_a_command_takes_the_connection_over(engine: RecordingEngine, broker: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(broker))
        client.sendall(raw("POST", "/exec/own/start", b'{"Tty":false}', "Connection: Upgrade", "Upgrade: tcp") + b"in")
        received = b""
        while not received.endswith(b"hello "):
            received += client.recv(100)
        client.sendall(b"put")
        client.shutdown(socket.SHUT_WR)
        while more := client.recv(100):
            received += more
    assert received.startswith(b"HTTP/1.1 101")
    assert received.endswith(b"hello bye")
    assert [one for one in engine.everything() if one.endswith(b"input")]


def test_a_stream_comes_at_once_and_ends_with_its_client(engine: RecordingEngine, broker: Path) -> None:
    engine.gone.clear()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(broker))
        client.sendall(raw("GET", "/events"))
        received = b""
        while b"one" not in received:
            received += client.recv(100)
        assert not engine.gone.is_set()
    assert engine.gone.wait(10)


def test_what_a_client_says_of_itself_is_all_that_is_handed_on(engine: RecordingEngine, broker: Path) -> None:
    send(broker, raw("POST", "/images/create?fromImage=a&tag=b", b"", "X-Registry-Auth: abc", "User-Agent: me",
                     "Cookie: x", "Content-Type: application/x-www-form-urlencoded", "Authorization: y"))  # fmt: skip
    (connection,) = engine.everything()
    assert b"x-registry-auth: abc" in connection
    assert b"user-agent: me" in connection
    for absent in (b"ookie", b"form", b"uthorization"):
        assert absent not in connection


def test_the_environment_of_others_is_not_reported(broker: Path) -> None:
    assert "geheim" not in json.dumps(ask(broker, "GET", "/v1.45/containers/foreign/json")[1])
    assert "geheim" in json.dumps(ask(broker, "GET", "/v1.45/containers/own/json")[1])


def test_a_refusal_says_what_and_why_and_is_logged_without_values(broker: Path) -> None:
    body = container(OWN, Privileged=True) | {"Env": ["PASSWORD=geheim"]}
    status, reported = ask(broker, "POST", CREATE, body)
    assert (status, reported) == (403, {"message": "engine broker: HostConfig.Privileged must not be set"})
    log = (broker.parent / "broker.log").read_text()
    assert "refused POST /v1.45/containers/create: HostConfig.Privileged must not be set" in log
    assert "geheim" not in log


def test_an_engine_that_is_away_is_named(tmp_path: Path) -> None:
    with running_broker(tmp_path, OWN, engine=tmp_path / "none.sock") as at:
        for target in ("/_ping", "/containers/own/logs?stdout=1"):
            status, reported = ask(at, "GET", target)
            assert status == 503
            assert "Cannot connect to the Docker daemon" in reported["message"]


SEEDS = [
    HIDDEN,
    raw("POST", CREATE, GOOD),
    raw("POST", CREATE, chunked(GOOD), "Transfer-Encoding: chunked", length=False),
    raw("POST", CREATE, chunked(attacked("bind of the host's disk", OWN)), "Transfer-Encoding: chunked", length=False),
    raw("POST", CREATE, attacked("small letters", OWN)),
    raw("POST", CREATE, attacked("setting given twice", OWN)),
    raw("POST", "/v1.45/containers/foreign/start"),
    raw("DELETE", "/containers/foreign?force=1"),
    raw("POST", "/containers/foreign/exec", b'{"Cmd":["id"]}'),
    raw("POST", "/containers/own/exec", b'{"Cmd":["id"],"Privileged":true}'),
    raw("POST", "/exec/foreign/start", b"{}", "Connection: Upgrade", "Upgrade: tcp"),
    raw("POST", "/containers/own/start"),
    raw("POST", "/build"),
    raw("POST", "/images/create?fromSrc=-", b"fromSrc=-"),
    raw("GET", "/_ping"),
]
TOKENS = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\x00", b"\t", b":", b"/", b"//", b"/../", b"%2f", b"?", b"&", b"#", b"0\r\n\r\n"),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n"),
    *(
        b"Connection: keep-alive\r\n",
        b"Expect: 100-continue\r\n",
        b"HTTP/1.0",
        b"HTTP/1.1",
        b"POST ",
        b"foreign",
        b"own",
    ),
    *(
        b'"Privileged":true,',
        b'"HostConfig":{"Privileged":true},',
        b'"privileged":true,',
        b'"',
        b"{",
        b"}",
        b"\xc5\xbf",
    ),
]


@given(
    parts=st.lists(st.sampled_from(SEEDS), min_size=1, max_size=3),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 40), st.sampled_from(TOKENS) | st.binary(max_size=4)), max_size=6
    ),
)
@settings(max_examples=400, deadline=None)
def test_no_bytes_trick_the_broker(
    served: tuple[RecordingEngine, Path], parts: list[bytes], edits: list[tuple[float, int, bytes]]
) -> None:
    engine, at = served
    engine.connections.clear()
    data = b"".join(parts)
    for place, dropped, inserted in edits:
        start = int(place * len(data))
        data = data[:start] + inserted + data[start + dropped :]
    received = send(at, data)
    assert received == b"" or received.startswith(b"HTTP/1.1 ")
    assert_harmless(engine)
