"""Probe of a DNS server: it resolves a name itself."""

from __future__ import annotations

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from adapters.probes.addresses import Address
from adapters.probes.outcome import Outcome, ProbeFailed
from models.environments import DnsProbe

_ADVICE = {
    dns.rcode.NXDOMAIN: "the name does not exist there; is its zone loaded?",
    dns.rcode.SERVFAIL: "its own servers, or the zone's, do not answer; its log says why",
    dns.rcode.REFUSED: "it does not answer this client; is the client allowed, and the zone loaded?",
    dns.rcode.NOTAUTH: "it is not responsible for this zone",
}


async def ask_dns(probe: DnsProbe, place: Address) -> Outcome:
    """Ask the server for the name, over UDP and, where the answer is cut off, over TCP."""
    query = f"query {probe.query_name} {probe.query_type}"
    try:
        name = dns.name.from_text(probe.query_name)
        question = dns.message.make_query(name, probe.query_type)
    except (dns.exception.DNSException, UnicodeError, ValueError) as error:
        raise ProbeFailed(f"{probe.query_name!r} cannot be asked for: {error}") from error
    try:
        answer, _ = await dns.asyncquery.udp_with_fallback(
            question, place.host, port=place.port, ignore_unexpected=True
        )
    except dns.exception.Timeout as error:
        raise TimeoutError from error
    except OSError as error:
        raise ProbeFailed(
            f"{query} failed: {error.strerror or error}; does it listen on UDP port {probe.port}?"
        ) from error
    except dns.exception.DNSException as error:
        raise ProbeFailed(f"{query} was not answered as DNS: {error}; is {probe.port} the right port?") from error
    code = answer.rcode()
    if code != dns.rcode.NOERROR:
        advice = _ADVICE.get(code, "its log says why")
        raise ProbeFailed(f"{query} was answered {dns.rcode.to_text(code)}: {advice}")
    answers = _answers(answer, dns.rdatatype.from_text(probe.query_type))
    if not answers:
        raise ProbeFailed(f"{query} has no answer: the name has no record of this type there")
    shown = ", ".join(answers[:5])
    if probe.answer is not None and _plain(probe.answer) not in map(_plain, answers):
        raise ProbeFailed(f"{query} was answered {shown}, not {probe.answer}")
    return f"{query} was answered {shown}", ()


def _answers(answer: dns.message.Message, kind: dns.rdatatype.RdataType) -> list[str]:
    return [record.to_text() for records in answer.answer if records.rdtype == kind for record in records]


def _plain(text: str) -> str:
    """An answer as it is compared: without quotes, the last dot of a name, and case."""
    return text.strip('"').removesuffix(".").lower()
