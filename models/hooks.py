"""Hooks of an update: what runs before containers change, and after all services are proven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.fields import Name, Strict, Text

Command = Annotated[tuple[Text, ...], Field(min_length=1)]
"""Program and arguments, without a shell."""


class ExecSpec(Strict):
    """A command inside a running container of a service."""

    service: Name = Field(description="The service; with several containers, its first one.")
    command: Command = Field(description="Program and arguments, without a shell.")


class CanarySpec(Strict):
    """How long a new release is observed before it is kept."""

    minutes: float = Field(gt=0, le=1440, description="So long it is observed; 0.5 is half a minute.")


class Hook(Strict):
    """One hook. It is a one-off container of `service`, a command inside a service, or a command on this machine."""

    name: Name = Field(description="Its name in records and messages.")
    service: Name | None = Field(
        default=None, description="A service of the Compose files, of any profile; it runs as a one-off container."
    )
    exec: ExecSpec | None = Field(default=None, description="A command inside a running container of a service.")
    command: Command | None = Field(
        default=None,
        description="With `service` in place of the service's own command; alone a command on the machine of roas.",
    )
    timeout_seconds: float = Field(default=600.0, gt=0, le=86400, description="So long it may take.")
    failure: Literal["fail", "warn"] = Field(
        default="fail", description="fail: the update fails and is rolled back; warn: it goes on, and says so."
    )
    again: bool = Field(
        default=False, description="True: where it was interrupted and may have done half its work, it may run again."
    )

    canary: CanarySpec | None = Field(
        default=None, description="After hooks only: observe the new release, and go back if it is worse than usual."
    )
    after_rollback: bool | None = Field(
        default=None,
        description="After hooks only: whether it also checks a release that was gone back to. By default a command "
        "does, and a one-off container does not.",
    )

    @property
    def concerns(self) -> str | None:
        """The service that it runs as or inside of; None for a command on this machine and for a canary."""
        return self.exec.service if self.exec is not None else self.service

    @model_validator(mode="after")
    def _one_thing(self) -> Hook:
        alone = self.command if self.service is None else None
        named = {"service": self.service, "exec": self.exec, "command": alone, "canary": self.canary}
        kinds = [kind for kind, value in named.items() if value is not None]
        if len(kinds) != 1:
            advice = "give exactly one of service, exec, command or canary"
            raise ValueError(f"hook {self.name} has {' and '.join(kinds) or 'nothing to do'}; {advice}")
        return self


class Hooks(Strict):
    """What an update runs besides the services, in this order; only where it changes something."""

    before: tuple[Hook, ...] = Field(default=(), description="After images were fetched, before containers change.")
    after: tuple[Hook, ...] = Field(default=(), description="After all services are proven.")

    @model_validator(mode="after")
    def _fit_together(self) -> Hooks:
        if canary := next((hook.name for hook in self.before if hook.canary is not None), None):
            raise ValueError(f"hook {canary} is a canary, which observes the new release; move it to hooks.after")
        candidates = (hook.name for hook in (*self.before, *self.after) if hook.after_rollback is not None)
        checks = [hook.name for hook in self.after if hook.canary is None]
        if wrong_one := next((name for name in candidates if name not in checks), None):
            raise ValueError(f"hook {wrong_one}: after_rollback is for hooks in hooks.after that are no canary")
        names = [hook.name for hook in (*self.before, *self.after)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two hooks are named {twice}; give each its own name")
        return self

    @property
    def rollback_hooks(self) -> tuple[Hook, ...]:
        """The hooks that check a release that was gone back to.

        A one-off container does so only if its hook says so: it runs the configuration of now, and may change data.
        """
        checks = (hook for hook in self.after if hook.canary is None)
        return tuple(
            hook for hook in checks if (hook.service is None if hook.after_rollback is None else hook.after_rollback)
        )

    @property
    def services(self) -> frozenset[str]:
        """The services that hooks run as one-off containers or inside of."""
        return frozenset(hook.concerns for hook in (*self.before, *self.after) if hook.concerns is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedHook:
    """A hook that an update would run: when, and what it does in words."""

    name: str
    when: str
    does: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CanarySample:
    """One observation of a service during a canary; None where a figure was not measured.

    `memory_percent` is of its limit, otherwise of the host; `response_ms` is the answer of its probe; `error_lines` are
    the lines of its log that tell of a failure since the last observation, in `seconds`. `patterns` are the error
    patterns that these lines match, each with its first line. `recorded` says which error was recorded of it meanwhile,
    `restarted` how it was restarted, `problem` why it is unhealthy; they are empty where that is not so.
    """

    service: str
    at: datetime
    seconds: float
    memory_percent: float | None = None
    response_ms: float | None = None
    error_lines: int | None = None
    problem: str = ""
    restarted: str = ""
    recorded: str = ""
    patterns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsualErrors:
    """How many lines of a service's log told of a failure before the update, in how much time.

    `patterns` are the error patterns that they matched, None where that is not known.
    """

    lines: int
    over: timedelta
    patterns: frozenset[str] | None = None
