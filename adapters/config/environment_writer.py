"""Write the environment file that is proposed for an application."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from adapters.config.environment_names import SUFFIXES
from adapters.config.environment_schema import schema_reference
from models.adoption import AdoptionFacts, Proposal, ServiceProposal
from models.environments import Environment, ServiceSpec
from models.failures import EnvironmentFileError


def environment_text(path: Path, facts: AdoptionFacts, proposal: Proposal, name: str) -> str:
    """The text of the environment file at `path`, with comments; paths in it are relative where that is short.

    Raises:
        EnvironmentFileError: It would not be a valid environment.
    """
    text = "\n".join(_lines(path, facts, proposal, name)) + "\n"
    try:
        Environment.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise EnvironmentFileError(
            f"No environment can be proposed: {where}: {first['msg']}.",
            advice="Give another name with -p NAME or --output FILE.",
        ) from error
    return text


def check_free(path: Path, *, force: bool = False) -> None:
    """Refuse to write in place of what exists, before anything is read; `force` allows it for a file.

    Raises:
        EnvironmentFileError: It exists, or the other ending of this name does, which would make two environments.
    """
    try:
        conflicts = [candidate for candidate in {path, *map(path.with_suffix, SUFFIXES)} if os.path.lexists(candidate)]
        conflicts = [candidate for candidate in conflicts if not (force and candidate == path and candidate.is_file())]
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    if conflicts:
        raise EnvironmentFileError(
            f"{conflicts[0]} exists already and stays as it is.",
            advice="--force writes it anew, --output FILE writes another one.",
        )


def write_environment(path: Path, text: str, *, force: bool = False) -> None:
    """Write a new file, and missing folders; with `force` also in place of an existing file.

    Raises:
        EnvironmentFileError: It exists, or cannot be written.
    """
    check_free(path, force=force)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may have written it meanwhile.
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError | ValueError) -> EnvironmentFileError:
    reason = getattr(error, "strerror", None) or error
    return EnvironmentFileError(f"{path} cannot be written: {reason}.", advice="Name another place with --output FILE.")


def _lines(path: Path, facts: AdoptionFacts, proposal: Proposal, name: str) -> Iterator[str]:
    folder = path.absolute().parent
    yield f"# yaml-language-server: $schema={schema_reference(path)}"
    yield f"# Environment `{name}`, proposed by `roas init`. Change it as you like; `roas validate {name}` checks it."
    yield "# `roas schema` prints all fields. Relative paths start from this file's folder."
    yield ""
    yield f"name: {_flow(name)}"
    yield f"compose_files: {_flow([_path_from(folder, file) for file in facts.compose_files])}"
    yield f"project: {_flow(proposal.project)}"
    if facts.engine is not None:
        yield f"engine: {_flow(facts.engine)}"
    if facts.env_files:
        yield f"env_files: {_flow([_path_from(folder, file) for file in facts.env_files])}"
    if facts.profiles:
        yield f"profiles: {_flow(list(facts.profiles))}"
    if facts.needs:
        yield f"needs: {_flow(sorted(set(facts.needs.values())))}  # {', '.join(sorted(facts.needs))}"
    yield from _names(folder, proposal)
    described = [service for service in proposal.services if service.spec != ServiceSpec()]
    if described:
        yield ""
        yield "# What the Compose files do not say. A service that is not named here gets the defaults."
        yield "services:"
    for service in described:
        yield from _service(service)


def _names(folder: Path, proposal: Proposal) -> Iterator[str]:
    if proposal.variables:
        yield ""
        yield "# Variables without which nothing starts."
        yield f"variables: {_flow(list(proposal.variables))}"
    if proposal.secrets:
        yield ""
        yield "# Secrets by name. The value comes from the variable of that name (also from .env beside the Compose"
        yield "# file), or from a file: {name: DB_PASSWORD, file: /srv/shop/db_password}. It is never stored or shown."
        yield "secrets:"
    for secret in proposal.secrets:
        place = {} if secret.file is None else {"file": _path_from(folder, secret.file)}
        yield f"  - {_flow({'name': secret.name} | place)}{'' if secret.is_set else '  # has no value now'}"


def _service(service: ServiceProposal) -> Iterator[str]:
    yield f"  {_flow(service.service)}:"
    for comment in _comments(service):
        yield f"    # {comment}"
    spec = service.spec.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    dependencies = spec.pop("dependencies", ())
    for field, value in spec.items():
        yield f"    {field}: {_flow(value)}"
    if dependencies:
        yield "    dependencies:"
    for needed in dependencies:
        yield f"      - {_flow(needed)}  # {service.dependencies[needed['service']]} names it"


def _comments(service: ServiceProposal) -> Iterable[str]:
    if service.is_job:
        yield "A job that ends: nothing to hold after exit code 0."
    if service.program:
        yield f"{service.program}, by its {service.recognised_by}."
    if service.spec.outside_logins:
        yield "Discord counts logins, so its restarts are rare."


def _flow(value: Any) -> str:
    """A value as YAML on one line, quoted where it has to be."""
    text = yaml.safe_dump(_whole(value), default_flow_style=True, width=math.inf, sort_keys=False, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _whole(value: Any) -> Any:
    """Write 90, not 90.0."""
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _path_from(folder: Path, file: Path) -> str:
    """A file relative to the environment's folder where both are in one folder's tree, else absolute."""
    target = file.absolute()
    near: Sequence[Path] = folder.resolve().parents[:2]
    is_near = any(target.resolve().is_relative_to(ancestor) and ancestor != Path("/") for ancestor in near)
    return os.path.relpath(target.resolve(), folder.resolve()) if is_near else str(target)
