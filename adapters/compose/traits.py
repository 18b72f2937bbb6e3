"""What tells which programs an application's services run, from Compose's rendered configuration.

Values of variables are read here, for the hosts in them, and go no further.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from core.adoption.hosts import hosts_named
from core.errors.redact import is_no_value, is_secret_name
from models.adoption import CheckedAddress, ServiceTraits

_LOCAL_URL = re.compile(r"http://(?:localhost|127\.0\.0\.1|\[::1\]|0\.0\.0\.0)(?::(\d{1,5}))?(/[\w./~%-]*)?")
_PROGRAM = re.compile(r"[A-Za-z_][\w.+-]*")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)")
_PASSWORD_OPTION = re.compile(r"(--[a-z-]*(?:pass|auth)[a-z-]*)[ =]+(\S+)")
_WORDS_OF_A_COMMAND = 60


def service_traits(document: Mapping[str, Any], unfilled: Sequence[Mapping[str, Any]]) -> dict[str, ServiceTraits]:
    """The traits of each service of a rendered document; `unfilled` are the files before variables were filled in."""
    services: Mapping[str, Any] = document["services"]
    names = {host: name for name, body in services.items() for host in _hosts_of(name, body)}
    return {name: _traits(name, body, names, unfilled) for name, body in services.items()}


def _traits(
    name: str, body: Mapping[str, Any], names: Mapping[str, str], unfilled: Sequence[Mapping[str, Any]]
) -> ServiceTraits:
    hosts: dict[str, str] = {}
    for variable, value in (body.get("environment") or {}).items():
        for host in hosts_named(variable, str(value or ""), names.keys()):
            hosts.setdefault(names[host], variable)
    return ServiceTraits(
        programs=tuple(dict.fromkeys(_programs(body))),
        ports=tuple(dict.fromkeys(_ports(body))),
        hosts=hosts,
        checked=_checked(body),
        never_restarted=body.get("restart") == "no",
        passwords=dict(_passwords(_bodies(name, unfilled))),
    )


def _hosts_of(name: str, body: Mapping[str, Any]) -> Iterator[str]:
    """The names under which others reach a service."""
    yield from filter(None, (name, body.get("container_name"), body.get("hostname")))
    for joined in (body.get("networks") or {}).values():
        yield from (joined or {}).get("aliases") or ()


def _programs(body: Mapping[str, Any]) -> Iterator[str]:
    """The names of executables in an entrypoint and command, also within a shell's line; options alone have none."""
    given = [*_words(body.get("entrypoint")), *_words(body.get("command"))]
    if given and given[0].startswith("-"):
        return
    for word in [part for one in given for part in one.split()][:_WORDS_OF_A_COMMAND]:
        base = PurePosixPath(word).name
        if "=" not in word and "://" not in word and _PROGRAM.fullmatch(base):
            yield base


def _words(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(one) for one in value or ()]


def _ports(body: Mapping[str, Any]) -> Iterator[int]:
    """Ports inside the container over TCP, published ones first."""
    for entry in body.get("ports") or ():
        if entry.get("protocol", "tcp") == "tcp":
            yield int(entry["target"])
    for one in body.get("expose") or ():
        number, _, protocol = str(one).partition("/")
        if number.isdigit() and protocol in ("", "tcp"):
            yield int(number)


def _checked(body: Mapping[str, Any]) -> CheckedAddress | None:
    """The address that a health check asks, if it names this container and no shell variable."""
    match = _LOCAL_URL.search(" ".join(_words((body.get("healthcheck") or {}).get("test"))))
    return None if match is None else CheckedAddress(port=int(match[1] or 80), path=match[2] or "/")


def _bodies(name: str, unfilled: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for document in unfilled:
        services = document.get("services")
        body = services.get(name) if isinstance(services, Mapping) else None
        if isinstance(body, Mapping):
            yield body


def _passwords(bodies: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str | None]]:
    """Options and variables that hold a password, with the variable of the user that each is filled in from."""
    for body in bodies:
        for name, value in _environment(body.get("environment")):
            if is_secret_name(name) and not is_no_value(value):
                yield name, _source(value)
        line = " ".join(part for key in ("entrypoint", "command") for part in _words(body.get(key)))
        for option, value in _PASSWORD_OPTION.findall(line):
            yield option, _source(value)


def _environment(declared: Any) -> Iterator[tuple[str, str]]:
    """Variables of a container; one without a value is passed on from the user's."""
    if isinstance(declared, Mapping):
        for name, value in declared.items():
            yield str(name), f"${name}" if value is None else str(value)
    elif isinstance(declared, list):
        for entry in declared:
            name, equals, value = str(entry).partition("=")
            yield name, value if equals else f"${name}"


def _source(value: str) -> str | None:
    match = _VARIABLE.search(value.replace("$$", ""))
    return None if match is None else match[1]
