"""Recognise the program that a service runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from models.adoption import Program, ServiceTraits
from models.compose import ServiceDeclaration


@dataclass(frozen=True, slots=True)
class Recognised:
    """A program, and the evidence for it.

    `serves`: the service runs it as the server that it is; False where another command runs in its image.
    `is_own`: it is known by an image of the program's own, whose defaults are known too.
    """

    program: Program
    by: str
    serves: bool = True
    is_own: bool = False


def recognise(service: ServiceDeclaration, traits: ServiceTraits, programs: Sequence[Program]) -> Recognised | None:
    """Return the program that a service runs, or None.

    The command decides before the image: many images start other things than their server, such as a queue's worker. An
    image still says which data is there, so it is what remains where the command says nothing.
    A variable decides before the command where its program is more than a runtime: a bot for Discord runs in Node or
    Python too. A port decides last, since any program can use it.
    """
    images = {"image": repository_of(service.image)}
    if traits.base_image:
        images["base image"] = repository_of(traits.base_image)
    by_image = _recognise_image(images, [program for program in programs if not program.runtime])
    started = traits.command.programs
    if by_image is not None and runs_server(traits, by_image.program):
        return by_image
    for program in programs:
        if named := _first(program.variables, service.environment_names):
            return Recognised(program, f"variable {named}")
    # The first that is started may only prepare what the last one serves.
    for program in sorted(programs, key=lambda program: not program.server):
        if named := _first(program.commands, started):
            return Recognised(program, f"command {named}", is_own=by_image is not None and by_image.program == program)
    if by_image is not None:
        return Recognised(by_image.program, by_image.by, serves=False)
    if recognised := _recognise_image(images, programs):
        return recognised
    for program in programs:
        for port in program.ports:
            # A port among others, such as that of mail beside a web server's, does not say what the service is.
            if port in traits.ports and {*traits.ports} <= {*program.ports, *program.other_ports}:
                return Recognised(program, f"port {port}")
    return None


def runs_server(traits: ServiceTraits, program: Program) -> bool:
    """Whether a service of a program's image runs its server: nothing else is started, and no variable says so."""
    if traits.is_worker:
        return False
    started = traits.command.programs
    # Where only an entrypoint of its own is known, what it starts is not.
    return not (traits.own_command or started) or bool({*program.commands, *program.arguments} & {*started})


def _recognise_image(images: Mapping[str, str], programs: Iterable[Program]) -> Recognised | None:
    for kind, repository in images.items():
        for program in programs:
            if image := next((name for name in program.images if _is_repository(repository, name)), None):
                return Recognised(program, f"{kind} {repository}", is_own=_is_own(repository, image, program))
    return None


def _is_own(repository: str, image: str, program: Program) -> bool:
    folder = repository.rpartition("/")[0]
    return (
        "/" in image or "*" in program.publishers or folder.rpartition("/")[2] in ("", "library", *program.publishers)
    )


def repository_of(image: str) -> str:
    """The repository of an image's name, without registry, tag and digest: ghcr.io/acme/shop:1 is acme/shop."""
    name = image.partition("@")[0]
    before, slash, last = name.rpartition("/")
    parts = [*before.split("/"), last.partition(":")[0]] if slash else [last.partition(":")[0]]
    # The first part is a registry if it has a dot or a port, as Docker decides.
    if len(parts) > 1 and ("." in parts[0] or ":" in parts[0] or parts[0] == "localhost"):
        del parts[0]
    return "/".join(parts)


def _is_repository(repository: str, image: str) -> bool:
    """Whether an image is of a program: a name with a folder must match whole, one without as the last part."""
    if "/" in image:
        return repository == repository_of(image)
    return repository.rpartition("/")[2] == image


def _first(candidates: Iterable[str], names: Iterable[str]) -> str | None:
    name_set = frozenset(names)
    return next((candidate for candidate in candidates if candidate in name_set), None)
