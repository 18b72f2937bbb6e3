"""Answer links over real HTTP with real stores: opening one does nothing, its button does it once."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from adapters.notifications.answer_keys import answer_key, new_nonce
from adapters.notifications.answer_server import AnswerServer, RateLimit
from core.notifications.answers import AnswerAction, AnswerToken, sign
from flows.recovery.answer import AnswerDesk
from models.recovery import Ticket, TicketState
from tasks.runtime.stores import open_stores
from tests.support import patient_http
from tests.support.recorded_errors import error_of_web

NOW = datetime.now(UTC)
ERROR = error_of_web()
LINK = AnswerToken(
    ticket_id="tic-1",
    action=AnswerAction.RESOLVE,
    expires_at=NOW + timedelta(hours=1),
    nonce="",
    channel="discord-webhook/operations",
)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    open_stores().errors.record(ERROR)
    open_stores().tickets.open(
        Ticket(
            ticket_id="tic-1",
            error_id="err-1",
            environment="shop",
            title="web <b>fails</b>",
            opened_at=NOW,
            service="web",
        )
    )
    return tmp_path / "data"


@pytest.fixture
def limit() -> RateLimit:
    return RateLimit(1000)


@pytest.fixture
def server(data: Path, limit: RateLimit) -> Iterator[str]:
    loop = asyncio.new_event_loop()
    desk = AnswerDesk(loop)
    with AnswerServer(("127.0.0.1", 0), desk, limit) as made:
        threads = [
            threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}),
            threading.Thread(target=loop.run_forever),
        ]
        for one in threads:
            one.start()
        yield f"http://127.0.0.1:{made.server_port}/answer/"
        made.shutdown()
        loop.call_soon_threadsafe(loop.stop)
        for one in threads:
            one.join()
    loop.close()


def link(data: Path, action: AnswerAction = AnswerAction.RESOLVE, **more: object) -> str:
    return sign(replace(LINK, action=action, nonce=new_nonce(), **more), answer_key(data))  # type: ignore[arg-type]


def state() -> TicketState:
    return open_stores().tickets.get("tic-1").state


def test_opening_a_link_shows_what_it_does_and_does_nothing(server: str, data: Path) -> None:
    token = link(data)
    for _ in range(3):
        page = patient_http.get(server + token)
        assert page.status_code == 200
    assert "web &lt;b&gt;fails&lt;/b&gt;. Ticket tic-1 and its error are recorded as resolved by hand." in page.text
    assert '<form method="post">' in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert state() is TicketState.OPEN


def test_the_button_answers_once_and_the_record_names_the_channel(server: str, data: Path) -> None:
    token = link(data)
    done = patient_http.post(server + token, data={"note": "replaced the password=hunter2hunter2"})
    assert done.status_code == 200
    assert "tic-1 and error err-1 are resolved" in done.text
    ticket = open_stores().tickets.get("tic-1")
    assert ticket.state is TicketState.RESOLVED
    (entry,) = ticket.history
    assert (entry.by, entry.actor.claimed) == ("link in discord-webhook/operations",) * 2
    assert "replaced the password" in entry.what
    assert "hunter2" not in entry.what
    assert patient_http.get(server + token).status_code == 410
    assert "was used already" in patient_http.post(server + token).text


def test_of_many_presses_at_once_one_counts(server: str, data: Path) -> None:
    token = link(data, AnswerAction.ACKNOWLEDGE)
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(lambda _: patient_http.post(server + token, data={"note": "seen"}).status_code, range(6))
        )
    assert sorted(set(answers) - {429}) == [200, 410]
    assert answers.count(200) == 1
    ticket = open_stores().tickets.get("tic-1")
    assert ticket.state is TicketState.ACKNOWLEDGED
    assert len(ticket.history) == 1


def test_a_pause_is_of_the_service_and_ends_after_an_hour(server: str, data: Path) -> None:
    assert patient_http.post(server + link(data, AnswerAction.PAUSE)).status_code == 200
    (pause,) = open_stores().pauses.active(datetime.now(UTC))
    assert (pause.environment, pause.service, pause.by) == ("shop", "web", "link in discord-webhook/operations")
    assert pause.until is not None
    assert timedelta(minutes=59) < pause.until - datetime.now(UTC) <= timedelta(hours=1)


def test_links_that_are_forged_expired_or_of_no_ticket_do_nothing(server: str, data: Path) -> None:
    forged = sign(replace(LINK, nonce=new_nonce()), b"x" * 32)
    expired = link(data, expires_at=NOW - timedelta(seconds=1))
    of_no_ticket = link(data, ticket_id="tic-9")
    for token in (forged, expired, of_no_ticket, link(data)[:-1]):
        assert patient_http.get(server + token).status_code == 410
        assert patient_http.post(server + token).status_code == 410
    assert state() is TicketState.OPEN


def test_other_paths_methods_and_sizes_are_refused(server: str, data: Path) -> None:
    assert patient_http.get(server.removesuffix("answer/")).status_code == 404
    assert patient_http.get(server).status_code == 404
    assert httpx.put(server + link(data)).status_code == 501
    assert patient_http.post(server + link(data), content=b"x" * 10_000).status_code == 413
    assert state() is TicketState.OPEN


def test_the_key_is_private_and_stays(data: Path) -> None:
    key = answer_key(data)
    assert len(key) == 32
    assert answer_key(data) == key
    assert (data / "answers.key").stat().st_mode & 0o777 == 0o600


class TestWithALimit:
    """A server that takes three requests a minute."""

    @pytest.fixture
    def limit(self) -> RateLimit:
        return RateLimit(3)

    def test_requests_without_a_valid_link_do_not_shut_out_the_one_who_has_it(self, server: str, data: Path) -> None:
        used, expired = link(data, AnswerAction.ACKNOWLEDGE), link(data, expires_at=NOW - timedelta(seconds=1))
        assert patient_http.post(server + used).status_code == 200
        for text in ("x", used, expired):
            assert {patient_http.get(server + text).status_code for _ in range(25)} == {410}
        token = link(data)
        assert patient_http.get(server + token).status_code == 200
        assert patient_http.post(server + token, data={"note": "mended"}).status_code == 200
        assert state() is TicketState.RESOLVED

    def test_a_link_opened_too_often_leaves_the_others(self, server: str, data: Path) -> None:
        often, other = link(data), link(data)
        assert [patient_http.get(server + often).status_code for _ in range(4)][-1] == 429
        assert patient_http.get(server + other).status_code == 200

    def test_more_requests_wait_a_minute(self, server: str, data: Path) -> None:
        token = link(data)
        assert [patient_http.get(server + token).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert patient_http.post(server + token).headers["retry-after"] == "60"
        assert state() is TicketState.OPEN


def test_a_limit_counts_one_minute() -> None:
    now = 0.0
    limit = RateLimit(2, lambda: now)
    assert [limit.take("a") for _ in range(3)] == [True, True, False]
    assert limit.take("b")
    now = 60.0
    assert [limit.take("a") for _ in range(3)] == [True, True, False]


def test_a_client_that_hangs_up_or_sends_slowly_is_dropped_without_a_traceback(
    server: str, data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("adapters.notifications.answer_server.AnswerServer.request_seconds", 0.3)
    host, port = httpx.URL(server).host, httpx.URL(server).port
    assert port is not None
    head = f"POST /answer/{link(data)} HTTP/1.1\r\nHost: x\r\nContent-Length: 8000\r\n\r\n".encode()
    with socket.create_connection((host, port), timeout=20) as slow:
        slow.sendall(head)
        # Each part arrives in time, the whole never.
        for _ in range(400):
            if select.select([slow], [], [], 0.05)[0]:
                break
            slow.sendall(b"x")
        assert slow.recv(1) == b""
    with socket.create_connection((host, port), timeout=20) as gone:
        gone.sendall(head)
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert patient_http.get(server + link(data)).status_code == 200
    assert state() is TicketState.OPEN
    assert "Traceback" not in capfd.readouterr().err
