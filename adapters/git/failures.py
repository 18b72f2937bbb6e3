"""What a failure of git means, in one line: its own words may quote addresses and go over many lines."""

from __future__ import annotations

import re

from adapters.git.program import GitResult
from models.failures import SourceError, SourceUnreachableError
from models.sources import GitSource

_UNREACHABLE = re.compile(
    r"could not resolve host|failed to connect|connection (?:timed out|refused|reset)|couldn't connect|timed out"
    r"|network is unreachable|no route to host|operation too slow|the remote end hung up|early eof"
    r"|requested url returned error: (?:5\d\d|429)|could not resolve hostname|connection closed",
    re.IGNORECASE,
)
_AUTHENTICATION = re.compile(
    r"authentication failed|could not read (?:username|password)|requested url returned error: 40[13]"
    r"|permission denied \(|invalid username or (?:password|token)|terminal prompts disabled",
    re.IGNORECASE,
)
_HOST_KEY = re.compile(
    r"host key verification failed|no matching host key|host identification has changed", re.IGNORECASE
)
_NO_REF = re.compile(r"couldn't find remote ref|remote ref .* not found", re.IGNORECASE)
_NO_REPOSITORY = re.compile(
    r"does not appear to be a git repository|repository .*not found|requested url returned error: 404|no such file",
    re.IGNORECASE,
)
_CERTIFICATE = re.compile(r"certificate|SSL|gnutls", re.IGNORECASE)
_REDIRECT = re.compile(r"redirect|requested url returned error: 30\d", re.IGNORECASE)
_OWNER = re.compile(r"dubious ownership", re.IGNORECASE)
_PROTOCOL = re.compile(r"transport '.*' not allowed", re.IGNORECASE)
_DISK = re.compile(r"no space left|disk quota", re.IGNORECASE)
_TOO_LARGE = re.compile(r"file too large", re.IGNORECASE)
_LINE = re.compile(r"^(?:fatal|error|remote): ?(.+)$", re.MULTILINE)
_LONGEST = 200


def fetch_failure(environment: str, source: GitSource, result: GitResult) -> SourceError:
    """Return the error that a failed fetch means, and what to try."""
    output, where = result.err, f"the repository of {environment} ({source.repository})"
    if _HOST_KEY.search(output):
        return SourceError(
            f"The host key of {where} is not known or has changed;",
            advice="put the server's key, as its operator publishes it, into source.known_hosts.",
        )
    if _NO_REF.search(output):
        return SourceError(
            f"There is no {source.follows} in {where};",
            advice="was it deleted or renamed? Correct source.branch or source.tag.",
        )
    if _REDIRECT.search(output):
        return SourceError(
            f"{where[0].upper()}{where[1:]} has moved: its server redirects;",
            advice="write the new address into source.repository.",
        )
    if _AUTHENTICATION.search(output):
        how = "source.ssh_key" if source.ssh_key else "the token of source.token_secret"
        return SourceError(
            f"The server of {where} does not let us in;",
            advice=f"check {how}: is it there, still valid, and may it read this repository?",
        )
    if _OWNER.search(output):
        return SourceError(
            f"{where[0].upper()}{where[1:]} belongs to another user;", advice="read it over ssh or https."
        )
    if _PROTOCOL.search(output):
        return SourceError(
            f"{where[0].upper()}{where[1:]} needs a protocol that is refused;", advice="use https or ssh."
        )
    if _TOO_LARGE.search(output):
        return SourceError(
            f"{where[0].upper()}{where[1:]} sends more than {source.max_mib:,} MiB at once;",
            advice="raise source.max_mib, or take large files out of its history.",
        )
    if _DISK.search(output):
        return SourceError(f"The disk is full, so {where} was not fetched;", advice="make room in the data folder.")
    if _NO_REPOSITORY.search(output):
        return SourceError(
            f"There is no repository at {source.repository}, or not for us;",
            advice="correct source.repository, or give a token or key that may read it.",
        )
    if _UNREACHABLE.search(output):
        return SourceUnreachableError(
            f"The server of {where} did not answer;", advice="does it run, and does this machine reach it?"
        )
    if _CERTIFICATE.search(output):
        return SourceError(
            f"The certificate of the server of {where} is not trusted;",
            advice="set SSL_CERT_FILE to a file with your authority's certificate (docs/how-to/trust-a-private-ca.md).",
        )
    return git_failure(f"fetch of {environment}", result)


def git_failure(what: str, result: GitResult) -> SourceError:
    """Return the error of a git command, with the last line of its own words."""
    lines = _LINE.findall(result.err) or result.err.strip().splitlines() or [f"exit code {result.exit_code}"]
    message = re.sub(r"://[^/@\s]+@", "://", lines[-1].strip())[:_LONGEST]
    return SourceError(f"Git {what} failed: {message};", advice="the repository or the data folder may be damaged.")
