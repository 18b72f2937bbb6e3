"""Find the services that a variable's value names as hosts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set

_IN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^\s/?#@]*@)?([^\s/?#]+)")
_WITH_PORT = re.compile(r"^(?:[^@\s/]*@)?([A-Za-z0-9][\w.-]*):\d{1,5}(?:/\S*)?$")
_KEY_VALUE = re.compile(r"(?i)\b(?:host|server|data source)\s*=\s*(?:tcp:)?([A-Za-z0-9][\w.-]*)")
_SAYS_HOST = re.compile(
    r"(?i)(?:^|_)(?:HOST(?:S|NAME)?|SERVERS?|ADDR(?:ESS)?|ENDPOINT|BROKERS?|NODES?|UPSTREAM)(?:$|_)"
)


def hosts_named(name: str, value: str, services: Set[str]) -> Iterator[str]:
    """The services whose names stand as hosts in a value: in a URL, before a port, or alone in a variable such as
    REDIS_HOST. A service's name as a plain word, such as a database called "db", names no host."""
    candidates: list[str] = []
    for authority in _IN_URL.findall(value):
        # A URL may list several hosts: mongodb://a:27017,b:27017/app.
        candidates += [host.rpartition("@")[2].partition(":")[0] for host in authority.split(",")]
    candidates += _KEY_VALUE.findall(value)
    for part in re.split(r"[,;\s]+", value):
        if match := _WITH_PORT.match(part):
            candidates.append(match[1])
        elif _SAYS_HOST.search(name):
            candidates.append(part)
    yield from dict.fromkeys(candidate for candidate in candidates if candidate in services)
