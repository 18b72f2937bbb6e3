"""Facts gathered before a start: what validation is judged from. Names and states only, no values of secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from models.compose import Application, ComposeVariable, ImageFact, Mount, NetworkFact, PublishedPort
from models.containers import ContainerState, EngineInfo, SystemSample
from models.environments import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that could not be found out, in the words of what failed, and what to try."""

    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageWanted:
    """An image a service needs. `held` is None where the engine has none of that name; `unavailable` then
    says why it cannot be fetched either, and is None where it can be fetched or built."""

    service: str
    reference: str
    held: ImageFact | None
    buildable: bool = False
    build_problem: str | None = None
    unavailable: str | None = None
    missing_programs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PortWanted:
    """A port of the host a service asks for. `holder` says who has it, None where it is free."""

    service: str
    port: PublishedPort
    holder: str | None = None
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MountWanted:
    """A folder or file of the host a service mounts, and what is wrong with it or with its content."""

    service: str
    mount: Mount
    problem: str | None = None
    content_problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that was found out about an environment before anything was touched.

    None stands for what could not be found out; `gaps` then says why.
    """

    environment: Environment
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
        """What is declared.

        Raises:
            ValueError: Compose could not say; validation has a critical finding that tells why.
        """
        if isinstance(self.declared, Trouble):
            raise ValueError(self.declared.what)
        return self.declared
