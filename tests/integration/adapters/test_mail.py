"""Mail is handed in over TLS with a login, and the refusals of a server are distinguished."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from adapters.notifications.mail import MailAddress, read_mail_address, send_mail
from adapters.notifications.webhook import SendFailure
from models.failures import BadInputError
from tests.support.chat_services import _certificate as _certificate
from tests.support.ports import free_port


class Mailbox:
    """A server that takes mail of app with its password over STARTTLS."""

    def __init__(self, certificate: Path) -> None:
        self.got: list[Envelope] = []
        self.answer = "250 OK"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.port = free_port()
        self.controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=self.login,
        )

    def login(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
        known = isinstance(given, LoginPassword) and (given.login, given.password) == (b"app", b"p/w d")
        return AuthResult(success=known, handled=False)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        self.got.append(envelope)
        return self.answer


@pytest.fixture
def mailbox(_certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    monkeypatch.setenv("SSL_CERT_FILE", str(_certificate))
    made = Mailbox(_certificate)
    made.controller.start()
    yield made
    made.controller.stop()


def address(port: int, password: str = "p%2Fw%20d") -> MailAddress:
    return read_mail_address(
        f"smtp://app:{password}@127.0.0.1:{port}/?from=ops@shop.example&to=a@x.example,b@x.example"
    )


def test_mail_goes_to_all_recipients_with_subject_and_text(mailbox: Mailbox) -> None:
    assert send_mail(address(mailbox.port), "web of shop needs help: it fails ✗", "First line\nSecond ✓") is None
    (envelope,) = mailbox.got
    assert (envelope.mail_from, envelope.rcpt_tos) == ("ops@shop.example", ["a@x.example", "b@x.example"])
    content = bytes(envelope.content or b"").decode()
    assert "Auto-Submitted: auto-generated" in content
    assert "=?utf-8?" in content


def test_what_a_server_refuses_is_said_without_the_password(mailbox: Mailbox) -> None:
    wrong = send_mail(address(mailbox.port, "another"), "Test", "text")
    assert wrong == SendFailure(text="its server refused the login")
    mailbox.answer = "451 try again later"
    assert send_mail(address(mailbox.port), "Test", "text") == SendFailure(
        text="its server answered with 451", again=True
    )
    mailbox.answer = "554 no"
    assert send_mail(address(mailbox.port), "Test", "text") == SendFailure(text="its server answered with 554")


def test_a_server_that_is_away_differs_from_one_that_is_not_trusted(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert send_mail(address(free_port()), "Test", "text") == SendFailure(
        text="its server could not be reached", again=True
    )
    monkeypatch.delenv("SSL_CERT_FILE")
    failed = send_mail(address(mailbox.port), "Test", "text")
    assert failed == SendFailure(text="its server has no certificate that is trusted")


@pytest.mark.parametrize(
    "text",
    [
        "smtps://mail.example/",
        "smtps://mail.example/?from=a@x.example",
        "smtps://mail.example/?from=a@x.example&to=nobody",
        "smtps://mail.example/?from=a@x.example&to=b@x.example&cc=c@x.example",
        "smtps://mail.example:port/?from=a@x.example&to=b@x.example",
        "smtp://app:secret@mail.example/?from=a@x.example&to=b@x.example&tls=no",
        "https://mail.example/?from=a@x.example&to=b@x.example",
    ],
)
def test_an_address_of_another_form_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(BadInputError) as refused:
        read_mail_address(text)
    assert "secret" not in str(refused.value)
