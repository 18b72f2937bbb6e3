"""Adoption of an application: the programs that are known, what its services run, and what is proposed for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from models.compose import Application
from models.environments import Limits, Probe, ServiceSpec
from models.fields import Strict


class Login(Strict):
    """How an image of a program names its user, password and database: variables of the container.

    A password may also come from the file that the variable `password` with `_FILE` names. `default_user` is the user
    where the variable is not set. `open_variable`: where it is set, to `open_value` if that is given, no password is
    asked for.
    """

    password: str
    user: str | None = None
    default_user: str | None = None
    database: str | None = None
    open_variable: str | None = None
    open_value: str | None = None


class ConfigurationCheck(Strict):
    """How a program checks its own configuration, without serving.

    `options` are those of its command that name the file; it stands for FILE in `with_file`, the command of the check.
    `without_file` is the command where its own names none; without it there is then no check. A file whose path does
    not match `files` is not checked. `through_entrypoint`: the image's docker-entrypoint.sh prepares the configuration
    first. `reasons` find in the output why it is refused, the first one first, and `unknown` what says nothing of the
    configuration, such as that another service is down. `unresolved` finds names that it does not find, which says
    nothing where it is asked without its networks.
    """

    options: tuple[str, ...]
    with_file: tuple[str, ...]
    without_file: tuple[str, ...] = ()
    files: str = ""
    through_entrypoint: bool = False
    reasons: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()
    source: str = Field(description="Where it is documented.")


class Program(Strict):
    """One program as patterns/programs/programs.yaml describes it: how it is recognised, and what fits it.

    `images` are repositories, with or without the folders before the last name; `commands` are names of executables
    in a command or entrypoint; `variables` are names in a container's environment; `ports` are inside the container,
    and decide only where nothing else does. `server`: it listens, so a service that runs it is no job.

    The port of `probe` is asked only where nothing says another one and the image is the program's own: one without a
    folder, one that `images` names with its folder, or one of `publishers`. `listen_options` and `listen_variables` are
    regular expressions.
    """

    id: str
    name: str
    images: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    publishers: tuple[str, ...] = Field(default=(), description="Folders of images that keep its defaults; * is any.")
    server: bool = False
    runtime: bool = Field(default=False, description="Other programs run in its images, so the command says more.")
    arguments: tuple[str, ...] = Field(default=(), description="First words with which its images start the server.")
    probe: Probe | None = None
    listen_options: tuple[str, ...] = Field(default=(), description="Options for the port of `probe`, beside --port.")
    listen_variables: tuple[str, ...] = Field(default=(), description="Variables of the container for that port.")
    tag_ports: dict[str, int] = Field(default_factory=dict, description="Its port where the image's tag has the word.")
    other_ports: tuple[int, ...] = Field(default=(), description="Ports that it serves beside the one of `probe`.")
    configured_in: tuple[str, ...] = Field(
        default=(), description="Folders of the container whose files choose the port, so its default is not known."
    )
    keeps_port: bool = Field(default=True, description="False: without a configuration it serves no port at all.")
    unless: tuple[str, ...] = Field(
        default=(), description="Options and variables with which `probe` would fail, so only the open port is asked."
    )
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
    configuration: ConfigurationCheck | None = None
    source: str = Field(description="Where its check is documented.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandReading:
    """What an entrypoint and command say.

    `programs` are the executables that are started, in order. `listens` are the ports that options make the program
    listen on for others, by option, in the order given. `loopback`: it listens for its own container alone. `options`
    are the names of all options. `works`: it takes work from a queue or a clock, so no port is what it serves.
    `ends`: the last thing that is started does its work and exits. `files` are configuration files in the arguments.
    """

    programs: tuple[str, ...] = ()
    listens: tuple[tuple[str, int], ...] = ()
    loopback: bool = False
    options: frozenset[str] = field(default_factory=frozenset)
    works: bool = False
    ends: bool = False
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedAddress:
    """The address that a health check asks inside the container. `strict`: an error page fails it."""

    port: int
    path: str
    strict: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordFile:
    """A secret of the Compose file that a service gets its password from: its name, and its file or variable."""

    name: str
    file: Path | None = None
    variable: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTraits:
    """What tells which program a service runs, and which services it names; no value of a variable but `settings`.

    `command` is what its entrypoint and command say, those of its Dockerfile where the Compose file has none, and
    `own_command`: the Compose file names a program. `ports` are those it publishes or exposes, `published` only the
    former, `image_ports` those of its Dockerfile or of its image on the engine, `labelled` the one that labels tell a
    proxy, `called` those that other services' variables and commands name with its host. `port_variables` are its
    variables that hold a port, `listens` those whose value can only be an address to listen on.
    `variables` are the names of those that are set, and `is_worker`: one of them says that it is no server.
    `hosts` are the variables that name another service's host, by service, `machine_ports` the ports of the machine
    that variables name. `never_restarted`: the file says
    restart "no". `passwords` are the variables that its password comes from, by option or variable of the container;
    one that the file holds as a literal has None, and one that comes from an `env_file` is empty. `settings` are the
    variables that name a user or a database, with their values, and `password_files` those that name the file of a
    password. `base_image` is what a built image begins with, `image_checked`: its image has a health check of its own,
    `image_absent`: the engine does not hold it, and `targets` where it gets files: mounts and copies.
    """

    command: CommandReading = CommandReading()
    own_command: bool = False
    ports: tuple[int, ...] = ()
    published: tuple[int, ...] = ()
    image_ports: tuple[int, ...] = ()
    labelled: int | None = None
    called: tuple[int, ...] = ()
    port_variables: dict[str, int] = field(default_factory=dict)
    listens: dict[str, int] = field(default_factory=dict)
    variables: frozenset[str] = frozenset()
    is_worker: bool = False
    hosts: dict[str, str] = field(default_factory=dict)
    machine_ports: frozenset[int] = frozenset()
    checked: CheckedAddress | None = None
    never_restarted: bool = False
    passwords: dict[str, str | None] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    password_files: dict[str, PasswordFile] = field(default_factory=dict)
    base_image: str = ""
    image_checked: bool = False
    image_absent: bool = False
    targets: tuple[str, ...] = ()


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

    `left_out` are services whose profiles are not switched on, so Compose leaves them out. `needs` are environments or
    services of these, by what of them it uses: a network that it joins, a port of the machine.
    """

    application: Application
    compose_files: tuple[Path, ...]
    env_files: tuple[Path, ...] = ()
    profiles: tuple[str, ...] = ()
    engine: str | None = None
    traits: dict[str, ServiceTraits] = field(default_factory=dict)
    variables: tuple[UsedVariable, ...] = ()
    left_out: tuple[str, ...] = ()
    needs: dict[str, str] = field(default_factory=dict)


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
    def unchecked_services(self) -> tuple[ServiceProposal, ...]:
        """The services that stay up and have no health check of their own."""
        return tuple(service for service in self.services if not service.checked and not service.is_job)
