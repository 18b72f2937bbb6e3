"""Redaction: secrets are taken out of texts and values before anything is written, shown or sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import re2

REDACTED = "[redacted]"
"""What stands where a secret stood."""

_SHORTEST_VALUE = 6
_SHORTEST_LINE = 16

_SENSITIVE_WORD = (
    r"(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|(?:encryption|account|shared)[_-]?key"
    r"|signing[_-]?key|credentials?|requirepass|masterauth|auth[_-]?string)"
)
_SECRET_NAME = re2.compile(rf"(?i)^[\w.-]*{_SENSITIVE_WORD}[\w.-]*$")
# A name that ends so tells where a secret lies or how many there are, not what it is.
_NAMES_NO_SECRET = re2.compile(
    r"(?i)[_.-]?(?:file|path|name|dir|url|uri|type|count|counts|length|limit|expiry|expires|expired|expires_in|ttl"
    r"|id|status|state|valid|required|missing|present|set|scope|secret_names|tokeni[sz]er\w*|secretar\w+)$"
)
_COUNTED = re2.compile(r"(?i)tokens$")
_PLACE = re2.compile(r"[~.]{0,2}/(?:run|etc|var|srv|home|root|opt|tmp|app|data|usr|mnt|secrets|config|certs)/[\w./-]+")
_PLAIN_WORD = re2.compile(r"[a-z]+|[A-Z]?[a-z]+ed")
_NO_VALUE = frozenset({"", "none", "null", "nil", "true", "false", "undefined", "missing", "unset", "''", '""'})

# What follows an option's name where it is spoken about, not given.
_SPOKEN_OF = frozenset({"is", "was", "not", "must", "has", "option", "directive", "and", "or", "in", "set", "with"})

_SHAPES = re2.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[\s\S]*?-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|[\s\S]*)"
    r"|\b[MNO][A-Za-z0-9_-]{22,28}\.[A-Za-z0-9_-]{6,7}\.[A-Za-z0-9_-]{27,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{30,}|\bglpat-[A-Za-z0-9_-]{16,}"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{10,}|\bsk-[A-Za-z0-9_-]{20,}|\bAIza[A-Za-z0-9_-]{35}"
    r"|\bpnu_[A-Za-z0-9]{30,}|\bmfa\.[A-Za-z0-9_-]{20,}|\d{8,10}:AA[A-Za-z0-9_-]{30,}|\bSG\.[\w-]{16,}\.[\w-]{16,}"
    r"|\b(?:[sr]k_(?:live|test)|whsec|npm|dckr_pat|dop_v1|hf)_[A-Za-z0-9_-]{16,}|\bpypi-[A-Za-z0-9_-]{16,}"
    r"|\b(?:ya29|hvs)\.[A-Za-z0-9_-]{16,}"
)
_IN_URL = re2.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s:/?#@\"'<>]*:)([^\s/?#\"'<>]+)@")
_ALONE_IN_URL = re2.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[A-Za-z0-9_-]{20,}@")
_WEBHOOK = re2.compile(
    r"(/api/(?:v\d+/)?webhooks/\d+/)[A-Za-z0-9_-]+|(hooks\.slack\.com/(?:services|workflows|triggers)/)[\w/-]+"
)
_HEADER = re2.compile(
    r"(?i)(\b(?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?digest\s+)[^\r\n]+"
    r"|(\b(?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|bot|token|digest|apikey)\s+)?)[^\s\"',;]+"
    r"|(\b(?:x-api-key|x-auth-token|set-cookie|cookie)[\"']?\s*[:=]\s*[\"']?)[^\s\"',;]+"
    r"|(\b(?:bearer|basic)\s+)([A-Za-z0-9._~+/-]{12,}=*)"
)
# Where words or an option tell that what follows is a secret.
_SPOKEN = re2.compile(
    r"(?i)(\b(?:generated|initial|temporary|default|new|root)\b[^\n]{0,40}\bpassword\b[^\n:]{0,60}:\s*)([^\s;,]+)"
    r"|(\b(?:password|passphrase|secret|token) is:\s*)([^\s;,]+)"
    r"|(\b(?:identified by|password|passwd)\s+')([^'\n]+)"
    r"|(<[\w:-]*(?:password|secret|token|passphrase)[\w:-]*>)([^<\s]+)"
    r"|(\"auth\"\s+(?:\"[^\"\n]*\"\s+)?\")([^\"\n]+)"
    r"|(\b(?:requirepass|masterauth)[ \t]+[\"']?)([^\s\"']+)"
    r"|(\bredis-cli\b[^\n|;&]{0,80}\s-a\s+)(\S+)"
    r"|(\b(?:mysql|mysqladmin|mysqldump|mariadb)\b[^\n|;&]{0,80}\s-p)(\S+)"
    r"|(\bcurl\b[^\n|;&]{0,200}\s-u\s*[^\s:]+:)(\S+)"
    r"|(\bsshpass\s+-p\s*)(\S+)"
)
_VALUE = r"(\[redacted\]|\\+\"[^\"\\\n]*\\+\"|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|[^\s\"',;&)\]}]+)"
_QUOTE = re2.compile(r"(?:\\*[\"'])?")
_YAML_VALUE = r"([^\s\"'][^\s]*|\"[^\"\n]*\"|'[^'\n]*')[ \t]*(?:#[^\n]*)?(?m:$)"
_NAMED = re2.compile(
    # name=value, as in a shell, a query or a connection string
    rf"(?i)([\w.-]*{_SENSITIVE_WORD}[\w.-]*[\"']?\s?=>?\s?){_VALUE}"
    # "name": "value", as in JSON, also in JSON that is a text of JSON
    rf"|([\"'][\w.-]*{_SENSITIVE_WORD}[\w.-]*\\*[\"']\s?:\s?){_VALUE}"
    # name: value alone on its line, as in YAML
    rf"|((?m:^)[\s-]*[\w.-]*{_SENSITIVE_WORD}[\w.-]*:[ \t]+){_YAML_VALUE}"
    # --name value, as on a command line
    rf"|(--[\w-]*{_SENSITIVE_WORD}[\w-]*[ \t]+){_VALUE}"
)


class Redactor:
    """Takes secrets out: known values in any usual spelling, and whatever has the shape of a secret.

    A known value shorter than 6 characters is not searched for, since it would blot out ordinary words; it is
    still taken out where its name stands beside it.
    """

    def __init__(self, known_values: Iterable[str]) -> None:
        spellings = {spelling for value in known_values for spelling in _spellings(value)}
        # Longest first: a secret that contains another one goes as a whole.
        self._spellings = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))

    def text(self, text: str) -> str:
        """The text without secrets, readable still: names, users and hosts stay."""
        for spelling in self._spellings:
            text = text.replace(spelling, REDACTED)
        text = _SHAPES.sub(REDACTED, text)
        text = _IN_URL.sub(rf"\1{REDACTED}@", text)
        text = _ALONE_IN_URL.sub(rf"\1{REDACTED}@", text)
        text = _WEBHOOK.sub(lambda match: f"{match[1] or match[2]}{REDACTED}", text)
        text = _HEADER.sub(_header_without_value, text)
        text = _SPOKEN.sub(_spoken_without_value, text)
        return str(_NAMED.sub(_without_value, text))

    def value(self, value: Any) -> Any:
        """The same for a JSON value: every text in it, and whatever stands under a secret's name."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(name)): self._under(str(name), inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        return value

    def _under(self, name: str, value: Any) -> Any:
        if not _is_secret(name) or value is None or isinstance(value, bool):
            return self.value(value)
        if isinstance(value, dict):
            return {str(inner): self._under(f"{name}.value", kept) for inner, kept in value.items()}
        if isinstance(value, list | tuple):
            return [self._under(name, inner) for inner in value]
        return value if str(value).lower() in _NO_VALUE else REDACTED


def secrets_among(variables: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The values that are secrets by the names of their variables, and the passwords inside of URLs."""
    for name, value in variables:
        if _is_secret(name):
            yield value
        yield from (match[2] for match in _IN_URL.finditer(value))


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None and _NAMES_NO_SECRET.search(name) is None


def _header_without_value(match: re2._Match) -> str:
    if match[4] is not None and _PLAIN_WORD.fullmatch(match[5]) is not None:
        return str(match[0])
    return f"{match[1] or match[2] or match[3] or match[4]}{REDACTED}"


def _spoken_without_value(match: re2._Match) -> str:
    before, value = next((match[group], match[group + 1]) for group in range(1, 20, 2) if match[group] is not None)
    if value.lower() in _SPOKEN_OF or value == REDACTED:
        return str(match[0])
    return f"{before}{REDACTED}"


def _without_value(match: re2._Match) -> str:
    before, value = next((match[group], match[group + 1]) for group in (1, 3, 5, 7) if match[group] is not None)
    name = before.strip(" \t\n-=:\"'")
    bare = value.strip("\\\"'")
    if (
        _NAMES_NO_SECRET.search(name) is not None
        or bare.lower() in _NO_VALUE
        or _PLACE.fullmatch(bare) is not None
        or (_COUNTED.search(name) is not None and bare.isdecimal())
    ):
        return str(match[0])
    mark = _QUOTE.match(value)[0]
    return f"{before}{mark}{REDACTED}{mark}"


def _spellings(value: str) -> set[str]:
    value = value.strip()
    if len(value) < _SHORTEST_VALUE:
        return set()
    data = value.encode("utf-8", "replace")
    encoded = {base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()}
    spellings = {
        value,
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        data.hex(),
        *encoded,
        *(text.rstrip("=") for text in encoded),
    }
    # A log writes a secret of many lines line by line, each with its own prefix.
    spellings.update(line.strip() for line in value.splitlines() if len(line.strip()) >= _SHORTEST_LINE)
    return spellings
