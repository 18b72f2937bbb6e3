"""Decide at which port a service that is adopted can be asked, and by which evidence."""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.adoption.commands import says_worker
from core.adoption.recognise import Recognised
from models.adoption import Program, ServiceTraits
from models.compose import ServiceDeclaration

_LISTENS = re.compile(
    r"--?(?:port|bind|http|listen|listen-addr(?:ess)?|listen-port|http-port|http-addr(?:ess)?|addr|address|bind-address|"
    r"listen-client-urls|(?:web|http|server)[.-](?:listen[.-])?(?:address|addr|port)|(?:server[.-])?http[.-]listen[.-]port)"
    r"|runserver|http\.server"
)
"""Options that make most programs listen; each program can have others."""

_VARIABLES = (
    "PORT",
    "HTTP_PORT",
    "SERVER_PORT",
    "LISTEN_PORT",
    "ROCKET_PORT",
    "ASPNETCORE_HTTP_PORTS",
    "ASPNETCORE_URLS",
)
_SHORT = frozenset({"-b", "-p", "-S"})
"""Options of web servers in Python, Node, PHP and Ruby; of other programs they mean other things."""
_OF_RUBY = frozenset({"puma", "rails", "rackup", "thin", "unicorn", "falcon"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PortEvidence:
    """A port to ask, None where there is none, and the reason. `is_explicit`: an option of its command says it."""

    port: int | None = None
    reason: str = ""
    is_explicit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """What other services say about one. `network`: the published ports of the network that it shares with others,
    `is_shared`: it does, and `is_inside`: it is another service's. `same_image`: how many services run its image,
    and `same_start`: how many of them start what it starts, and are no workers."""

    network: tuple[int, ...] = ()
    is_shared: bool = False
    is_inside: bool = False
    same_image: int = 1
    same_start: int = 1


def find_port(
    declared: ServiceDeclaration, traits: ServiceTraits, recognised: Recognised | None, around: Neighbours
) -> PortEvidence:
    """The port that a service serves.

    What its own settings say comes first, then what the files say to others, then defaults. A worker serves
    none, whatever its image exposes, unless the file itself publishes one.
    """
    if declared.network_mode == "none":
        return PortEvidence(reason="it has no network")
    program = recognised.program if recognised is not None and recognised.serves else None
    works = works_only(declared, traits, recognised, around)
    default = None if program is None or recognised is None else _default(declared, traits, recognised)
    offered = traits.published if works else traits.ports
    if around.is_shared:
        # Ports of a shared network belong to any of its services.
        candidates = {port for name, port in traits.port_variables.items() if name.endswith("PORT")} | {default}
        exposed = {*traits.image_ports} & {*around.network}
        if around.is_inside and len(exposed) == 1:
            # Published there, and exposed by its own image.
            candidates |= exposed
        offered = tuple(port for port in around.network if port in candidates)
    # A variable that makes it a worker decides before the command that its image starts by default.
    if not traits.is_worker and (evidence := _explicit_port(traits, program)):
        return evidence
    if variable := _variable(traits, program, offered, guess=not (works or around.is_shared)):
        return PortEvidence(port=traits.port_variables[variable], reason=f"{variable} says so")
    if traits.labelled is not None and not around.is_shared:
        return PortEvidence(port=traits.labelled, reason="a proxy's label names that port")
    if offered:
        return PortEvidence(port=_first_of(offered, default, traits, program), reason="it listens there")
    if works:
        return PortEvidence(reason="it works without a port of its own")
    beside = () if program is None else program.other_ports
    called = [port for port in traits.called if port not in beside]
    if called and not around.is_shared:
        return PortEvidence(port=default if default in called else called[0], reason="other services ask it there")
    is_alone = not around.is_shared and (around.same_image == 1 or not traits.own_command)
    if is_alone and program is None and len(traits.listens) == 1:
        [(variable, port)] = traits.listens.items()
        return PortEvidence(port=port, reason=f"{variable} says so")
    if (exposed_port := _exposed_port(declared, traits, recognised, around, default)) is not None:
        return PortEvidence(port=exposed_port, reason="its image listens there")
    if default is not None:
        return PortEvidence(port=default, reason="it is the default")
    if around.network:
        return PortEvidence(reason="the published ports belong to a network that it shares, and no file says to whom")
    if recognised is not None and not recognised.serves:
        return PortEvidence(reason="its command starts something else than its image's server")
    return PortEvidence(reason="no file says where it listens")


def works_only(
    declared: ServiceDeclaration, traits: ServiceTraits, recognised: Recognised | None, around: Neighbours
) -> bool:
    """Whether a service takes work from a queue or a clock: by its command, a variable, or, where other services run
    its image too, by its name."""
    if traits.is_worker:
        return True
    if recognised is not None and recognised.program.server and recognised.by.startswith("command"):
        return False
    if traits.command.works:
        return True
    if recognised is not None and recognised.is_own and recognised.program.stateful:
        # A broker or cache that is called queue is what the workers ask.
        return False
    return around.same_image > 1 and not traits.own_command and says_worker(declared.name)


def _explicit_port(traits: ServiceTraits, program: Program | None) -> PortEvidence | None:
    """The port that options of the command say; None where they say nothing."""
    listeners, options = traits.command.listens, () if program is None else program.listen_options
    is_runtime = program is not None and program.id in ("python_web", "python", "node", "php")
    short = _SHORT if is_runtime or _OF_RUBY & {*traits.command.programs} else ()
    for name, port in sorted(listeners, key=lambda listener: not _is_one_of(listener[0], options)):
        if _is_one_of(name, options) or name in short or _LISTENS.fullmatch(name):
            return PortEvidence(port=port, reason=f"its command says {name}", is_explicit=True)
    if traits.command.loopback:
        return PortEvidence(reason="its command makes it listen for its own container alone")
    return None


def _is_one_of(name: str, expressions: tuple[str, ...]) -> bool:
    return any(re.fullmatch(expression, name) for expression in expressions)


def _variable(traits: ServiceTraits, program: Program | None, offered: tuple[int, ...], *, guess: bool) -> str | None:
    """The variable that says where a service listens. One that any program may use only chooses among ports that
    are offered or asked by others, or, as a `guess`, counts where the service starts what its image starts."""
    expressions = () if program is None else program.listen_variables
    if named := next((name for name in traits.port_variables if _is_one_of(name, expressions)), None):
        return named
    if program is not None and not program.runtime and program.probe is not None:
        return None
    guess = guess and not offered and not traits.own_command
    reached = {*offered, *traits.called}
    names = (name for name in _VARIABLES if (port := traits.port_variables.get(name)) and (guess or port in reached))
    return next(names, None)


def _first_of(ports: tuple[int, ...], default: int | None, traits: ServiceTraits, program: Program | None) -> int:
    if default in ports:
        return int(default or 0)
    beside = () if program is None else program.other_ports
    main_ports = [port for port in ports if port not in beside]
    if not main_ports:
        return default or ports[0]
    return next((port for port in main_ports if port in traits.called), main_ports[0])


def _exposed_port(
    declared: ServiceDeclaration,
    traits: ServiceTraits,
    recognised: Recognised | None,
    around: Neighbours,
    default: int | None,
) -> int | None:
    """The port of its image that a service serves, where one is sure.

    A Dockerfile lists its own first. An image has also those of the images that it was built from, so it has to expose
    one alone or the program's own, and only this service may start what it starts, under no name of a worker.
    """
    if around.is_shared or not traits.image_ports or not _runs_what_its_image_exposes(traits, recognised, around):
        return None
    program = None if recognised is None or not recognised.serves else recognised.program
    port = _first_of(traits.image_ports, default, traits, program)
    if declared.build or port == default:
        return port
    starts_it_alone = not traits.own_command and around.same_start == 1 and not says_worker(declared.name)
    return port if starts_it_alone and len(traits.image_ports) == 1 else None


def _runs_what_its_image_exposes(traits: ServiceTraits, recognised: Recognised | None, around: Neighbours) -> bool:
    """Whether EXPOSE holds for a service: it starts what its image starts, or a server, or it alone has that image."""
    is_server = recognised is not None and recognised.serves and recognised.program.server
    return not traits.own_command or is_server or (around.same_image == 1 and not traits.command.ends)


def _default(declared: ServiceDeclaration, traits: ServiceTraits, recognised: Recognised) -> int | None:
    """The port of the program itself, where its image is known to keep it and nothing that is put there changes it."""
    program = recognised.program
    if program.runtime and traits.command.programs:
        return None
    tag = (traits.base_image or declared.image).partition("@")[0].rpartition("/")[2].partition(":")[2]
    by_tag = next((port for word, port in program.tag_ports.items() if word in re.split(r"[-.]", tag)), None)
    probe = program.probe if hasattr(program.probe, "port") else program.login_probe
    port = by_tag or getattr(probe, "port", None)
    is_configured = any(_is_within(target, folder) for target in traits.targets for folder in program.configured_in)
    return port if recognised.is_own and program.keeps_port and not is_configured else None


def _is_within(target: str, folder: str) -> bool:
    inner, outer = f"{target.rstrip('/')}/", f"{folder.rstrip('/')}/"
    return inner.startswith(outer) or outer.startswith(inner)
