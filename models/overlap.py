"""Start-first replacement: its settings in an environment file, and the decision whether it is possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from models.fields import Name, Strict, Text


class ReplacementSettings(Strict):
    """How an update replaces a service's containers."""

    order: Literal["stop-first", "start-first"] | None = Field(
        default=None,
        description="start-first: the new container is proven beside the old one. By default what the Compose file's "
        "deploy.update_config.order says.",
    )
    drain_seconds: float = Field(
        default=10.0,
        ge=0,
        le=600,
        description="With start-first, so long the old container goes on beside the proven new one.",
    )
    proxy: Name | None = Field(
        default=None,
        description="With start-first, the service that passes requests on to it; by default it is recognised.",
    )
    shared_volumes: tuple[Text, ...] = Field(
        default=(),
        description="With start-first, volumes and paths of the host that the old and the new container may write at "
        "once.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgram:
    """What is known of the program that a service runs, for its replacement. `proxy`: it passes requests on."""

    name: str
    stateful: bool = False
    outside_logins: bool = False
    proxy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapDecision:
    """Whether a service that should be replaced start-first can be, else why not.

    `note` says what a user should know or configure where it can.
    """

    possible: bool
    because: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideContainer:
    """A new container beside the one that it replaces. `networks` are those where it has no name yet."""

    container_id: str
    name: str
    replaces_id: str
    replaces_name: str
    service: str
    networks: tuple[str, ...] = ()
