"""Find the services that a variable's value names as hosts, and ports of the machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set

_IN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^\s/?#@]*@)?([^\s/?#]+)")
_WITH_PORT = re.compile(r"^(?:[^@\s/]*@)?([A-Za-z0-9][\w.-]*):\d{1,5}(?:/\S*)?$")
_KEY_VALUE = re.compile(r"(?i)\b(?:host|server|data source)\s*=\s*(?:tcp:)?([A-Za-z0-9][\w.-]*)")
_SAYS_HOST = re.compile(
    r"(?i)(?:^|_)(?:HOST(?:S|NAME)?|SERVERS?|ADDR(?:ESS)?|ENDPOINT|BROKERS?|NODES?|UPSTREAM)(?:$|_)"
)


_AT_PORT = re.compile(r"(?:^|[@/,;\s=])([A-Za-z0-9][\w.-]*):(\d{1,5})(?![\w.:])")
_MACHINE = frozenset({"host.docker.internal", "gateway.docker.internal", "172.17.0.1"})
_OWN = frozenset({"localhost", "127.0.0.1"})


def machine_ports(environment: Mapping[str, str], *, host_network: bool) -> Iterator[int]:
    """The ports of the machine that variables of a container name: in a URL, or in DB_PORT beside DB_HOST."""
    machine = _MACHINE | _OWN if host_network else _MACHINE
    for name, value in environment.items():
        named = _AT_PORT.findall(value)
        if value in machine and "HOST" in name:
            named.append((value, environment.get(name.replace("HOST", "PORT"), "")))
        yield from (int(port) for host, port in named if host in machine and port.isdecimal())


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
