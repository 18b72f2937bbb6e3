"""Define the shapes of well-known tokens, and the words before a secret.

Each pattern has a function that splits a match into the text before the secret, the secret, and the text after it;
None if the match is no secret.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import re2

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
