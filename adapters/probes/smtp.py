"""Probe of a mail server: its banner, its answer to EHLO, and TLS by STARTTLS."""

from __future__ import annotations

import smtplib
import socket
import ssl

from adapters.probes.addresses import Address
from adapters.probes.blocking import run_blocking
from adapters.probes.outcome import Outcome, ProbeFailed, brief
from models.environments import SmtpProbe


class _Client(smtplib.SMTP):
    """The client of the standard library on a connection that is open already."""

    def __init__(self, line: socket.socket, place: Address, timeout_seconds: float) -> None:
        self._line = line
        # By default the client asks DNS for the name it greets with.
        super().__init__(place.host, place.port, local_hostname="localhost", timeout=timeout_seconds)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        self._line.settimeout(timeout)
        return self._line


async def ask_smtp(probe: SmtpProbe, place: Address) -> Outcome:
    """Read the banner and greet the server; switch to TLS where the probe says so."""
    detail = await run_blocking(lambda line: _session(line, place, probe), place, probe.timeout_seconds)
    return detail, ()


def _session(line: socket.socket, place: Address, probe: SmtpProbe) -> str:
    client = None
    try:
        # A little more time than the probe has, which ends first and says so.
        client = _Client(line, place, probe.timeout_seconds + 1)
        return _greet(client, probe)
    except smtplib.SMTPConnectError as error:
        message = _words_of(error.smtp_code, error.smtp_error)
        if error.smtp_code == -1:
            raise ProbeFailed(
                f"port {probe.port} answers, but not as a mail server: {message}; {_RIGHT_PORT}"
            ) from error
        raise ProbeFailed(f"the mail server turns clients away: {message}; its log says why") from error
    except smtplib.SMTPServerDisconnected as error:
        raise ProbeFailed(f"the mail server broke off: {error}; its log says why") from error
    except (smtplib.SMTPException, OSError) as error:
        raise ProbeFailed(f"the mail server does not answer as it should: {brief(str(error))}") from error
    finally:
        if client is not None:
            client.close()
        line.close()


_RIGHT_PORT = "is it the right port? One that starts with TLS (465) has no banner before it"


def _greet(client: _Client, probe: SmtpProbe) -> str:
    code, words = client.ehlo()
    if code != 250:
        raise ProbeFailed(f"the mail server refused EHLO: {_words_of(code, words)}")
    detail = "the mail server answers EHLO"
    if probe.starttls:
        if not client.has_extn("starttls"):
            raise ProbeFailed("the mail server offers no STARTTLS: give it a certificate, or set starttls: false")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Mail servers encrypt with whatever certificate they have; the kind certificate reads how long it is valid.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            code, words = client.starttls(context=context)
        except ssl.SSLError as error:
            raise ProbeFailed(f"the mail server offers STARTTLS, but TLS fails: {error}") from error
        if code != 220:
            raise ProbeFailed(
                f"the mail server refused STARTTLS: {_words_of(code, words)}; is its certificate readable?"
            )
        detail = "the mail server answers EHLO and switches to TLS"
    client.docmd("QUIT")
    return detail


def _words_of(code: int, words: bytes | str) -> str:
    text = words.decode("utf-8", errors="replace") if isinstance(words, bytes) else words
    return brief(text if code == -1 else f"{code} {text}")
