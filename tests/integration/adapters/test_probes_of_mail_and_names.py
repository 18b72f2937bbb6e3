"""Probes of a real SMTP server and of a DNS server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink

from models.environments import DnsProbe, SmtpProbe
from tests.integration.adapters.conftest import ComposeProject
from tests.support.certificates import self_signed
from tests.support.ports import free_port
from tests.support.probed import ask, chattering, falling_silent

pytestmark = pytest.mark.engine


@contextmanager
def mail_server(certificate: Path | None = None) -> Iterator[int]:
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    controller = Controller(Sink(), hostname="127.0.0.1", port=free_port(), tls_context=context)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def smtp(port: int, **fields: object) -> SmtpProbe:
    return SmtpProbe.model_validate({"kind": "smtp", "port": port} | fields)


async def test_a_mail_server_that_greets_is_healthy(on_the_host: ComposeProject) -> None:
    with mail_server() as port:
        result = await ask(on_the_host, smtp(port))
        without = await ask(on_the_host, smtp(port, starttls=True))
    assert (result.ok, result.detail) == (True, "the mail server answers EHLO")
    assert not without.ok
    assert "offers no STARTTLS" in without.detail


async def test_a_mail_server_switches_to_tls(on_the_host: ComposeProject, tmp_path: Path) -> None:
    with mail_server(self_signed(tmp_path)) as port:
        result = await ask(on_the_host, smtp(port, starttls=True))
    assert (result.ok, result.detail) == (True, "the mail server answers EHLO and switches to TLS")


@pytest.mark.parametrize(
    ("words", "detail"),
    [
        (b"421 too many connections\r\n", "turns clients away: 421 too many connections"),
        (b"220 it\r\n500 what\r\n500 what\r\n", "refused EHLO: 500 what"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not as a mail server"),
    ],
)
async def test_a_mail_server_that_refuses_fails_with_its_words(
    on_the_host: ComposeProject, words: bytes, detail: str
) -> None:
    async with chattering(words) as port:
        result = await ask(on_the_host, smtp(port))
    assert not result.ok
    assert detail in result.detail


async def test_a_mail_server_that_falls_silent_ends_at_the_time_limit(on_the_host: ComposeProject) -> None:
    with mail_server() as behind:
        async with falling_silent(behind, b"ehlo") as port:
            result = await ask(on_the_host, smtp(port, timeout_seconds=0.5))
    assert (result.ok, result.detail) == (False, "no answer within 0.5 s")


ZONE = {
    ("www.shop.test.", "A"): "10.0.0.7",
    ("www.shop.test.", "TXT"): '"v=1"',
    ("shop.test.", "MX"): "10 mail.shop.test.",
}


class _Names(asyncio.DatagramProtocol):
    """A DNS server for the records of ZONE, and with codes for other names."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        asked = question.question[0]
        answer = dns.message.make_response(question)
        name, kind = asked.name.to_text(), dns.rdatatype.to_text(asked.rdtype)
        if name.startswith("silent."):
            return
        if record := ZONE.get((name, kind)):
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", kind, record))
        elif not any(known == name for known, _ in ZONE):
            code = name.partition(".")[0].upper()
            answer.set_rcode(dns.rcode.from_text(code) if code in ("SERVFAIL", "REFUSED") else dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), client)  # type: ignore[attr-defined]


async def asked(project: ComposeProject, name: str, **fields: object) -> tuple[bool, str]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(_Names, local_addr=("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        given = {"kind": "dns", "port": port, "query_name": name}
        result = await ask(project, DnsProbe.model_validate(given | fields))
    finally:
        transport.close()
    return result.ok, result.detail


@pytest.mark.parametrize(
    ("name", "fields", "ok", "detail"),
    [
        ("www.shop.test", {}, True, "query www.shop.test A was answered 10.0.0.7"),
        ("www.shop.test", {"answer": "10.0.0.7"}, True, "10.0.0.7"),
        ("www.shop.test", {"query_type": "TXT", "answer": "v=1"}, True, '"v=1"'),
        ("shop.test", {"query_type": "MX", "answer": "10 MAIL.shop.test"}, True, "10 mail.shop.test."),
        ("www.shop.test", {"answer": "10.0.0.8"}, False, "was answered 10.0.0.7, not 10.0.0.8"),
        ("www.shop.test", {"query_type": "AAAA"}, False, "has no record of this type"),
        ("gone.shop.test", {}, False, "NXDOMAIN: the name does not exist there; is its zone loaded?"),
        ("servfail.test", {}, False, "SERVFAIL: its own servers"),
        ("refused.test", {}, False, "REFUSED: it does not answer this client"),
        ("silent.test", {"timeout_seconds": 1}, False, "no answer within 1 s"),
        ("a..b", {}, False, "cannot be asked for"),
    ],
)
async def test_a_dns_server_is_judged_by_its_answer(on_the_host: ComposeProject, name, fields, ok, detail) -> None:
    result = await asked(on_the_host, name, **fields)
    assert result[0] is ok
    assert detail in result[1]


async def test_a_port_without_a_dns_server_fails(on_the_host: ComposeProject) -> None:
    probe = DnsProbe(kind="dns", port=free_port(), query_name="www.shop.test", timeout_seconds=1)
    result = await ask(on_the_host, probe)
    assert not result.ok
    assert "UDP port" in result.detail or result.detail == "no answer within 1 s"
