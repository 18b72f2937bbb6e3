"""States, resource use and events of containers, as the engine reports them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLogEntry:
    """One result of the container's own health check, as the engine keeps it (last five only)."""

    ended_at: str
    exit_code: int
    output: str


RELEASE_IMAGES = "roas-release"
"""Repository name of the tags that keep a release's images from being pruned."""

RELEASE_HASH_LABEL = "roas.release.hash"
"""On a container that mounts a release's copies: the hash of the release's configuration for which it stands."""

ONE_OFF_LABEL = "com.docker.compose.oneoff"
"""Compose's, "True" on a container of `docker compose run`."""

COPY_LABEL = "roas.copy-of"
"""On all that a copy of an application is made of: the project that it is a copy of."""

COPIES_LABEL = "roas.release.copies"
"""On such a container: the copies by the path of the file of which each is one, as JSON."""

_BESIDE = re.compile(r"([0-9a-f]{12})_(.+)")
"""The name of a container beside the one that it replaces; Compose names them so too."""

UP = frozenset({"running", "restarting", "paused"})
"""The engine's words for a container that was started and has not ended for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """State of one container at one moment, as the engine reported it.

    `state` is the engine's word (created, running, restarting, paused, exited, dead). A container in restart back-off
    also has running=true, so judge by `state` and `restart_count`.
    """

    container_id: str
    name: str
    service: str
    project: str
    number: int
    image: str
    image_id: str
    state: str
    seen_at: datetime
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    restart_count: int = 0
    restart_policy: str = "no"
    health: str | None = None
    health_log: tuple[HealthLogEntry, ...] = ()
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    config_hash: str = ""
    one_off: bool = False
    addresses: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    bound_to: dict[str, str] = field(default_factory=dict)
    environment_names: tuple[str, ...] = ()
    memory_limit_bytes: int | None = None
    network_mode: str = ""
    networks: tuple[str, ...] = ()
    named_volumes: dict[str, str] = field(default_factory=dict)
    """The engine's names of the volumes that others may refer to, by where in it they are mounted."""
    anonymous_volumes: tuple[str, ...] = ()
    """Where in it volumes are mounted that only it refers to."""
    release_hash: str = ""
    """The hash of the configuration for which it stands, where it mounts copies that a release kept."""
    copies: dict[str, str] = field(default_factory=dict)
    """These copies, by the path of the file of which each is one."""

    @property
    def replaces(self) -> tuple[str, str] | None:
        """The beginning of the id and the name of the container that this one is beside, to replace it; else None."""
        match = _BESIDE.fullmatch(self.name)
        return (match[1], match[2]) if match else None

    @property
    def declared_hash(self) -> str:
        """The hash of the configuration that it was made from, or for which it stands."""
        return self.release_hash or self.config_hash

    @property
    def up(self) -> bool:
        """True where it was started and has not ended for good."""
        return self.state in UP


def replicas(states: Iterable[ContainerState], service: str | None = None) -> list[ContainerState]:
    """Return the containers of a service, or of all services; those of `compose run` do not count."""
    return [state for state in states if service in (None, state.service) and not state.one_off]


class _OfService(Protocol):
    @property
    def service(self) -> str: ...


Part = TypeVar("Part", bound=_OfService)


def group_by_service(parts: Iterable[Part]) -> dict[str, list[Part]]:
    """Group what belongs to a service each, in its order."""
    groups: dict[str, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.service, []).append(part)
    return groups


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeOrigin:
    """The Compose files and files of variables that a container was made from, as absolute paths."""

    files: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerEvent:
    """One event of the engine about one container of a Compose project."""

    happened_at: datetime
    container_id: str
    service: str
    project: str
    action: str
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def one_off(self) -> bool:
        """Whether it is about a container of `docker compose run`, which is none of its service's replicas."""
        return self.attributes.get(ONE_OFF_LABEL) == "True"


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """How a container ended. `out_of_memory`: the kernel killed it for using too much."""

    service: str
    container_id: str
    at: datetime
    exit_code: int
    out_of_memory: bool = False

    def __str__(self) -> str:
        return f"exit code {self.exit_code}{', killed for using too much memory' if self.out_of_memory else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSample:
    """One container's use of resources at one moment; counters are totals since its start."""

    service: str
    container_id: str
    sampled_at: datetime
    cpu_total_ns: int
    memory_bytes: int
    memory_limit_bytes: int
    network_rx_bytes: int = 0
    network_tx_bytes: int = 0
    block_read_bytes: int = 0
    block_write_bytes: int = 0
    processes: int = 0
    throttled_periods: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """The engine as it describes itself."""

    address: str
    version: str
    api_version: str
    operating_system: str
    architecture: str
    cpus: int
    memory_bytes: int
    storage_driver: str
    warnings: tuple[str, ...] = ()
    root_folder: str = ""
    system_time: datetime | None = None
    address_pools: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSample:
    """The host at one moment. Processor time is the total of all processors since boot, 0 in evidence that was kept
    before it was taken; pressure is the kernel's avg10, 0-100, or None."""

    sampled_at: datetime
    cpu_busy_seconds: float = 0.0
    load_1m: float
    load_5m: float
    load_15m: float
    cpus: int
    memory_total_bytes: int
    memory_available_bytes: int
    swap_used_bytes: int
    disk_total_bytes: int
    disk_free_bytes: int
    inodes_total: int
    inodes_free: int
    network_rx_bytes: int
    network_tx_bytes: int
    open_files_limit: int
    pressure_cpu: float | None = None
    pressure_memory: float | None = None
    pressure_io: float | None = None
    open_files_most: int | None = None
    """Largest limit of open files for any process."""

    @property
    def memory_percent(self) -> float:
        """Share of memory not available, 0-100."""
        return 100.0 * (1 - self.memory_available_bytes / self.memory_total_bytes)

    @property
    def disk_percent(self) -> float:
        """Share of the data folder's file system in use, 0-100."""
        return 100.0 * (1 - self.disk_free_bytes / self.disk_total_bytes)
