"""An application as its Compose files declare it, after Compose itself has read and merged them.

Values of variables never appear here: only the names of what a container's environment holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from models.hooks import PlannedHook
from models.image_names import complete_name


class DependencyCondition(StrEnum):
    """Condition that a dependency must meet before a service starts."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


@dataclass(frozen=True, slots=True, kw_only=True)
class DependsOn:
    """One entry of depends_on. `restart`: follow when Compose restarts or replaces the dependency."""

    condition: DependencyCondition = DependencyCondition.STARTED
    required: bool = True
    restart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthcheckDeclaration:
    """A health check as declared; None where the file leaves it to the image or the engine's default."""

    test: tuple[str, ...] | None = None
    disabled: bool = False
    interval: timedelta | None = None
    timeout: timedelta | None = None
    retries: int | None = None
    start_period: timedelta | None = None
    start_interval: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPort:
    """One port offered on the host. `published` is None where the engine chooses any; a range of host ports,
    of which the engine chooses, ends at `published_last`."""

    target: int
    published: int | None
    published_last: int | None = None
    host_ip: str = ""
    protocol: str = "tcp"


class MountKind(StrEnum):
    """Source of the content of a mount."""

    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount of a service; `source` is a path of the host for binds, else a volume's name."""

    kind: MountKind
    target: str
    source: str = ""
    read_only: bool = False
    create_host_path: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDeclaration:
    """One service of an application. Memory is in bytes, processors in whole and part cores.

    `config_hash` is Compose's own hash, as it labels containers with; it is empty for a service that
    lives inside another's namespace or volumes, whose label also depends on that other's container.
    `build_hash` changes with how the image is built: arguments, target, files named; not with the context's content.
    `awaited`: another service waits for this one to finish. `one_shot`: exit code 0 means done, because it
    is awaited or because nothing (restart policy, health check, published port) says that it is to stay up.
    `update_order` is that of deploy.update_config. `left_aside` is what only Compose or Swarm does, in words.
    `fixed_address` is an address or MAC address that the file chooses.
    `program` is the id of the program that it is recognised to run, as patterns/programs/programs.yaml names it.
    """

    name: str
    image: str
    build: bool = False
    build_context: str = ""
    dockerfile: str = ""
    build_hash: str = field(default="", repr=False)
    user: str = ""
    pull_policy: str = ""
    platform: str | None = None
    depends_on: dict[str, DependsOn] = field(default_factory=dict)
    healthcheck: HealthcheckDeclaration | None = None
    restart: str = "no"
    replicas: int = 1
    profiles: tuple[str, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    mounts: tuple[Mount, ...] = ()
    networks: tuple[str, ...] = ()
    environment_names: tuple[str, ...] = ()
    memory_limit_bytes: int | None = None
    memory_reservation_bytes: int | None = None
    cpu_limit: float | None = None
    cpu_reservation: float | None = None
    open_files: int | None = None
    stop_grace_period: timedelta = timedelta(seconds=10)
    container_name: str | None = None
    inside_of: tuple[str, ...] = ()
    privileged: bool = False
    read_only: bool = False
    host_network: bool = False
    capabilities_added: tuple[str, ...] = ()
    capabilities_dropped: tuple[str, ...] = ()
    injects_files: bool = False
    update_order: str = ""
    left_aside: tuple[str, ...] = ()
    network_mode: str = ""
    fixed_address: str = ""
    config_hash: str = ""
    awaited: bool = False
    one_shot: bool = False
    program: str = ""

    @property
    def restarts(self) -> bool:
        """True where the engine starts it again whatever its exit code."""
        return self.restart in {"always", "unless-stopped"}

    @property
    def checked(self) -> bool:
        """True where the file declares a health check that runs."""
        return self.healthcheck is not None and not self.healthcheck.disabled


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDeclaration:
    """One network. `name` is the engine's name for it; external ones must exist beforehand."""

    key: str
    name: str
    external: bool = False
    driver: str = ""
    subnets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlace:
    """How a service is found in a network: the engine's name for it, and the service's names and addresses there."""

    name: str
    aliases: tuple[str, ...]
    ipv4_address: str | None = None
    ipv6_address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeDeclaration:
    """One volume. `name` is the engine's name for it; external ones must exist beforehand."""

    key: str
    name: str
    external: bool = False
    driver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountedFile:
    """A configuration or secret file of the host that Compose mounts into services."""

    kind: str
    key: str
    path: str
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """Everything that Compose runs for one project, with the warnings it gave while reading."""

    project: str
    services: dict[str, ServiceDeclaration]
    networks: tuple[NetworkDeclaration, ...] = ()
    volumes: tuple[VolumeDeclaration, ...] = ()
    files: tuple[MountedFile, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeVariable:
    """A variable that the Compose files use."""

    name: str
    required: bool = False
    default: str = ""
    alternate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedFile:
    """A file Compose writes into a container just before its start: inline configs, secrets from variables.

    The content may be a secret: it is kept out of the value's text and belongs in no store.
    """

    target: str
    content: bytes = field(repr=False)
    mode: int = 0o444
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLabels:
    """What an image says of itself; empty where it does not. It is text of others, shortened and safe to show."""

    title: str = ""
    version: str = ""
    revision: str = ""
    source: str = ""
    description: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseNote:
    """What changes with a service's new image.

    `before` is None where the earlier image is gone, `after` None before the new one is fetched. `text` says both in
    one line. `commits` are subjects of the commits between the two revisions, newest first; there are `more_commits`.
    """

    service: str
    text: str
    before: ImageLabels | None = None
    after: ImageLabels | None = None
    commits: tuple[str, ...] = ()
    more_commits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFact:
    """An image as the engine holds it.

    `checked`: it has a health check of its own. `ports` are those that it exposes over TCP. `layers` are the folders of
    its content on the engine's host, uppermost first, if the engine reports them. `tagged_at` is when it was pulled,
    built or named last. `content` is the same for two images of the same layers and configuration, whatever Compose
    wrote into their labels.
    """

    reference: str
    image_id: str
    digests: tuple[str, ...] = ()
    platform: str = ""
    size_bytes: int = 0
    created_at: datetime | None = None
    checked: bool = False
    ports: tuple[int, ...] = ()
    user: str = ""
    label_values: dict[str, str] = field(default_factory=dict, hash=False)
    layers: tuple[str, ...] = ()
    tagged_at: datetime | None = None
    labels: ImageLabels = ImageLabels()
    content: str = ""

    def digest_under(self, *names: str) -> str:
        """The digest in the repository of the first of these names that it has one in, else any; empty without any.

        Built or pulled elsewhere, too, an image has the digests of other registries, which may be gone.
        """
        by_repository = {complete_name(digest)[:2]: digest for digest in reversed(self.digests)}
        repositories = (complete_name(name)[:2] for name in names)
        return next(
            (by_repository[repository] for repository in repositories if repository in by_repository),
            next(iter(self.digests), ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAnswer:
    """The digest that a registry has under a name now, and what its annotations say, or why it could not be asked."""

    digest: str = ""
    problem: str = ""
    labels: ImageLabels = ImageLabels()


class FetchKind(StrEnum):
    """How an operation obtains a service's image before it touches a container."""

    PULL = "pull"
    BUILD = "build"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFetch:
    """What an operation does for a service's image, and what is known of the result beforehand.

    `changes` says why the image becomes another one; it is empty where it stays the same. `settled` is False where the
    result is unknown, and `note` then says why. `digest` is the registry's. `through` is the service whose fetch brings
    the image to this one as well, because both use one name of it. `held_back`: it is not fetched, since it failed, or
    is too young. `current`: the engine's name means the registry's image already, so a pull would bring nothing.
    `here`: the engine has an image of the name, though perhaps an older one.
    """

    service: str
    kind: FetchKind
    changes: str = ""
    settled: bool = True
    note: str = ""
    digest: str = ""
    through: str = ""
    held_back: bool = False
    current: bool = False
    here: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """Which images an operation fetches beyond those that a service's own `pull_policy` asks for.

    `services` limits the operation to these services; None means all. `update`: containers are replaced one service at
    a time, and images that failed before are held back. `fetched`: it is done, so nothing is to be fetched any more.
    """

    pull: bool = False
    build: bool = False
    services: frozenset[str] | None = None
    update: bool = False
    fetched: bool = False


ALL_IMAGES = FetchOptions(pull=True, build=True)
OF_UPDATE = FetchOptions(pull=True, build=True, update=True)
"""What an update of all services fetches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortHolder:
    """A container that holds a port of the host."""

    port: int
    host_ip: str
    protocol: str
    container: str
    project: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFact:
    """A network the engine has, with the project that owns it, if any."""

    name: str
    driver: str
    subnets: tuple[str, ...] = ()
    project: str = ""


class PlannedAction(StrEnum):
    """Action of a start on one service."""

    KEEP = "keep"
    START = "start"
    RESTART = "restart"
    RECREATE = "recreate"
    CREATE = "create"


class Interruption(StrEnum):
    """How a service that runs is interrupted by an action."""

    NONE = "none"
    RESTARTED = "restarted"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedService:
    """One line of a plan: what happens to a service, and because of which change.

    `interruption_seconds` is how long its last interruptions took, as a median of `interruptions_measured`; None where
    no earlier one is on record. `note` says what could not be found out, or is left aside. `start_first`: its new
    container is proven beside the old one; where that was wanted and cannot be, `stop_first_because` says why. None of
    these is part of the plan's id. `other_volumes` says where its new container has no longer the volume that it has
    now, and is part of it.
    """

    service: str
    action: PlannedAction
    because: str
    wave: int = 0
    interruption: Interruption = Interruption.NONE
    interruption_seconds: float | None = None
    interruptions_measured: int = 0
    note: str = ""
    start_first: bool = False
    stop_first_because: str = ""
    other_volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PathLink:
    """One link of a critical path: how long the whole start waited for this service after the one before."""

    service: str
    took: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Plan of a start. `orphans` are containers of services that are no longer declared; a start leaves them alone.

    `fetches` are the images that are pulled or built first. `release_notes` say of an update what its images change,
    `hooks` what it runs besides.
    """

    project: str
    services: tuple[PlannedService, ...]
    waves: tuple[tuple[str, ...], ...]
    orphans: tuple[str, ...] = ()
    fetches: tuple[ImageFetch, ...] = ()
    release_notes: tuple[ReleaseNote, ...] = ()
    hooks: tuple[PlannedHook, ...] = ()

    def service(self, service: str) -> PlannedService:
        """Return the plan of one service.

        Raises:
            KeyError: The plan does not contain it.
        """
        for planned in self.services:
            if planned.service == service:
                return planned
        raise KeyError(service)

    @property
    def changes(self) -> tuple[PlannedService, ...]:
        """The services that do not stay as they are."""
        return tuple(line for line in self.services if line.action is not PlannedAction.KEEP)
