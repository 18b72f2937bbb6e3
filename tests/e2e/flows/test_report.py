"""The report is stored, and sent by mail to those that the environment's file names, when it is due."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from flows.reporting.report import report
from models.failures import BadInputError, RoasError
from tasks.recovery.channels import keep_channel
from tests.e2e.flows.conftest import Place, well
from tests.integration.stores.year import Year, fill
from tests.support.ports import free_port

pytestmark = [pytest.mark.flow]


class ReportMailbox:
    """A mail server on this machine that takes every mail."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        self.port = free_port()
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        mail = message_from_bytes(envelope.content or b"", policy=policy.default)  # type: ignore[arg-type]
        assert isinstance(mail, EmailMessage)
        self.got.append(mail)
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[ReportMailbox]:
    made = ReportMailbox()
    made.controller.start()
    yield made
    made.controller.stop()


async def declare(place: Place, mailbox: ReportMailbox, every: str = "weekly", *more: str) -> None:
    """An environment with some history, whose report goes to a mail address."""
    address = f"smtp://127.0.0.1:{mailbox.port}/?from=ops@shop.example&to=team@shop.example&tls=no"
    block = await keep_channel("email", "report", address, ())
    place.declare(well("web"), report=f"{{to: [{', '.join((block, *more))}], every: {every}}}")
    with place.stores() as stores:
        fill(stores, Year(now=datetime.now(UTC), days=3, services=1, minutes=360))


def sent_ago(place: Place, ago: timedelta) -> None:
    """Note that the report was sent some time ago."""
    with place.stores() as stores:
        stores.heartbeats.beat("report/test", datetime.now(UTC) - ago)


async def test_a_report_that_is_due_is_mailed_with_its_page(place: Place, mailbox: ReportMailbox) -> None:
    await declare(place, mailbox)

    text = await report("test")
    await report("test")

    (mail,) = mailbox.got
    assert mail["To"] == "team@shop.example"
    assert mail["Subject"].startswith("Report on test, ")
    body = mail.get_body(("plain",))
    assert body is not None
    assert "Operations: No operation has ended." in body.get_content()
    (page,) = mail.iter_attachments()
    assert page.get_content_type() == "text/html"
    assert (page.get_filename() or "").endswith(".html")
    assert "<h1>Report on test</h1>" in page.get_content()
    assert text.startswith("# test, ")


@pytest.mark.parametrize(
    ("every", "ago", "mails"),
    [
        ("daily", timedelta(hours=23), 1),
        ("daily", timedelta(hours=1), 0),
        ("weekly", timedelta(days=6), 0),
        ("weekly", timedelta(days=6, hours=23), 1),
    ],
)
async def test_it_is_sent_as_often_as_asked(
    place: Place, mailbox: ReportMailbox, every: str, ago: timedelta, mails: int
) -> None:
    await declare(place, mailbox, every)
    sent_ago(place, ago)

    await report("test")

    assert len(mailbox.got) == mails


async def test_it_can_be_sent_now_or_not_at_all(place: Place, mailbox: ReportMailbox) -> None:
    await declare(place, mailbox)

    await report("test", send="no")
    assert mailbox.got == []
    sent_ago(place, timedelta())
    await report("test", send="now")

    assert len(mailbox.got) == 1


async def test_a_receiver_that_fails_does_not_keep_it_from_others(
    place: Place, mailbox: ReportMailbox, caplog: pytest.LogCaptureFixture
) -> None:
    await declare(place, mailbox, "weekly", "custom-webhook/nosuch")

    with caplog.at_level(logging.WARNING, "roas"):
        await report("test")
    with pytest.raises(RoasError, match="there is no block custom-webhook/nosuch on the Prefect server"):
        await report("test", send="now")

    assert "there is no block custom-webhook/nosuch" in caplog.text
    assert len(mailbox.got) == 2


async def test_who_asks_to_send_it_learns_that_no_receiver_is_named(place: Place) -> None:
    place.declare(well("web"))

    assert (await report("test")).startswith("# test, ")
    with pytest.raises(BadInputError, match="names no receiver of its report"):
        await report("test", send="now")
