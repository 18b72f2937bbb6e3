"""Say how it stands with a run that a host of the fleet was asked for and has not begun."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from core.common.quantities import age_in_words
from models.enrolment import USER_PREFIX
from models.hosts import SILENT_AFTER

_SOON = timedelta(seconds=10)
"""A host that is there begins a run within some 3 s."""

_START = "Start `roas worker` there."


@dataclass(frozen=True, slots=True, kw_only=True)
class HostWait:
    """A run that waits for its host. `waited` is the time since the host was asked.

    `host` is the name of the environment's host and `silence` the time since its last contact; empty and None where no
    host has operated the environment. `has_worker` says whether a worker of the work pool `pool` is in contact; Prefect
    counts it as there for 90 s, so the silence of the host is known first.
    """

    host: str
    silence: timedelta | None
    pool: str
    has_worker: bool
    waited: timedelta

    @property
    def subject(self) -> str:
        """The host, as a sentence begins with it."""
        name = self.host or (self.pool.removeprefix(USER_PREFIX) if self.pool.startswith(USER_PREFIX) else "")
        return f"Host {name}" if name else "The environment's host"

    @property
    def is_away(self) -> bool:
        """Whether nothing begins the run before the host, or its worker, is back."""
        return not self.has_worker or self._is_silent

    @property
    def _is_silent(self) -> bool:
        return self.silence is not None and self.silence >= SILENT_AFTER

    def words(self) -> str:
        """The state of the run for a person, with what to do where the host does not answer."""
        if self.silence is not None and self._is_silent:
            return f"{self.subject} is away: nothing was heard of it for {_length(self.silence)}. {_START}"
        if not self.has_worker:
            return f"{self.subject} takes no runs: no worker of work pool {self.pool} is in contact. {_START}"
        if self.waited < _SOON:
            return f"{self.subject} was asked."
        contact = "" if self.silence is None else f"; it was last heard of {_length(self.silence)} ago"
        return f"{self.subject} was asked {_length(self.waited)} ago and has not begun{contact}."


def _length(duration: timedelta) -> str:
    return age_in_words(duration.total_seconds())
