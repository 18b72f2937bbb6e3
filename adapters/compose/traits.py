"""What tells which programs an application's services run, from Compose's rendered configuration.

Values of variables are read here, for the hosts in them, and go no further.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from adapters.host.private_files import read_regular
from adapters.programs import shipped_programs
from core.adoption.dockerfile import BuiltImage, read_dockerfile
from core.adoption.hosts import hosts_named
from core.errors.redact import is_no_value, is_secret_name
from models.adoption import CheckedAddress, PasswordFile, ServiceTraits

_LOCAL_URL = re.compile(r"http://(?:localhost|127\.0\.0\.1|\[::1\]|0\.0\.0\.0)(?::(\d{1,5}))?(/[\w./~%-]*)?")
_NAMES_NO_PROGRAM = re.compile(r"-[Uuhd]|--(?:user|username|host|dbname|database)")
"""Options whose value is a user, host or database, which is often named like a program."""

_PROGRAM = re.compile(r"[A-Za-z_][\w.+-]*")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::?[-?][^}]*)?\}|([A-Za-z_]\w*))")
_PASSWORD_OPTION = re.compile(r"(--[a-z-]*(?:pass|auth)[a-z-]*)[ =]+(\S+)")
_LISTENS = re.compile(
    r"(?:--port|--bind|--http|--listen|-b|-p|\brunserver)[ =]+(?:(\[[0-9a-fA-F:]*\]|[\w.*-]*):)?(\d{2,5})(?![\d.:/])"
)
_WORDS_OF_A_COMMAND = 60


def service_traits(document: Mapping[str, Any], unfilled: Sequence[Mapping[str, Any]]) -> dict[str, ServiceTraits]:
    """The traits of each service of a rendered document; `unfilled` are the files before variables were filled in."""
    services: Mapping[str, Any] = document["services"]
    names = {host: name for name, body in services.items() for host in _hosts_of(name, body)}
    secrets: Mapping[str, Any] = document.get("secrets") or {}
    return {name: _traits(name, body, names, unfilled, secrets) for name, body in services.items()}


def _traits(
    name: str,
    body: Mapping[str, Any],
    names: Mapping[str, str],
    unfilled: Sequence[Mapping[str, Any]],
    secrets: Mapping[str, Any],
) -> ServiceTraits:
    hosts: dict[str, str] = {}
    for variable, value in (body.get("environment") or {}).items():
        for host in hosts_named(variable, str(value or ""), names.keys()):
            hosts.setdefault(names[host], variable)
    built = _built(body)
    entrypoint, command = _words(body.get("entrypoint")), _words(body.get("command"))
    # A new entrypoint also takes the image's command away.
    given = [*(entrypoint or built.entrypoint), *(command or (() if entrypoint else built.command))]
    ports = [*_ports(body)] or [*built.ports] or [*_ports_of_command(given)]
    environment = {one: str(value or "") for one, value in (body.get("environment") or {}).items()}
    passwords = dict(_passwords(_bodies(name, unfilled)))
    # What an env_file sets has no source that a probe could ask.
    passwords |= {
        one: None
        for one, value in environment.items()
        if one not in passwords and is_secret_name(one) and not is_no_value(value)
    }
    return ServiceTraits(
        programs=tuple(dict.fromkeys(_programs(given, names.keys()))),
        ports=tuple(dict.fromkeys(ports)),
        hosts=hosts,
        checked=_checked(body),
        never_restarted=body.get("restart") == "no",
        passwords=passwords,
        settings={one: value for one, value in environment.items() if one in _login_variables() and value},
        password_files=dict(_password_files(environment, body, secrets)),
        base_image=built.base,
        image_checked=built.checked,
    )


@lru_cache(maxsize=1)
def _login_variables() -> frozenset[str]:
    """The variables that name a user, a database, or say that there is no password; never one of a password."""
    logins = [login for program in shipped_programs() for login in program.logins]
    named = {one for login in logins for one in (login.user, login.database, login.open_variable) if one}
    return frozenset(named)


def _built(body: Mapping[str, Any]) -> BuiltImage:
    """What the Dockerfile of a service says; nothing where it is not on this machine."""
    build = body.get("build")
    if not isinstance(build, Mapping):
        return BuiltImage()
    text = str(build.get("dockerfile_inline") or "")
    file = Path(str(build.get("context") or "")) / str(build.get("dockerfile") or "Dockerfile")
    if not text and file.is_absolute():
        try:
            text = read_regular(file).decode("utf-8", errors="replace")
        except (OSError, ValueError):
            return BuiltImage()
    arguments = {one: str(value) for one, value in (build.get("args") or {}).items() if value is not None}
    return read_dockerfile(text, target=str(build.get("target") or ""), arguments=arguments)


def _password_files(
    environment: Mapping[str, str], body: Mapping[str, Any], secrets: Mapping[str, Any]
) -> Iterator[tuple[str, PasswordFile]]:
    """Variables that name a file under /run/secrets, with the Compose secret that is mounted there."""
    mounted = {}
    for entry in body.get("secrets") or ():
        source = str(entry.get("source", ""))
        mounted[str(PurePosixPath("/run/secrets") / str(entry.get("target") or source))] = source
    for variable, value in environment.items():
        declared = secrets.get(mounted.get(value) or "")
        if not variable.endswith("_FILE") or not isinstance(declared, Mapping):
            continue
        name, file, filled_in_from = mounted[value], declared.get("file"), declared.get("environment")
        if file is not None and Path(str(file)).is_file():
            yield variable, PasswordFile(name=name, file=Path(str(file)))
        elif filled_in_from is not None:
            yield variable, PasswordFile(name=name, variable=str(filled_in_from))


def _hosts_of(name: str, body: Mapping[str, Any]) -> Iterator[str]:
    """The names under which others reach a service."""
    yield from filter(None, (name, body.get("container_name"), body.get("hostname")))
    for joined in (body.get("networks") or {}).values():
        yield from (joined or {}).get("aliases") or ()


def _programs(given: Sequence[str], hosts: Set[str]) -> Iterator[str]:
    """The names of executables in an entrypoint and command, also within a shell's line; options alone have none."""
    if given and given[0].startswith("-"):
        return
    words = [part for one in given for part in one.split()][:_WORDS_OF_A_COMMAND]
    for place, word in enumerate(words):
        base = PurePosixPath(word).name
        if place and _NAMES_NO_PROGRAM.fullmatch(words[place - 1]):
            continue
        # A script that waits for another service names it.
        if "=" not in word and "://" not in word and _PROGRAM.fullmatch(base) and (place == 0 or word not in hosts):
            yield base


def _ports_of_command(given: Sequence[str]) -> Iterator[int]:
    """The ports that a command's options make its program listen on, for others than itself."""
    for host, port in _LISTENS.findall(" ".join(given)):
        if host not in ("127.0.0.1", "localhost", "[::1]") and 0 < int(port) < 65536:
            yield int(port)


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
    """The variable that a value is, with or without a default; None where it holds more or nothing of one."""
    match = _VARIABLE.fullmatch(value.strip().strip("\"'"))
    return None if match is None else match[1] or match[2]
