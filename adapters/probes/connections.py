"""Probes of a connection alone: whether a port accepts one, and how long the certificate of a TLS port is valid."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509

from adapters.probes.addresses import Address
from adapters.probes.outcome import Outcome, ProbeFailed
from models.analysis import Level
from models.environments import CertificateProbe
from models.health import Reading


async def ask_tcp(place: Address) -> Outcome:
    """Open a connection."""
    try:
        reader, writer = await asyncio.open_connection(place.host, place.port)
    except OSError as error:
        raise ProbeFailed(f"connection to {place} failed: {error.strerror or error}") from error
    try:
        if place.proxied:
            try:
                async with asyncio.timeout(0.2):
                    if not await reader.read(1):
                        raise ProbeFailed(f"{place} accepts and closes at once: nothing listens inside")
            except TimeoutError:
                # A server that waits for its client keeps the connection open and silent.
                return f"{place} accepts connections", ()
            except OSError as error:
                raise ProbeFailed(f"{place} accepts and breaks off: nothing listens inside") from error
    finally:
        writer.close()
    return f"{place} accepts connections", ()


async def read_certificate(probe: CertificateProbe, place: Address) -> Outcome:
    """Read how long the certificate of a TLS port is valid."""
    # The certificate is only read, not verified: a self-signed one expires as well.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection(
            place.host, place.port, ssl=context, server_hostname=probe.server_name or place.host
        )
    except (OSError, ssl.SSLError) as error:
        raise ProbeFailed(f"no TLS connection to {place}: {error}") from error
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
    ends = x509.load_der_x509_certificate(shown).not_valid_after_utc
    days = (ends - datetime.now(UTC)) / timedelta(days=1)
    limit = next((threshold for threshold in (probe.critical_days, probe.warning_days) if days < threshold), None)
    over = f"certificate has expired {-days:.1f} days ago" if days < 0 else f"certificate expires in {days:.1f} days"
    reading = Reading(
        metric="certificate_days",
        value=days,
        words=f"its {over}, on {ends:%Y-%m-%d %H:%M} UTC",
        concern=Level.NONE if limit is None else Level.CRITICAL if days < probe.critical_days else Level.WARNING,
        threshold=limit,
    )
    return f"TLS answers, its {over}", (reading,)
