"""Facts that validation judges. Names and states only, no values of secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from models.compose import Application, ComposeVariable, ImageFact, Mount, NetworkFact, PublishedPort
from models.containers import ContainerState, EngineInfo, SystemSample


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A fact that could not be gathered: the failure, and what to do."""

    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageWanted:
    """An image that a service needs.

    `held` is None if the engine does not have it; `unavailable` then says why it cannot be pulled either, None if it
    can be pulled or built.
    """

    service: str
    reference: str
    held: ImageFact | None
    buildable: bool = False
    build_problem: str | None = None
    unavailable: str | None = None
    missing_programs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PortWanted:
    """A host port that a service publishes. `holder` says who uses it, None if it is free."""

    service: str
    port: PublishedPort
    holder: str | None = None
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MountWanted:
    """A file or folder of the host that a service mounts, and the problem with it or its content."""

    service: str
    mount: Mount
    problem: str | None = None
    content_problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts about an environment before a start.

    None stands for a fact that could not be gathered; `gaps` then says why. `variables`, `secrets` and `probed` are
    the names that the environment requires, and of its services that have a probe.
    """

    environment: str
    engine_url: str
    variables: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    probed: frozenset[str] = frozenset()
    engine: EngineInfo | Trouble
    compose_version: str | Trouble
    declared: Application | Trouble
    missing_variables: tuple[str, ...] = ()
    withheld_variables: tuple[str, ...] = ()
    missing_secrets: dict[str, str] = field(default_factory=dict)
    empty_variables: tuple[ComposeVariable, ...] = ()
    container_states: tuple[ContainerState, ...] = ()
    images: tuple[ImageWanted, ...] = ()
    ports: tuple[PortWanted, ...] = ()
    names_taken: dict[str, str] = field(default_factory=dict)
    networks: tuple[NetworkFact, ...] | None = None
    volumes: tuple[str, ...] | None = None
    mounts: tuple[MountWanted, ...] = ()
    host: SystemSample | None = None
    clock_offset: timedelta | None = None
    held_by: str | None = None
    gaps: tuple[str, ...] = ()

    @property
    def application(self) -> Application:
        """The declared application.

        Raises:
            ValueError: Compose could not read it; validation has a critical finding that says why.
        """
        if isinstance(self.declared, Trouble):
            raise ValueError(self.declared.what)
        return self.declared
