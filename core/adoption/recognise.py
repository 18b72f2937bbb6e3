"""Recognise the program that a service runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from models.adoption import Program, ServiceTraits
from models.compose import ServiceDeclaration


@dataclass(frozen=True, slots=True)
class Recognised:
    """A program, and the evidence for it."""

    program: Program
    by: str


def recognise(service: ServiceDeclaration, traits: ServiceTraits, programs: Sequence[Program]) -> Recognised | None:
    """Return the program that a service runs, or None.

    A variable decides before the command where its program is more than a runtime: a bot for Discord runs in Node or
    Python too. A port decides last, since any program can use it.
    """
    images = {"image": repository_of(service.image)}
    if traits.base_image:
        images["base image"] = repository_of(traits.base_image)
    of_servers = [program for program in programs if not program.runtime]
    if found := _by_image(images, of_servers):
        return found
    for program in programs:
        if named := _first(program.variables, service.environment_names):
            return Recognised(program, f"variable {named}")
    for program in programs:
        if named := _first(program.commands, traits.programs):
            return Recognised(program, f"command {named}")
    if found := _by_image(images, programs):
        return found
    for program in programs:
        for port in program.ports:
            if port in traits.ports:
                return Recognised(program, f"port {port}")
    return None


def _by_image(images: Mapping[str, str], programs: Iterable[Program]) -> Recognised | None:
    for kind, repository in images.items():
        for program in programs:
            if any(_is_repository(repository, image) for image in program.images):
                return Recognised(program, f"{kind} {repository}")
    return None


def repository_of(image: str) -> str:
    """The repository of an image's name, without registry, tag and digest: ghcr.io/acme/shop:1 is acme/shop."""
    name = image.partition("@")[0]
    before, slash, last = name.rpartition("/")
    parts = [*before.split("/"), last.partition(":")[0]] if slash else [last.partition(":")[0]]
    # The first part is a registry if it has a dot or a port, as Docker decides.
    if len(parts) > 1 and ("." in parts[0] or ":" in parts[0] or parts[0] == "localhost"):
        del parts[0]
    return "/".join(parts)


def _is_repository(repository: str, wanted: str) -> bool:
    """Whether an image is of a program: a name with a folder must match whole, one without as the last part."""
    if "/" in wanted:
        return repository == repository_of(wanted)
    return repository.rpartition("/")[2] == wanted


def _first(wanted: Iterable[str], given: Iterable[str]) -> str | None:
    known = frozenset(given)
    return next((one for one in wanted if one in known), None)
