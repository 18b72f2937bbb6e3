"""Find secrets in a text by their shape: beside the name of a secret, in an address or a header, or random."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise, product

import re2

Parts = tuple[str, str, str]
"""What stays before a secret, the secret, and what stays after it."""

REDACTED = "[redacted]"
"""What stands where a secret stood."""

_SENSITIVE_WORD = (
    # Wherever it stands in a name.
    r"(?:passwor[dt]|passwd|passphrase|pwd|secret|token|requirepass|masterauth|auth[_-]?string|credentials?|webhook"
    r"|(?:api|app|access|private|encryption|account|shared|signing|master|session|licen[cs]e|hmac|jwt|crypt|deploy"
    r"|storage|admin|auth|subscription)[ _-]?key|code[_-]?verifier|registry[_-]auth|(?:totp|otp|mfa)[_-]?seed"
    # The same in other languages.
    r"|kennwort|geheimnis|schl(?:ü|ue)ssel|mot[ _-]?de[ _-]?passe|cl(?:é|e)f?[ _-]?secr(?:è|e)te|jeton|contrase(?:ñ|n)a"
    r"|clave[ _-]?secreta|chiave[ _-]?segreta|frase[ _-]de[ _-]paso|senha|wachtwoord|has(?:ł|l)o|l(?:ö|o)senord|passord"
    r"|salasana|adgangskode|heslo|(?:ş|s)ifre|jelsz(?:ó|o)|parol[aă]|парол[ья]|密码|密碼|口令|密钥|パスワード|비밀번호)"
)

# These name a secret only as a whole word of a longer name: DB_PASS, not bypass.
_SENSITIVE_PART = (
    r"(?:pass|passcode|(?:bind)?pw|mdp|salt|pepper|dsn|creds?|cookies?|psk|_auth|rediscli_auth|snmp_community)"
)

_KEY_VARIABLE = r"(?-i:[A-Z0-9]+(?:_[A-Z0-9]+)*_KEY)"

NAME = (
    rf"(?:[\w.-]*{_SENSITIVE_WORD}[\w.-]*|\b(?:[\w.-]*[_.-])?{_SENSITIVE_PART}(?:[_-]?\d+)?\b"
    rf"|\b{_KEY_VARIABLE}(?:_\d+)?\b|\b(?:\w+[.-])*(?-i:[a-z]\w*(?:Pass|Pw|Psk|Salt|Dsn|Creds?|Cookie))\b)"
)

_SECRET_NAME = re2.compile(rf"(?i)^{NAME}$")

# A name with these endings gives the place or the number of secrets, not a secret.
_NAMES_NO_SECRET = re2.compile(
    r"(?i)[_.-]?(?:file|path|name|dir|url|uri|type|count|counts|length|limit|expiry|expires|expired|expires_in|ttl"
    r"|id|cert-hash|status|state|valid|required|missing|present|set|scope|secret_names|tokeni[sz]er\w*|secretar\w+"
    r"|(?:public|primary|foreign|cache|sort|partition|routing|idempotency|unique|group|lookup|host)[_-]?key)$"
)

_WEBHOOK_NAME = re2.compile(r"(?i)webhook(?:[_-]?ur[li])?$")

_COUNTED = re2.compile(r"(?i)(?:tokens|pass|salt|passcode)$")

_PLACE = re2.compile(r"[~.]{0,2}/(?:run|etc|var|srv|home|root|opt|tmp|app|data|usr|mnt|secrets|config|certs)/[\w./-]+")

_WORKING_FOLDER = re2.compile(r"(?i)(?:old)?pwd$")

_PLAIN_WORD = re2.compile(r"[a-z]+|[A-Z]?[a-z]+ed")

_NO_VALUE = frozenset(
    {"", "none", "null", "nil", "true", "false", "undefined", "missing", "unset", "''", '""', "ok", "(hidden)", "***"}
)

# What follows an option's name where it is spoken about, not given.
_SPOKEN_OF = frozenset({"is", "was", "not", "must", "has", "option", "directive", "and", "or", "in", "set", "with"})

_SHAPES = re2.compile(
    r"-{4,5} ?BEGIN [\w ]*(?:PRIVATE KEY|Static key)[\w ]*-{4,5}"
    r"(?:[\s\S]*?-{4,5} ?END [\w ]*(?:PRIVATE KEY|Static key)[\w ]*-{4,5}|[\s\S]*)"
    # The same in base64, as in a kubeconfig.
    r"|\bLS0tLS1CRUdJTi[A-Za-z0-9+/]{20,}={0,2}|\bAGE-SECRET-KEY-1[A-Z0-9]{40,}"
    r"|\b[MNO][A-Za-z0-9_-]{22,28}\.[A-Za-z0-9_-]{6,7}\.[A-Za-z0-9_-]{27,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|\b(?:AKIA|ASIA|ABIA)[A-Z0-9]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{30,}|\bgl(?:pat|dt|rt|ptt|cbt|oas)-[A-Za-z0-9_-]{16,}"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{10,}|\bsk-[A-Za-z0-9_-]{20,}|\bAIza[A-Za-z0-9_-]{35}"
    # Prefixes with the length of what follows.
    r"|\b(?:figd|glc|ops|cio|lin_oauth|secret|sntryu|pscale_(?:pw|oauth|tkn)|duffel_(?:live|test)|jina|rnd|bkua"
    r"|lsv2_(?:pt|sk)|phx|tgp_v1|fm2|CLOJARS|dckr_oat|CCIPAT|r8|rdme|shippo_(?:live|test)|api_org|sb_secret|vcp|pnb|fw)"
    r"_[A-Za-z0-9_=+/-]{24,}|\bsq[puao]_[a-f0-9]{40}\b|\bpul-[a-f0-9]{40}\b"
    r"|\b(?:xai|pplx|nvapi|tvly|ico|fio-u|BBDC|xkeysib|xsmtpsib|CFPAT|pat-[a-z]{2}\d|sk-(?:lf|or|ant|proj))"
    r"-[A-Za-z0-9_-]{24,}|\bSWMTKN-1-[a-z0-9-]{40,}|\bgl(?:ft|soat|imt|agent|ffct|wt)-[A-Za-z0-9_-]{16,}"
    r"|\bGR1348941[A-Za-z0-9_-]{20}|\boy2[a-z0-9]{43}\b|\bdp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{30,}"
    r"|\bdt0[a-z]\d\d\.[A-Z0-9]{24}(?:\.[A-Z0-9]{64})?|\bEZ[AT]K[A-Za-z0-9]{54}\b|\bATCTT3[A-Za-z0-9_=-]{30,}"
    r"|\bAKCp[A-Za-z0-9]{60,}|\bLTAI[A-Za-z0-9]{16,24}\b|\beyJrIjoi[A-Za-z0-9+/=_-]{40,}|\bFLWSECK(?:_TEST)?-[A-Za-z0-9]{32}"
    r"|\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}|\bv\d\.local\.[A-Za-z0-9_-]{40,}|\bxox[de]-[A-Za-z0-9%-]{30,}"
    # A PuTTY key.
    r"|\bPrivate-Lines: *\d+(?:\r?\n[A-Za-z0-9+/=]+)+\r?(?m:$)"
    r"|\bGOCSPX-[A-Za-z0-9_-]{20,}|\b1//0[A-Za-z0-9_-]{30,}|\bEAAA[A-Za-z0-9_-]{56,}|\bsq0(?:csp|atp)-[A-Za-z0-9_-]{20,}"
    r"|\bpnu_[A-Za-z0-9]{30,}|\bmfa\.[A-Za-z0-9_-]{20,}|\d{8,10}:AA[A-Za-z0-9_-]{30,}|\bSG\.[\w-]{16,}\.[\w-]{16,}"
    r"|\b(?:[sr]k_(?:live|test)|whsec|npm|dckr_pat|do[opr]_v1|hf|rubygems|gsk|lin_api|ntn|sbp|glsa|sntrys|nfp|pscale_tkn)"
    r"_[A-Za-z0-9_-]{16,}|\bpypi-[A-Za-z0-9_-]{16,}|\bshp(?:at|ca|pa|ss)_[a-f0-9]{32}|\btskey-[a-z]+-[A-Za-z0-9-]{16,}"
    r"|\b(?:ya29|hv[sbr])\.[A-Za-z0-9_-]{16,}|\bdapi[a-f0-9]{32}\b|\bNRAK-[A-Z0-9]{27}\b|\bPMAK-[a-f0-9-]{50,}"
    r"|\bATATT3[A-Za-z0-9_=-]{30,}|\bkey-[a-f0-9]{32}\b|\bSK[a-f0-9]{32}\b|\b[a-f0-9]{32}-us\d{1,2}\b"
    r"|\b(?:tr_(?:dev|prod)_[A-Za-z0-9]{20,24}|rzp_(?:live|test)_[A-Za-z0-9]{14}(?::[A-Za-z0-9]{24})?|(?:live|test)_[A-Za-z0-9]{30}"
    r"|aio_[A-Za-z0-9]{28}|[a-z]{2}_pat_[A-Za-z0-9]{16}|re_[A-Za-z0-9]{8}_[A-Za-z0-9]{24}|pcsk_[A-Za-z0-9]{5,6}_[A-Za-z0-9]{60,}"
    r"|st\.[a-f0-9]{24}\.[a-f0-9]{32}\.[a-f0-9]{32})\b"
    # Fixed forms of single issuers.
    r"|\b(?:csk-[a-z0-9]{48}|fc-[a-f0-9]{32}|signkey-[a-z]+-[a-f0-9]{64}|dnkey-[a-z0-9]{26}-[a-z0-9]{52}|API-[A-Z0-9]{25,}"
    r"|tk-[a-z]{2}-[A-Za-z0-9_-]{48}|secret-(?:live-)?[A-Za-z0-9_]{30,}={0,2}|NRII-[A-Za-z0-9_-]{32}|PMAT-[A-Z0-9]{26}"
    r"|HRKU-AA[A-Za-z0-9_-]{58}|access-(?:sandbox|development|production)-[a-f0-9]{8}(?:-[a-f0-9]{4}){3}-[a-f0-9]{12}"
    r"|pat[A-Za-z0-9]{14}\.[a-f0-9]{64}|snyk_[a-z]+\.[a-f0-9]{8}\.[\w-]{40,}|sl\.[A-Za-z0-9_-]{100,}|mlsn\.[a-f0-9]{64}"
    r"|sk\.eyJ[\w-]{40,}\.[\w-]{20,}|v1\.0-[a-f0-9]{24}-[a-f0-9]{100,})"
    r"|\b[a-f0-9]{32}-[a-f0-9]{8}-[a-f0-9]{8}\b|\baccess_token\$[a-z]+\$[a-z0-9]{16}\$[a-f0-9]{32}|\b[a-f0-9]{36}NRAL\b"
    r"|\b\d/\d{10,}:[a-f0-9]{32}|\bA3(?:-[A-Z0-9]{5,6}){6}|\bK10[a-f0-9]{64}::\w+:[a-f0-9]{32}|[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk\b"
    r"|\b[A-Za-z0-9_~.-]{3}8Q~[A-Za-z0-9_~.-]{31,}"
    # Hashes of passwords, as htpasswd and /etc/shadow write them.
    r"|\${1,2}(?:1|2[abxy]|5|6|7|y|apr1|argon2(?:id?|d))\$[./A-Za-z0-9$=,+-]{20,}|\bJDJ[abxy]J[A-Za-z0-9+/]{40,}={0,2}"
    r"|\b(?:pbkdf2[\w-]*|scrypt|SCRAM-SHA-\d+)[:$][\w:.=+/]*\$[./A-Za-z0-9$=,+:-]{20,}|\{S?SHA\d*\}[A-Za-z0-9+/]{20,}={0,2}"
    r"|[\"']md5[0-9a-f]{32}\b|\*[0-9A-F]{40}\b"
)

# A password may hold what would end an address; a port before it does not.
_IN_URL = re2.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*://)([A-Za-z0-9_-]{20,}|[A-Za-z0-9]{20,}:[^\s/?#@\"'<>]+|[\w-]{8,}:(?:x-oauth-basic)?)@"
    r"|([A-Za-z][A-Za-z0-9+.-]*://[^\s:/?#@\"'<>]*:)"
    r"(\d*[^\s/?#@\"'<>\d](?:[^\s/\"'<>]*|[^\s/?#@\"'<>]*/[^\s/@\"'<>]*)|[^\s/?#\"'<>]+)@"
)

_AUTHORIZATION = r"(?:\b|_)authorization[\"']?\s*[:=]\s*[\[\"'\\]*"

_SCHEMES = r"bearer|basic|bot|token|digest|apikey|ssws|geniekey|negotiate|ntlm|key"

_HEADER = re2.compile(
    # A scheme with parameters, one with one value, or the value alone.
    rf"(?i)({_AUTHORIZATION}[A-Za-z][\w-]*\s+)(\w+=[^\r\n]*)|({_AUTHORIZATION}(?:(?:{_SCHEMES})\s+)?)([^\s\"',;\]]+)"
    r"|(\b(?:set-)?cookie[\"']?\s*[:=]\s*[\[\"']*)([^\s\"'=]+=[^\r\n\"']+)"
    r"|(\b(?:x-api-key|x-auth-token|private-token|x-vault-token)[\"']?\s*[:=]\s*[\"']?)([^\s\"',;]+)"
    r"|(/api/(?:v\d+/)?webhooks/\d+/)([A-Za-z0-9_-]+)|(hooks\.slack\.com/(?:services|workflows|triggers)/)([\w/-]+)"
    r"|(\.webhook\.office\.com/webhookb2/)([\w@/-]+)|([?&;](?:sig|signature|x-(?:amz|goog)-(?:signature|security-token))=)([\w%+/=-]{8,})"
    r"|([?&;](?:hmac|appid|auth|key|code|jwt|ticket|\w*sess\w*)=)([\w%+/=-]{20,})"
    r"|(/(?:hooks?|(?:incoming)?webhooks?|integrations?|keys?|catch|reset[\w-]*|invite|verify)/(?:[\w-]+/)?)([A-Za-z0-9]{20,})"
    r"|(\b(?:bearer|basic)\s+)([A-Za-z0-9._~+/-]{8,}=*)"
)

# Words or an option before a secret.
_SPOKEN = re2.compile(
    r"(?i)(\b(?:generated|initial|temporary|default|new|root)\b[^\n]{0,40}\bpassword\b[^\n:]{0,60}:\s*)([^\s;,]+)"
    r"|(\b(?:password|passphrase|secret|token) is:?\s+)([^\s;,]*\d[^\s;,]*)"
    r"|(\b(?:password|passphrase|secret|token) is:\s*)([^\s;,]+)"
    r"|(\b(?:identified (?:with \S+ )?by|set password\b[^=\n]{0,60}=)\s*[\"'])([^\"'\n]+)"
    r"|(\bpassword\s+')([^'\n]+)"
    r"|(<[\w:-]*(?:password|secret|token|passphrase)[\w:-]*>)([^<\s]+)"
    r"|(\"auth\"\s+(?:\"[^\"\n]*\"\s+)?\")([^\"\n]+)"
    r"|(\b(?:requirepass|masterauth)[ \t]+[\"']?)([^\s\"']+)"
    r"|(\bredis-cli\b[^\n|;&]{0,80}\s-a\s+)(\S+)"
    r"|(\b(?:mysql|mysqladmin|mysqldump|mariadb)\b[^\n|;&]{0,80}\s-p)(\S+)"
    r"|(\bcurl\b[^\n|;&]{0,200}\s(?:-u|--(?:proxy-)?user)[\s=]*[^\s:]+:)(\S+)"
    r"|(\bsshpass\s+-p\s*)(\S+)"
    r"|(\b(?:docker|podman|nerdctl|buildah|skopeo|oras|az|oc|registry)\s+login\b[^\n|;&]{0,160}\s-p[\s=]?)([^\s-]\S*)"
    r"|(\bmongo\w*\b[^\n|;&]{0,120}\s-p\s*)(\S+)|(\bldap\w+\b[^\n|;&]{0,160}\s-w\s*)(\S+)"
    r"|(\bsmb\w+\b[^\n|;&]{0,120}\s-U\s*[^\s%]+%)(\S+)|(\bsqlplus\s+(?:-\S+\s+)*[^\s/]+/|:thin:[^\s/]+/)([^\s@]+)"
    r"|(\bhtpasswd\s+(?:-\w*n\w*\s+|-\w*b\w*\s+\S+\s+)\S+\s+)(\S+)"
    r"|(\brabbitmqctl\s+(?:add_user|change_password|authenticate_user)\s+\S+\s+)(\S+)"
    r"|(\bmc\s+(?:alias\s+set|config\s+host\s+add)\s+\S+\s+\S+\s+\S+\s+)(\S+)|(\bvault\s+login\s+)([^\s-]\S*\d\S*)"
    r"|(\bunzip\b[^\n|;&]{0,80}\s-P\s*)(\S+)|(\b7z\w?\b[^\n|;&]{0,80}\s-p)(\S+)|(\s-pass(?:in|out)?\s+pass:)(\S+)"
    r"|(\b(?:set)?user\s+\S+\s+on\b[^\n]{0,80}\s>)(\S+)|(>\s*AUTH\s+(?:\w+\s+)?)(\S*\d\S*)"
    # Files of logins: netrc, .pgpass, Docker's.
    r"|(\blogin\s+\S+\s+password\s+)(\S+)|((?m:^)[\w.*-]+:(?:\d{2,5}|\*):[\w.*-]+:[\w.*-]+:)(\S+)(?m:$)"
    r"|([\"']auth[\"']\s*:\s*[\"'])([A-Za-z0-9+/=]{12,})"
)

_PIPED = re2.compile(r"(\becho\s+(?:-n\s+)?)([^\s|$-]\S*)(\s*\|[^\n|]*--password-stdin)")

_VALUE = (
    r"(\[redacted\]|\[[^\[\]{}\n]+\]|\"{3}(?:[^\"\n])+\"{3}|N'[^'\n]+'|[bBuUrR]{1,2}\"(?:[^\"\\\n]|\\.)*\"|[bBuUrR]{1,2}'(?:[^'\\\n]|\\.)*'"
    r"|\\+\"[^\"\\\n]*\\+\"|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|[^\s\"',;&)\]}\x00]+)"
)

_QUOTED_WORD = r"\"[^\s\"\\]+\"|'[^\s'\\]+'"

_QUOTED = rf"([bBuUrR]{{0,2}}(?:{_QUOTED_WORD}))"

_QUOTE = re2.compile(r"(?:(?:[bBuUrR]{1,2})?\\*[\"'])?")

_YAML_VALUE = r"([^\s\"'][^\s]*|\"[^\"\n]*\"|'[^'\n]*')[ \t]*(?:#[^\n]*)?(?m:$)"

# A function or type around a value.
_AROUND = r"(?:[A-Za-z_][\w.]*\()?"

TAGS = r"(?:[!&][\w!./-]*[ \t]+)*"

_COLOUR = r"(?:(?:\x1b|\\x1b)\[[0-9;]*m){0,4}"

_NAMED = re2.compile(
    # "NAME=value" in a list of words, and a text that begins on the next line
    rf"(?i)([\"']{NAME}=)([^\"'\n\\]+)|({NAME}[ \t]*=?[ \t]*<<[-~]?[\"']?\w+[\"']?\n[ \t]*)([^\n]+)"
    # name=value, as in a shell, a query, a program or a connection string
    rf"|({NAME}[\"'\])]{{0,3}}{_COLOUR}[ \t]{{0,8}}(?:[:?+]=|=>|={{1,3}})"
    rf"{_COLOUR}[ \t]{{0,8}}{_AROUND}){_VALUE}"
    # "name": "value", as in JSON, also in JSON that is a text of JSON
    rf"|([\"']{NAME}\\*[\"']\s{{0,8}}:\s{{0,8}}{_AROUND}){_VALUE}"
    # name: value alone on its line, as in YAML
    rf"|((?m:^)[\s-]*{NAME}:[ \t]+{TAGS}){_YAML_VALUE}"
    # --name value, as on a command line
    rf"|(--{NAME}(?:[ \t\x00]+|[\"']?,[ \t]*)){_VALUE}"
    # The name as a value: {"name": "DB_PASSWORD", "value": "…"}, <property name="password">…
    rf"|(\b(?:name|key)[\"']?\s{{0,4}}[:=]\s{{0,4}}[\"']?{NAME}[\"']?"
    rf"(?:[\s,]{{1,40}}[\"']?value[\"']?\s{{0,4}}[:=]\s{{0,4}}|>)){_VALUE}"
    # Password("value"), as programs print and call it
    rf"|({NAME}\(\s?){_QUOTED}"
    # URL-encoded and in HTML
    rf"|({NAME}(?:%22)?%3[AaDd](?:%22|%20)?|&(?:quot|\#34);{NAME}&(?:quot|\#34);\s?:\s?&(?:quot|\#34);)([^\s%&\"']+)"
    rf"|(\b(?:ENV|SetEnv|config(?:ure)?[ \t]set)[ \t]+(?:\S*[/:])?{NAME}[ \t]+){_VALUE}"
)

# Between words of a sentence: what follows must look like a secret, and not like a word or a number.
_WITHIN = re2.compile(
    rf"(?i)(\bcredentials:[ \t]+\S+[ \t]+/[ \t]+){_VALUE}"
    rf"|((?:{NAME}[ \t]{{0,4}}:[ \t]{{1,4}})?{NAME}[\"'\\]{{0,3}}"
    rf"[ \t]{{0,4}}[:\x{{ff1a}}][ \t]{{0,4}}{_AROUND}){_VALUE}"
    rf"|({NAME}[\"'][ \t]?,[ \t]{{0,16}}){_QUOTED}|((?:^|\s)-{NAME}[ \t]+){_VALUE}"
    rf"|({NAME}[ \t]+(?:(?:is|was|ist|lautet|est|es|to|set to|changed to)[ \t:]+)?)({_QUOTED_WORD})"
    rf"|({NAME}[ \t]+(?:is|ist|lautet|est|es|set to|changed to)[ \t]*:?[ \t]+){_VALUE}"
    rf"|({NAME}[ \t]+(?:incorrecte?|incorrecta|incorreta|invalide|inv(?:á|a)lid[oa])[ \t]*:?[ \t]+){_VALUE}"
    rf"|({NAME}[ \t]+(?:for|für|pour|para|d['e])[ \t]?[^\n:]{{1,60}}:[ \t]+){_VALUE}"
    rf"|({NAME}[ \t]*\|[ \t]*){_VALUE}"
    rf"|(\b[\w.-]+[_-]key[\"']?\s{{0,4}}[:=]\s{{0,4}}[\"']?)([A-Za-z0-9]{{20,}}={{0,2}})"
    rf"|(\b(?:api|access|secret)[ \t]key[ \t]*:?[ \t]+)({_QUOTED_WORD})|(\bwith[ \t]{NAME}[ \t]+){_VALUE}"
)

# Alone on a line below the name.
_BELOW = re2.compile(rf"(?i)({_SENSITIVE_WORD}[^\n:]{{0,80}}:[ \t]*\r?\n(?:[ \t]*\r?\n)?[ \t]*)([^\s:]{{8,}})(?m:$)")

_LOOKS_SECRET = re2.compile(
    r"[\x21-\x7e]*(?:[A-Za-z][\x21-\x7e]*[0-9]|[0-9][\x21-\x7e]*[A-Za-z]|[a-z][A-Z]|[A-Za-z][!#$%^&*+=~?@][A-Za-z0-9])[\x21-\x7e]*"
)

_MEASURED = re2.compile(r"[<>~]?[\d.,]+[A-Za-z%/]*\.?|0x[0-9a-fA-F]{1,8}")

_LEAST_WITHIN = 6

_BLOCK_MARK = re.compile(r"[|>][-+\d]*")


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether a variable, field or option of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None and may_hold_secret(name)


def may_hold_secret(name: str) -> bool:
    """Whether a name, of which a part sounds like a secret, is not one of those that hold none, as TOKEN_LIMIT."""
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

_LEAST_LETTERS = 9

_LEAST_CHANGES = 0.3

_LEAST_DIGITS = 2


def random_parts(text: str) -> list[str]:
    """Return the random-looking parts of a text: long, with many different characters of changing kinds.

    For declarations, where a digest is marked as one; in a log, ids look the same.
    """
    return [
        match[0]
        for match in _RANDOM_RUN.finditer(text)
        if _DIGEST.search(text[: match.start()]) is None and _looks_random(match[0].rstrip("="))
    ]


def _looks_random(run: str) -> bool:
    if _UUID.fullmatch(run) is not None or sum(character.isdigit() for character in run) < _LEAST_DIGITS:
        return False
    kinds = [
        "d" if character.isdigit() else "u" if character.isupper() else "l" if character.islower() else "s"
        for character in run
    ]
    # Words, paths and names change between letters and digits at their borders only.
    changes = sum(kind != other for kind, other in pairwise(kinds))
    counts = Counter(run)
    bits = -sum(count / len(run) * math.log2(count / len(run)) for count in counts.values())
    return bits >= _LEAST_BITS and changes >= _LEAST_CHANGES * len(run) and kinds.count("s") <= len(run) / 8


# A short word before a long run of small letters and digits.
_PREFIXED = re2.compile(r"\b((?:[a-z]{1,8}_)+)([a-z0-9]{32,}(?:_[a-f0-9]{8})?)\b")

_OF_NO_SECRET = re2.compile(
    r"(?:sha\d*|md5|layer|image|commit|build|digest|hash|rev|file|backup|tmp|node|network|volume|container|index|asset|id|v)_$"
)


def _parts_of_prefixed(match: re2._Match) -> Parts | None:
    is_id = _OF_NO_SECRET.search(match[1]) is not None or len(set(match[2])) < _LEAST_LETTERS
    return None if is_id or not any(map(str.isdigit, match[2])) else ("", match[0], "")


# A name in a program may begin like a token; a token has a digit.
_WORDS = re.compile(r"[A-Za-z]{1,16}(?:[_.:/-]+[A-Za-z]{1,16})+")


def _shape(match: re2._Match) -> Parts | None:
    return None if _WORDS.fullmatch(match[0]) is not None else ("", match[0], "")


def _pair(match: re2._Match) -> Parts:
    at = next(index for index in range(1, match.re.groups, 2) if match[index] is not None)
    return match[at], match[at + 1], ""


def _header(match: re2._Match) -> Parts | None:
    before, value, after = _pair(match)
    # The last pair of the pattern.
    is_word = match[match.re.groups] is not None and _PLAIN_WORD.fullmatch(value) is not None
    return None if is_word or value.strip("[]") == REDACTED.strip("[]") else (before, value, after)


def _parts_of_spoken(match: re2._Match) -> Parts | None:
    before, value, after = _pair(match)
    return None if value.lower() in _SPOKEN_OF or value == REDACTED else (before, value, after)


def _parts_of_named(match: re2._Match) -> Parts | None:
    before, value, _ = _pair(match)
    name = before.strip(" \t\n-=>:\"'\\")
    bare = value.strip("\\\"'")
    if (
        not may_hold_secret(name)
        or is_no_value(bare)
        or _PLACE.fullmatch(bare) is not None
        or _BLOCK_MARK.fullmatch(bare) is not None
        or is_working_folder(name, bare)
        or (_COUNTED.search(name) is not None and bare.rstrip(".").isdecimal())
    ):
        return None
    mark = _QUOTE.match(value)[0]
    ended = len(value) - len(mark) if mark and value.endswith(mark) and len(value) > len(mark) else len(value)
    return before + mark, value[len(mark) : ended], mark


def _within(match: re2._Match) -> Parts | None:
    parts = _parts_of_named(match)
    if parts is None:
        return None
    bare = parts[1].strip("\\\"'").rstrip(".:")
    if bare.startswith("["):
        bare = bare[1:].partition(",")[0].strip("\"'")
    looks = len(bare) >= _LEAST_WITHIN and _LOOKS_SECRET.fullmatch(bare) and not _MEASURED.fullmatch(bare)
    return parts if looks else None


_LEAST_CHANGES_OF_KIND = 4

_LETTERS, _KINDS = "[A-Za-z0-9]*", ("[0-9]", "[a-z]", "[A-Z]")

_ALTERNATING = "|".join(
    _LETTERS.join(order)
    for order in product(_KINDS, repeat=_LEAST_CHANGES_OF_KIND + 1)
    if set(order) == set(_KINDS) and all(kind != other for kind, other in pairwise(order))
)

# A run of small letters, capitals and digits that alternate: what programs generate, and few names.
_RUN = re2.compile(rf"{_LETTERS}(?:{_ALTERNATING}){_LETTERS}(?:[+/_-][A-Za-z0-9+/_-]*[A-Za-z0-9])?={{0,2}}")

_LEAST_RUN = 8

_LONG_RUN = 32

_LONGEST_NAME = 20

_LEAST_ALTERNATING = 0.25

_MOST_OF_WORDS = 0.65

_WORD_IN_RUN = re.compile(r"^0x.*|[a-z]{3,}|[0-9]{5,}")

_ALGORITHM = re.compile(r"(?i)sha\d|md5|aes\d|rsa|hmac|utf|base\d|oauth|ipv\d|http|tls|ecdsa|ed25519|argon|crypt|x509")

_BEFORE, _AFTER = 120, 60

# The name before a run says that it is an id or a digest.
_NO_SECRET_BEFORE = re2.compile(
    r"(?i)(?:(?:^|[^a-z]|[a-z]_)(?:u?u?ids?|hash|digest|integrity|e-?tag|fingerprint|sha-?\d*|md5|h1|commit|rev|revision"
    r"|version|nonce|cursor|request|trace|span|hostname|host|pod|container|image|tag|user(?:name)?)|id-\d)"
    r"[\"']?\s*[:=#-]?\s*[\"']?$|\.$"
)

_PUBLIC = re2.compile(r"^(?:AAAA[BCEI]3NzaC1|AAAAE2VjZHNh|AAAAG)|^Qm[1-9A-Za-z]{44}$")

_OPEN_PUBLIC_KEY = re2.compile(r"-----BEGIN (?:[A-Z ]*CERTIFICATE|[A-Z ]*PUBLIC KEY)[A-Z ]*-----[^-]*$")

_SECRET_WORD = re2.compile(
    r"(?i)passw|passphrase|pwd|passe\b|secret|secure|token|credential|crypt|auth|keys?\b|code\b|senha"
    r"|contrase|credencial|clave|chiave|kennwort|schl(?:ü|ue)ssel|zugang|anmeld|identifiant|cl(?:é|ef\b)|pass\b|login|logon"
    r"|sign(?:ed)? in|syntax error|cookie|sess(?:ion)?[_-]?id|\bmdp"
)

_IS_SECRET_ID = re2.compile(r"(?i)(?:secret|sess(?:ion)?)[_-]?id[\"']?\s*[:=]\s*[\"']?$")

# What is right before a run, wherever that is: an option; a name and a mark; an argument of a call; a user's name.
_GIVEN_BEFORE = re2.compile(
    r"(?:^|[\s\"'\[,])--?[A-Za-z][\w-]*[ =]*[\"']?(?:[\w.@-]+[:,%=/])?$|\s/[a-z]+:$|(?:^|\s|[\"'])-$"
    r"|\w\([^()\n]*[\"']$|=\([^()\n]*[\"']$"
    r"|[?&;](?i:code|key|auth|hmac|sig|sid|appid|ticket|otp|pin|jwt|\w*sess\w*)=$"
    r"|/(?i:hooks?|catch|reset[\w-]*|invite|verify|magic|token|keys?|integration|webhook)/(?:[\w-]+/)*$"
    r"|(?:^|[\s\"'(])[a-z][\w.@-]{1,40}(?:[:,]| ?/ ?)$|\becho\s+[\"']?$|\bprintf\s[^|]*\s[\"']?$"
    r"|\bconfig\s+[\w.-]+\s+(?:\w+\s+)?$|\b(?i:using|by)\s+[\"']?$|\bnet\s+user?\s+\S+\s+(?:/\S+\s+)?$"
)

_ALONE = re2.compile(r"^[\s\"'-]*(?:value[\"']?:)?[\s\"']*$")

_LONGEST_KEY = 8000

_ENDS_RUN = re2.compile(r"^(?:$|[\s\"'`,;)\]@&|}<\\/])")


def _is_generated(run: str) -> bool:
    """Whether small letters, capitals and digits alternate as in no word or name."""
    kinds = [*map(_kind, run)]
    changes = sum(kind != other for kind, other in pairwise(kinds))
    words = sum(map(len, _WORD_IN_RUN.findall(run)))
    return (
        changes >= _LEAST_ALTERNATING * (len(run) - 1)
        and words <= _MOST_OF_WORDS * len(run)
        and (len(run) >= _LONGEST_NAME or _ALGORITHM.search(run) is None)
    )


def _kind(character: str) -> str:
    return "d" if character.isdigit() else "u" if character.isupper() else "l" if character.islower() else "s"


def _run(match: re2._Match) -> Parts | None:
    """A generated run that is long, or given as a secret is, or near a word that means one."""
    run = match[0]
    if len(run) < _LEAST_RUN or not _is_generated(run.rstrip("=")):
        return None
    text, begin, end = match.string, match.start(), match.end()
    line = text.rfind("\n", 0, begin) + 1
    before, after = text[max(line, begin - _BEFORE) : begin], text[end : end + _AFTER].partition("\n")[0]
    named_id = _NO_SECRET_BEFORE.search(before) and not _IS_SECRET_ID.search(before)
    if named_id or _PUBLIC.search(run) or after.startswith("("):
        return None
    if len(run) >= _LONG_RUN:
        return None if _OPEN_PUBLIC_KEY.search(text[max(0, begin - _LONGEST_KEY) : begin]) else ("", run, "")
    if not _ENDS_RUN.search(after):
        return None
    if _ALONE.search(before) or "|" in before:
        # What it is stands above or below.
        before, after = text[max(0, line - _BEFORE) : begin], text[end : end + _AFTER]
    near = any(map(_SECRET_WORD.search, (before, after))) or _GIVEN_BEFORE.search(before)
    return ("", run, "") if near else None


PATTERNS: tuple[tuple[re2._Regexp, Callable[[re2._Match], Parts | None], tuple[str, ...]], ...] = (
    (_SHAPES, _shape, ()),
    (_PREFIXED, _parts_of_prefixed, ("_",)),
    (_IN_URL, lambda match: (*_pair(match)[:2], "@"), ("@",)),
    (_HEADER, _header, ()),
    (_SPOKEN, _parts_of_spoken, ()),
    (_PIPED, lambda match: (match[1], match[2], match[3]), ("-stdin",)),
    (_NAMED, _parts_of_named, ()),
    (_WITHIN, _within, ()),
    (_BELOW, _within, (":\n", ": \n", ":\r\n")),
    (_RUN, _run, ()),
)
"""What finds a secret, how it is taken apart, and words of which one is in each text that has it: looking for a word
costs far less than looking for a pattern."""
