"""Adoption of an application: the programs that are known, what its services run, and what is proposed for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from models.compose import Application
from models.environments import Limits, Probe, ServiceSpec


class Login(BaseModel):
    """How an image of a program names its user, password and database: variables of the container.

    A password may also come from the file that the variable `password` with `_FILE` names. `default_user` is the user
    where the variable is not set. `open_variable`: where it is set, to `open_value` if that is given, no password is
    asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    password: str
    user: str | None = None
    default_user: str | None = None
    database: str | None = None
    open_variable: str | None = None
    open_value: str | None = None


class Program(BaseModel):
    """One program as patterns/programs/programs.yaml describes it: how it is recognised, and what fits it.

    `images` are repositories, with or without the folders before the last name; `commands` are names of executables
    in a command or entrypoint; `variables` are names in a container's environment; `ports` are inside the container,
    and decide only where nothing else does. `server`: it listens, so a service that runs it is no job.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str
    images: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    server: bool = False
    runtime: bool = Field(default=False, description="Other programs run in its images, so the command says more.")
    probe: Probe | None = None
    login_probe: Probe | None = Field(default=None, description="Probe with a login, where one of `logins` is known.")
    logins: tuple[Login, ...] = ()
    certificate: bool = Field(default=False, description="Where it serves port 443, probe the certificate there.")
    password_variables: tuple[str, ...] = ()
    password_option: str | None = None
    port_check: tuple[str, ...] = Field(default=(), description="Health check of a port, with PORT in its place.")
    health_check: tuple[str, ...] = Field(default=(), description="`test` of a Compose health check.")
    limits: Limits = Limits()
    observes: bool = Field(default=False, description="It watches the others: its loss, or theirs, stops nothing.")
    outside_logins: bool = False
    stateful: bool = Field(default=False, description="It keeps data, so two of it must not run at once.")
    proxy: str = Field(default="", description="The kind of proxy it is: it passes requests on to other services.")
    source: str = Field(description="Where its check is documented.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedAddress:
    """The address that a health check asks inside the container."""

    port: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordFile:
    """A secret of the Compose file that a service gets its password from: its name, and its file or variable."""

    name: str
    file: Path | None = None
    variable: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTraits:
    """What tells which program a service runs, and which services it names; no value of a variable but `settings`.

    `programs` are the names of executables in its entrypoint and command. `ports` are those it publishes or exposes.
    `hosts` are the variables that name another service's host, by service. `never_restarted`: the file says
    restart "no". `passwords` are the variables that its password comes from, by option or variable of the container;
    one that the file holds as a literal has None. `settings` are the variables that name a user or a database, with
    their values, and `password_files` those that name the file of a password. `base_image` is what a built image begins
    with, and `image_checked`: its Dockerfile has a health check.
    """

    programs: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    hosts: dict[str, str] = field(default_factory=dict)
    checked: CheckedAddress | None = None
    never_restarted: bool = False
    passwords: dict[str, str | None] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    password_files: dict[str, PasswordFile] = field(default_factory=dict)
    base_image: str = ""
    image_checked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedVariable:
    """A variable that the Compose files use. `is_set`: it has a value now that is not empty.

    `file` holds its value where it is a secret that the Compose file reads from there.
    """

    name: str
    is_secret: bool
    is_set: bool
    has_default: bool = False
    file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptionFacts:
    """An application as Compose reads it, with what the adoption needs beyond that.

    `images_with_check` are the images that have a health check of their own, as far as the engine holds them.
    `left_out` are services whose profiles are not switched on, so Compose leaves them out.
    """

    application: Application
    compose_files: tuple[Path, ...]
    env_files: tuple[Path, ...] = ()
    profiles: tuple[str, ...] = ()
    engine: str | None = None
    traits: dict[str, ServiceTraits] = field(default_factory=dict)
    variables: tuple[UsedVariable, ...] = ()
    images_with_check: frozenset[str] = frozenset()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceProposal:
    """What is proposed for one service, and why.

    `program` is the name of what it runs, and `recognised_by` the evidence for it; both are empty where nothing did.
    `checked`: it has a health check of its own. `health_check` is the `test` that is offered where it has none.
    `dependencies` are the variables that name a service it needs, by that service.
    """

    service: str
    spec: ServiceSpec
    program: str = ""
    recognised_by: str = ""
    probe_reason: str = ""
    is_job: bool = False
    checked: bool = False
    health_check: tuple[str, ...] = ()
    dependencies: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An environment that is proposed for an application. Secrets and variables are names, without values."""

    project: str
    services: tuple[ServiceProposal, ...]
    secrets: tuple[UsedVariable, ...] = ()
    variables: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def unchecked(self) -> tuple[ServiceProposal, ...]:
        """The services that stay up and have no health check of their own."""
        return tuple(one for one in self.services if not one.checked and not one.is_job)
