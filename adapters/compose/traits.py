"""What tells which programs an application's services run, from Compose's rendered configuration.

Values of variables are read here, for the hosts in them, and go no further.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from adapters.host.private_files import read_regular
from adapters.programs import shipped_programs
from core.adoption.commands import listen_address, read_command, says_worker
from core.adoption.dockerfile import BuiltImage, read_dockerfile
from core.adoption.hosts import hosts_named, machine_ports
from core.adoption.recognise import recognise
from core.errors.secret_shapes import is_no_value, is_secret_name
from models.adoption import CheckedAddress, PasswordFile, ServiceTraits
from models.compose import Application
from models.failures import EnvironmentFileError

log = logging.getLogger("roas")

_LOCAL_URL = r"http://(?:localhost|127\.0\.0\.1|\[::1\]|0\.0\.0\.0{names})(?::(\d{{1,5}}))?(/[\w./~%-]*)?"
_SENDS_MORE = re.compile(
    r"\s(?:-[HudXbE]|--(?:header|user|data|post|request|method|cookie|cert|http-user|oauth)\S*)[\s=]|\bheaders\b|Authorization"
)
"""What a health check sends beside the address: without it the answer may be an error."""
_TAKES_ERRORS = re.compile(r"\b(?:fetch|requests\.\w+|https?\.get)\(")
_LOOKS_AT_STATUS = re.compile(r"(?i)status|\.ok\b")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::?[-?][^}]*)?\}|([A-Za-z_]\w*))")
_PASSWORD_OPTION = re.compile(r"(--[a-z-]*(?:pass|auth)[a-z-]*)[ =]+(\S+)")
_CALLED = r"(?<![\w.-]){host}:(\d{{2,5}})(?![\w.:])"
_LABELLED = re.compile(
    r"(?i)traefik\.(?:http|tcp)\.services\.[^=]+\.loadbalancer\.server\.port|traefik\.port|caddy(?:_\d+)?\.reverse_proxy"
)
_UPSTREAM = re.compile(r"\{\{\s*upstreams\s+(?:https?\s+)?(\d{2,5})\s*\}\}|(\d{2,5})")
_ROLE = re.compile(r"(?:^|_)(?:ROLE|PROCESS(?:_TYPE)?|(?:RUN|START|EXECUTIONS?)_MODE|SERVICE_TYPE|COMPONENT)$|^MODE$")
_EVERYWHERE = re.compile(r"(?:[a-z]+://)?(?:0\.0\.0\.0|\[::\]|\*)?:\d")
_BESIDE = re.compile(r"METRIC|DEBUG|PPROF|PROFIL|ADMIN|TRACE|TRACING|STATS|TELEMETRY|INSPECT|GOSSIP|CLUSTER")
"""In the name of a variable: what a program serves beside its own work, and often only where it is switched on."""
_SWITCH = re.compile(r"(?i)yes|no|true|false|on|off|[01]")
_OF_PROXIES = frozenset({"VIRTUAL_PORT"})
"""Variables that tell nginx-proxy the port of a service."""


def service_traits(document: Mapping[str, Any], unfilled: Sequence[Mapping[str, Any]]) -> dict[str, ServiceTraits]:
    """The traits of each service of a rendered document; `unfilled` are the files before variables were filled in."""
    services: Mapping[str, Any] = document["services"]
    names = {host: name for name, body in services.items() for host in _hosts_of(name, body)}
    secrets: Mapping[str, Any] = document.get("secrets") or {}
    texts = {name: _texts_of(body) for name, body in services.items()}
    called = {
        name: tuple(
            dict.fromkeys(
                int(port)
                for host, of in names.items()
                if of == name
                for other, text in texts.items()
                if other != name
                for port in re.findall(_CALLED.format(host=re.escape(host)), text)
            )
        )
        for name in services
    }
    return {name: _traits(name, body, names, unfilled, secrets, called=called[name]) for name, body in services.items()}


def _texts_of(body: Mapping[str, Any]) -> str:
    """Where a service may name others: its variables and its command."""
    values = [str(value or "") for value in (body.get("environment") or {}).values()]
    return " ".join([*values, *_words(body.get("entrypoint")), *_words(body.get("command"))])


def recognise_programs(application: Application, document: Mapping[str, Any]) -> Application:
    """The application of a rendered document, with the program that each service is recognised to run.

    Where the installation's file of programs cannot be read, none is: that must not stop a start.
    """
    try:
        traits, programs = service_traits(document, ()), shipped_programs()
    except EnvironmentFileError as error:
        log.warning("no program is recognised: %s", error)
        return application
    matches = {
        name: recognise(service, traits.get(name, ServiceTraits()), programs)
        for name, service in application.services.items()
    }
    services = {
        name: service if (match := matches[name]) is None else replace(service, program=match.program.id)
        for name, service in application.services.items()
    }
    return replace(application, services=services)


def _traits(
    name: str,
    body: Mapping[str, Any],
    names: Mapping[str, str],
    unfilled: Sequence[Mapping[str, Any]],
    secrets: Mapping[str, Any],
    *,
    called: tuple[int, ...],
) -> ServiceTraits:
    environment = {variable: str(value or "") for variable, value in (body.get("environment") or {}).items()}
    hosts: dict[str, str] = {}
    for variable, value in environment.items():
        for host in hosts_named(variable, value, names.keys()):
            hosts.setdefault(names[host], variable)
    built = _read_dockerfile(body)
    entrypoint, command = _words(body.get("entrypoint")), _words(body.get("command"))
    # A new entrypoint also takes the image's command away.
    words = [*(entrypoint or built.entrypoint), *(command or (() if entrypoint else built.command))]
    declared_command = read_command([*entrypoint, *command])
    passwords = dict(_passwords(_bodies(name, unfilled)))
    # Whose value an env_file sets, no probe can ask for.
    passwords |= {
        variable: ""
        for variable, value in environment.items()
        if variable not in passwords and _holds_password(variable, value)
    }
    published, exposed = dict.fromkeys(_published_ports(body)), dict.fromkeys(_exposed_ports(body))
    return ServiceTraits(
        command=read_command(words),
        own_command=bool(declared_command.programs or entrypoint),
        ports=tuple(published | exposed),
        published=tuple(published),
        image_ports=built.ports,
        labelled=_port_of_labels(body, environment),
        called=called,
        port_variables=dict(_port_variables(environment)),
        listens=dict(_listening_variables(environment)),
        variables=frozenset(variable for variable, value in environment.items() if value),
        is_worker=any(
            _ROLE.search(variable) is not None and says_worker(value) for variable, value in environment.items()
        ),
        hosts=hosts,
        machine_ports=frozenset(machine_ports(environment, host_network=body.get("network_mode") == "host")),
        checked=_address_of_check(body, [host for host, service in names.items() if service == name]),
        never_restarted=_is_never_restarted(body),
        passwords=passwords,
        settings={
            variable: value for variable, value in environment.items() if variable in _login_variables() and value
        },
        password_files=dict(_password_files(environment, body, secrets)),
        base_image=built.base,
        image_checked=built.checked,
        targets=(*built.targets, *_targets(body)),
    )


def _is_never_restarted(body: Mapping[str, Any]) -> bool:
    policy = (body.get("deploy") or {}).get("restart_policy") or {}
    return body.get("restart") == "no" or policy.get("condition") == "none"


def _targets(body: Mapping[str, Any]) -> Iterator[str]:
    """The places in a container where the Compose file puts files: mounts, configs and secrets."""
    for kind in ("volumes", "configs", "secrets"):
        for entry in body.get(kind) or ():
            if target := entry.get("target"):
                yield str(target)


def _port_variables(environment: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    for name, value in environment.items():
        if address := listen_address(value):
            yield name, address[1]


def _listening_variables(environment: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Variables whose value can only be an address to listen on: it stands for every one of the container's own."""
    for name, value in environment.items():
        if _EVERYWHERE.match(value) and not _BESIDE.search(name) and (address := listen_address(value)):
            yield name, address[1]


def _port_of_labels(body: Mapping[str, Any], environment: Mapping[str, str]) -> int | None:
    """The port that labels, or the variable of nginx-proxy, tell a proxy."""
    labels = {str(name).lower(): str(value) for name, value in (body.get("labels") or {}).items()}
    if labels.get("traefik.enable", "").lower() == "false":
        return None
    values = [value for name, value in labels.items() if _LABELLED.fullmatch(name)]
    values += [value for name, value in environment.items() if name in _OF_PROXIES]
    ports = [match[1] or match[2] for value in values if (match := _UPSTREAM.fullmatch(value.strip()))]
    return int(ports[0]) if ports else None


@lru_cache(maxsize=1)
def _login_variables() -> frozenset[str]:
    """The variables that name a user, a database, or say that there is no password; never one of a password."""
    logins = [login for program in shipped_programs() for login in program.logins]
    named = {name for login in logins for name in (login.user, login.database, login.open_variable) if name}
    return frozenset(named)


def _read_dockerfile(body: Mapping[str, Any]) -> BuiltImage:
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
    arguments = {name: str(value) for name, value in (build.get("args") or {}).items() if value is not None}
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


def _words(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(word) for word in value or ()]


def _published_ports(body: Mapping[str, Any]) -> Iterator[int]:
    """Published ports inside the container over TCP; the host's network publishes none."""
    for entry in () if body.get("network_mode") == "host" else body.get("ports") or ():
        if entry.get("protocol", "tcp") == "tcp":
            yield int(entry["target"])


def _exposed_ports(body: Mapping[str, Any]) -> Iterator[int]:
    for entry in body.get("expose") or ():
        number, _, protocol = str(entry).partition("/")
        if number.isdigit() and protocol in ("", "tcp"):
            yield int(number)


def _address_of_check(body: Mapping[str, Any], hosts: Iterable[str]) -> CheckedAddress | None:
    """The address that a health check asks, if it names this container, by one of its `hosts` too, and no shell
    variable."""
    test = " ".join(_words((body.get("healthcheck") or {}).get("test")))
    match = re.search(_LOCAL_URL.format(names="".join(f"|{re.escape(host)}" for host in hosts)), test)
    if match is None:
        return None
    # curl ends with exit code 0 after an error page, unless an option says otherwise.
    strict = (
        re.search(r"\bcurl\b", test) is None or re.search(r"\s(?:--fail\S*|-[a-zA-Z]*f[a-zA-Z]*)\s", test) is not None
    )
    if _SENDS_MORE.search(test) or (_TAKES_ERRORS.search(test) and not _LOOKS_AT_STATUS.search(test)):
        strict = False
    return CheckedAddress(port=int(match[1] or 80), path=match[2] or "/", strict=strict)


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
            if _holds_password(name, value):
                yield name, _source(value)
        line = " ".join(part for key in ("entrypoint", "command") for part in _words(body.get(key)))
        for option, value in _PASSWORD_OPTION.findall(line):
            yield option, _source(value)


def _holds_password(name: str, value: str) -> bool:
    """Whether a variable has a password; ALLOW_EMPTY_PASSWORD=yes has none."""
    return is_secret_name(name) and not is_no_value(value) and _SWITCH.fullmatch(value) is None


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
