"""Redact secrets from texts and values before they are stored, shown or sent: known ones and well-known shapes."""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import quote, quote_plus

import re2

from core.common.safe_text import printable

Parts = tuple[str, str, str]
"""What stays before a secret, the secret, and what stays after it."""

REDACTED = "[redacted]"
"""What stands where a secret stood."""

_SENSITIVE_WORD = (
    # Wherever it stands in a name.
    r"(?:password|passwd|passphrase|pwd|secret|token|requirepass|masterauth|auth[_-]?string|credentials?|webhook"
    r"|(?:api|app|access|private|encryption|account|shared|signing|master|session|licen[cs]e|hmac|jwt|crypt|deploy"
    r"|storage|admin)[_-]?key)"
)
# These name a secret only as a whole word of a longer name: DB_PASS, not bypass.
_SENSITIVE_PART = r"(?:pass|passcode|pw|salt|pepper|dsn|creds?|cookie)"
_KEY_VARIABLE = r"(?-i:[A-Z0-9]+(?:_[A-Z0-9]+)*_KEY)"
_NAME = (
    rf"(?:[\w.-]*{_SENSITIVE_WORD}[\w.-]*|\b(?:[\w.-]*[_.-])?{_SENSITIVE_PART}(?:[_-]?\d+)?\b"
    rf"|\b{_KEY_VARIABLE}(?:_\d+)?\b)"
)
_SECRET_NAME = re2.compile(rf"(?i)^{_NAME}$")
# A name with these endings gives the place or the number of secrets, not a secret.
_NAMES_NO_SECRET = re2.compile(
    r"(?i)[_.-]?(?:file|path|name|dir|url|uri|type|count|counts|length|limit|expiry|expires|expired|expires_in|ttl"
    r"|id|status|state|valid|required|missing|present|set|scope|secret_names|tokeni[sz]er\w*|secretar\w+"
    r"|(?:public|primary|foreign|cache|sort|partition|routing|idempotency|unique|group|lookup|host)[_-]?key)$"
)
_WEBHOOK_NAME = re2.compile(r"(?i)webhook(?:[_-]?ur[li])?$")
_COUNTED = re2.compile(r"(?i)(?:tokens|pass|salt|passcode)$")
_PLACE = re2.compile(r"[~.]{0,2}/(?:run|etc|var|srv|home|root|opt|tmp|app|data|usr|mnt|secrets|config|certs)/[\w./-]+")
_WORKING_FOLDER = re2.compile(r"(?i)(?:old)?pwd$")
_PLAIN_WORD = re2.compile(r"[a-z]+|[A-Z]?[a-z]+ed")
_NO_VALUE = frozenset({"", "none", "null", "nil", "true", "false", "undefined", "missing", "unset", "''", '""', "ok"})

# What follows an option's name where it is spoken about, not given.
_SPOKEN_OF = frozenset({"is", "was", "not", "must", "has", "option", "directive", "and", "or", "in", "set", "with"})

_SHAPES = re2.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[\s\S]*?-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|[\s\S]*)"
    # The same in base64, as in a kubeconfig.
    r"|\bLS0tLS1CRUdJTi[A-Za-z0-9+/]{20,}={0,2}|\bAGE-SECRET-KEY-1[A-Z0-9]{40,}"
    r"|\b[MNO][A-Za-z0-9_-]{22,28}\.[A-Za-z0-9_-]{6,7}\.[A-Za-z0-9_-]{27,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|\b(?:AKIA|ASIA|ABIA)[A-Z0-9]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{30,}|\bgl(?:pat|dt|rt|ptt|cbt|oas)-[A-Za-z0-9_-]{16,}"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{10,}|\bsk-[A-Za-z0-9_-]{20,}|\bAIza[A-Za-z0-9_-]{35}"
    r"|\bGOCSPX-[A-Za-z0-9_-]{20,}|\b1//0[A-Za-z0-9_-]{30,}|\bEAAA[A-Za-z0-9_-]{56,}|\bsq0(?:csp|atp)-[A-Za-z0-9_-]{20,}"
    r"|\bpnu_[A-Za-z0-9]{30,}|\bmfa\.[A-Za-z0-9_-]{20,}|\d{8,10}:AA[A-Za-z0-9_-]{30,}|\bSG\.[\w-]{16,}\.[\w-]{16,}"
    r"|\b(?:[sr]k_(?:live|test)|whsec|npm|dckr_pat|do[opr]_v1|hf|rubygems|gsk|lin_api|ntn|sbp|glsa|sntrys|nfp|pscale_tkn)"
    r"_[A-Za-z0-9_-]{16,}|\bpypi-[A-Za-z0-9_-]{16,}|\bshp(?:at|ca|pa|ss)_[a-f0-9]{32}|\btskey-[a-z]+-[A-Za-z0-9-]{16,}"
    r"|\b(?:ya29|hv[sbr])\.[A-Za-z0-9_-]{16,}|\bdapi[a-f0-9]{32}\b|\bNRAK-[A-Z0-9]{27}\b|\bPMAK-[a-f0-9-]{50,}"
    r"|\bATATT3[A-Za-z0-9_=-]{30,}|\bkey-[a-f0-9]{32}\b|\bSK[a-f0-9]{32}\b|\b[a-f0-9]{32}-us\d{1,2}\b"
    r"|\b[A-Za-z0-9_~.-]{3}8Q~[A-Za-z0-9_~.-]{31,}"
    # Hashes of passwords, as htpasswd and /etc/shadow write them.
    r"|\$(?:2[abxy]|5|6|7|y|apr1|argon2(?:id?|d))\$[./A-Za-z0-9$=,+-]{20,}"
)
_IN_URL = re2.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s:/?#@\"'<>]*:)([^\s/?#\"'<>]+)@")
_ALONE_IN_URL = re2.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([A-Za-z0-9_-]{20,})@")
_WEBHOOK = re2.compile(
    r"(/api/(?:v\d+/)?webhooks/\d+/)([A-Za-z0-9_-]+)|(hooks\.slack\.com/(?:services|workflows|triggers)/)([\w/-]+)"
    r"|(\.webhook\.office\.com/webhookb2/)([\w@/-]+)|([?&;](?:sig|signature|x-amz-(?:signature|security-token))=)([\w%+/=-]{16,})"
)
_HEADER = re2.compile(
    r"(?i)(\b(?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?digest\s+)([^\r\n]+)"
    r"|(\b(?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|bot|token|digest|apikey)\s+)?)([^\s\"',;]+)"
    r"|(\b(?:set-)?cookie[\"']?\s*[:=]\s*[\"']?)([^\r\n\"']+)"
    r"|(\b(?:x-api-key|x-auth-token|private-token|x-vault-token)[\"']?\s*[:=]\s*[\"']?)([^\s\"',;]+)"
    r"|(\b(?:bearer|basic)\s+)([A-Za-z0-9._~+/-]{12,}=*)"
)
# Words or an option before a secret.
_SPOKEN = re2.compile(
    r"(?i)(\b(?:generated|initial|temporary|default|new|root)\b[^\n]{0,40}\bpassword\b[^\n:]{0,60}:\s*)([^\s;,]+)"
    r"|(\b(?:password|passphrase|secret|token) is:?\s+)([^\s;,]*\d[^\s;,]*)"
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
    rf"(?i)({_NAME}[\"']?\s?=>?\s?){_VALUE}"
    # "name": "value", as in JSON, also in JSON that is a text of JSON
    rf"|([\"']{_NAME}\\*[\"']\s?:\s?){_VALUE}"
    # name: value alone on its line, as in YAML
    rf"|((?m:^)[\s-]*{_NAME}:[ \t]+){_YAML_VALUE}"
    # --name value, as on a command line
    rf"|(--{_NAME}[ \t]+){_VALUE}"
)


def is_secret_name(name: str) -> bool:
    """Whether a variable, field or option of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None and _may_hold_secret(name)


def _may_hold_secret(name: str) -> bool:
    return _NAMES_NO_SECRET.search(name) is None or _WEBHOOK_NAME.search(name) is not None


def is_working_folder(name: str, value: str) -> bool:
    """Whether a variable is a shell's PWD or OLDPWD, which has the name of a password and holds a path."""
    return _WORKING_FOLDER.match(name) is not None and value.startswith("/")


def is_no_value(value: str) -> bool:
    """Whether the value under a secret's name says that there is none."""
    return value.lower() in _NO_VALUE


_RANDOM_RUN = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
_DIGEST = re.compile(r"(?:sha(?:1|256|384|512)|md5|digest|commit|revision|rev)[:=@-]$", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_LEAST_BITS = 3.0
_LEAST_CHANGES = 0.3
_LEAST_DIGITS = 2


def random_parts(text: str) -> list[str]:
    """Return the random-looking parts of a text: long, with many different characters of changing kinds.

    For declarations, where a digest is marked as one; in a log, ids look the same.
    """
    return [
        found[0]
        for found in _RANDOM_RUN.finditer(text)
        if _DIGEST.search(text[: found.start()]) is None and _looks_random(found[0].rstrip("="))
    ]


def _looks_random(run: str) -> bool:
    if _UUID.fullmatch(run) is not None or sum(one.isdigit() for one in run) < _LEAST_DIGITS:
        return False
    kinds = ["d" if one.isdigit() else "u" if one.isupper() else "l" if one.islower() else "s" for one in run]
    # Words, paths and names change between letters and digits at their borders only.
    changes = sum(one != other for one, other in pairwise(kinds))
    counts = Counter(run)
    bits = -sum(count / len(run) * math.log2(count / len(run)) for count in counts.values())
    return bits >= _LEAST_BITS and changes >= _LEAST_CHANGES * len(run) and kinds.count("s") <= len(run) / 8


def _pair(match: re2._Match) -> Parts:
    at = next(index for index in range(1, match.re.groups, 2) if match[index] is not None)
    return match[at], match[at + 1], ""


def _header(match: re2._Match) -> Parts | None:
    before, value, after = _pair(match)
    is_word = match[9] is not None and _PLAIN_WORD.fullmatch(value) is not None
    return None if is_word else (before, value, after)


def _spoken(match: re2._Match) -> Parts | None:
    before, value, after = _pair(match)
    return None if value.lower() in _SPOKEN_OF or value == REDACTED else (before, value, after)


def _named(match: re2._Match) -> Parts | None:
    before, value, _ = _pair(match)
    name = before.strip(" \t\n-=>:\"'\\")
    bare = value.strip("\\\"'")
    if (
        not _may_hold_secret(name)
        or is_no_value(bare)
        or _PLACE.fullmatch(bare) is not None
        or is_working_folder(name, bare)
        or (_COUNTED.search(name) is not None and bare.rstrip(".").isdecimal())
    ):
        return None
    mark = _QUOTE.match(value)[0]
    ended = len(value) - len(mark) if mark and value.endswith(mark) and len(value) > len(mark) else len(value)
    return before + mark, value[len(mark) : ended], mark


PATTERNS: tuple[tuple[re2._Regexp, Callable[[re2._Match], Parts | None]], ...] = (
    (_SHAPES, lambda match: ("", match[0], "")),
    *((pattern, lambda match: (match[1], match[2], "@")) for pattern in (_IN_URL, _ALONE_IN_URL)),
    (_WEBHOOK, _pair),
    (_HEADER, _header),
    (_SPOKEN, _spoken),
    (_NAMED, _named),
)


_SHORTEST_VALUE = 6
_SHORTEST_LINE = 16
_SHORTEST_ENCODED = 10
_PIECE = 8
_LONG = 256
_PATTERN_BYTES = 64 * 1024 * 1024

# Words, numbers and addresses: under a secret's name they are often no secrets, and they are in every log.
_PLAIN = re2.compile(
    r"[A-Za-z]+(?:[ ._-][A-Za-z]+)*|[\d.:,-]+|[~.]{0,2}/[\w./-]*|[A-Za-z][A-Za-z0-9+.-]*://[\w.:-]+(?:/[A-Za-z._-]*)*"
)
_WORDLESS_NAME = re2.compile(r"(?i)(?:key|salt|pepper|dsn|cookie|webhook)(?:[_-]?(?:url|uri|\d+))?$")
# The first and the last words of lines, behind the engine's time stamp: a secret may be broken between lines there.
_ENDS = re2.compile(r"(?m:^)(?:\d{4}-\d\d-\d\dT[\d:.]+Z? )?(\S{8,})|(\S{8,})[ \t]*(?m:$)")


class Redactor:
    """Redacts known values in every usual spelling, and everything that has the shape of a secret.

    A known value shorter than 6 characters is only redacted beside its name: searching for it would remove ordinary
    words.
    """

    def __init__(self, known_values: Iterable[str]) -> None:
        found = {spelling for value in known_values for spelling in _spellings(value)}
        # Longest first: a secret that contains another one goes as a whole.
        ordered = sorted(found, key=lambda spelling: (-len(spelling), spelling))
        self._long = [one for one in ordered if len(one) > _LONG]
        self._known = _any_of(one for one in ordered if len(one) <= _LONG)
        breakable = [one for one in ordered if len(one) >= 2 * _PIECE and not any(map(str.isspace, one))]
        self._joined = "\n".join(breakable)
        self._pieces = {one[at : at + _PIECE] for one in breakable for at in range(len(one) - _PIECE + 1)}
        self._edges = _any_of(sorted({edge for one in breakable for edge in (one[:_PIECE], one[-_PIECE:])}))

    def text(self, text: str) -> str:
        """The text without secrets, readable still: names, users and hosts stay."""
        for spelling in self._long:
            text = text.replace(spelling, REDACTED)
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        # Looking at each line costs more than all else, and is seldom needed.
        if self._edges is not None and "\n" in text and self._edges.search(text) is not None:
            text = _ENDS.sub(self._without_piece, text)
        for pattern, parts in PATTERNS:
            text = pattern.sub(lambda match, parts=parts: _without(match, parts(match)), text)
        return text

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
        if not is_secret_name(name) or value is None or isinstance(value, bool):
            return self.value(value)
        if isinstance(value, dict):
            return {str(inner): self._under(f"{name}.value", kept) for inner, kept in value.items()}
        if isinstance(value, list | tuple):
            return [self._under(name, inner) for inner in value]
        return value if is_no_value(str(value)) else REDACTED

    def _without_piece(self, match: re2._Match) -> str:
        """The first or last word of a line without a piece of a secret that is broken at the end of the line."""
        group = 1 if match[1] is not None else 2
        word = match[group]
        before = match[0][: match.start(group) - match.start()]
        after = match[0][match.end(group) - match.start() :]
        if word[-_PIECE:] in self._pieces:
            begin = len(word) - _PIECE
            while begin and word[begin - 1 :] in self._joined:
                begin -= 1
            word = word[:begin] + REDACTED
        elif word[:_PIECE] in self._pieces:
            end = _PIECE
            while end < len(word) and word[: end + 1] in self._joined:
                end += 1
            word = REDACTED + word[end:]
        return f"{before}{word}{after}"


def secrets_among(variables: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Return the values that are secrets by the names of their variables or their shape, and the secrets inside them.

    A value that a variable of another name also has, such as a user name as a password, is not redacted.
    """
    given = list(variables)
    shown = {value for name, value in given if not is_secret_name(name)}
    for name, value in given:
        # A plain word is no secret where another variable has it, or the name is vague.
        plain = (value in shown or _WORDLESS_NAME.search(name)) and _PLAIN.fullmatch(value)
        if not is_secret_name(name):
            yield from random_parts(value)
        elif not (plain or is_no_value(value) or is_working_folder(name, value)):
            yield value
        yield from secrets_in(value)


def secrets_in(text: str) -> Iterator[str]:
    """The secrets that a text shows by their looks or by the words before them, but no plain words."""
    for pattern, parts in PATTERNS:
        for match in pattern.finditer(text):
            found = parts(match)
            if found is None or found[1] == REDACTED:
                continue
            # Between the user and the host of an address a plain word is a password too.
            if found[2] == "@" or not _PLAIN.fullmatch(found[1]):
                yield found[1]


def _any_of(spellings: Iterable[str]) -> re2._Regexp | None:
    """One pattern for many texts: it takes a tenth of the time that replacing each of them takes."""
    options = re2.Options()
    options.max_mem = _PATTERN_BYTES
    joined = "|".join(map(re2.escape, spellings))
    return re2.compile(joined, options) if joined else None


def _without(match: re2._Match, parts: tuple[str, str, str] | None) -> str:
    return str(match[0]) if parts is None else f"{parts[0]}{REDACTED}{parts[2]}"


def _spellings(value: str) -> set[str]:
    value = value.strip()
    if len(value) < _SHORTEST_VALUE:
        return set()
    data = value.encode("utf-8", "replace")
    escaped, quoted = json.dumps(value)[1:-1], quote(value, safe="")
    return {
        value,
        # As it is once the text was made safe to show, and in the lines of YAML and shells.
        *(printable(value), value.replace("'", "''"), value.replace("'", "'\\''")),
        *(quoted, quoted.replace("%20", "+"), quote(value), quote_plus(value)),
        re.sub("%[0-9A-F]{2}", lambda escape: escape[0].lower(), quoted),
        *(escaped, json.dumps(escaped)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]),
        *(data.hex(), data.hex().upper()),
        *(one for alignment in range(3) for one in _in_base64(data, alignment)),
        # A log writes a secret of many lines line by line, each with its own prefix.
        *(line.strip() for line in value.splitlines() if len(line.strip()) >= _SHORTEST_LINE),
    }


def _in_base64(data: bytes, alignment: int) -> set[str]:
    """Return the parts of the base64 text of a value that are the same at any position in a longer text."""
    encoded = [encode(b"\0" * alignment + data).decode() for encode in (base64.b64encode, base64.urlsafe_b64encode)]
    whole = set() if alignment else {*encoded, *(one.rstrip("=") for one in encoded)}
    # The first and the last characters depend on the bytes around them.
    kept = slice(-(-alignment * 8 // 6), (alignment + len(data)) * 8 // 6)
    return whole | {one[kept] for one in encoded if len(one[kept]) >= _SHORTEST_ENCODED}
