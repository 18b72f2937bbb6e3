"""Send mail by SMTP, over TLS unless its address says otherwise."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from urllib.parse import parse_qs, unquote, urlsplit

from adapters.notifications.webhook import SendFailure
from models.failures import BadInputError
from models.notifications import Attachment

FORM = "smtps://USER:PASSWORD@HOST/?from=ADDRESS&to=ADDRESS"
"""The form of an address; smtp:// changes to TLS by STARTTLS, and with &tls=no it does not."""

_SECONDS = 10.0
_PORTS = {"smtps": 465, "smtp": 587}
_PASSING = range(400, 500)
"""Replies of SMTP that may be others in a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailAddress:
    """Where mail is handed in, by whom, and who gets it. `scheme` is smtps or smtp; `encrypted` False: without TLS."""

    scheme: str
    host: str
    port: int
    user: str
    password: str
    sender: str
    recipients: tuple[str, ...]
    encrypted: bool = True


def read_mail_address(text: str) -> MailAddress:
    """Read the address of a mail server with sender and recipients.

    Raises:
        BadInputError: It has another form; the message does not repeat it, since it holds a password.
    """
    try:
        parts = urlsplit(text)
        query = parse_qs(parts.query)
        port = parts.port or _PORTS[parts.scheme]
        senders, recipients = query["from"], [address for value in query["to"] for address in value.split(",")]
    except (ValueError, KeyError) as error:
        raise _not_an_address() from error
    usable = all("@" in address and address == parseaddr(address)[1] for address in (*senders, *recipients))
    if not parts.hostname or len(senders) != 1 or not usable or set(query) - {"from", "to", "tls"}:
        raise _not_an_address()
    encrypted = query.get("tls", ["yes"]) != ["no"]
    if parts.username and not encrypted and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise BadInputError("Without TLS the password would be readable on its way;", advice="leave out tls=no.")
    return MailAddress(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        sender=senders[0],
        recipients=tuple(recipients),
        encrypted=encrypted,
    )


def send_mail(
    address: MailAddress, subject: str, body: str, attachment: Attachment | None = None
) -> SendFailure | None:
    """Hand in one mail, and return why it was not taken, None where it was."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = address.sender, ", ".join(address.recipients), subject
    mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(domain=address.sender.rpartition("@")[2])
    # So that no out-of-office reply comes back.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(body)
    if attachment is not None:
        mail.add_attachment(attachment.text, subtype=attachment.subtype, filename=attachment.name)
    try:
        with _connect(address) as server:
            if address.user:
                server.login(address.user, address.password)
            refused = server.send_message(mail)
    except smtplib.SMTPAuthenticationError:
        return SendFailure(text="its server refused the login")
    except smtplib.SMTPResponseException as error:
        return SendFailure(text=f"its server answered with {error.smtp_code}", again=error.smtp_code in _PASSING)
    except smtplib.SMTPRecipientsRefused as error:
        again = all(code in _PASSING for code, _ in error.recipients.values())
        return SendFailure(text="its server refused all recipients", again=again)
    except smtplib.SMTPException as error:
        return SendFailure(text=f"its server does not speak SMTP as expected ({type(error).__name__})")
    except ssl.SSLError:
        return SendFailure(text="its server has no certificate that is trusted")
    except TimeoutError:
        return SendFailure(text="its server did not answer in time")
    except OSError:
        return SendFailure(text="its server could not be reached", again=True)
    return SendFailure(text="its server refused a recipient") if refused else None


def _connect(address: MailAddress) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if address.scheme == "smtps":
        return smtplib.SMTP_SSL(address.host, address.port, timeout=_SECONDS, context=context)
    server = smtplib.SMTP(address.host, address.port, timeout=_SECONDS)
    try:
        if address.encrypted:
            server.starttls(context=context)
    except BaseException:
        server.close()
        raise
    return server


def _not_an_address() -> BadInputError:
    return BadInputError("That is not the address of a mail server;", advice=f"write it as {FORM}.")
