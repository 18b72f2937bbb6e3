"""Sizes of services: the memory and processors that they may use, as declared and as proposed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Limits and reservations of each container. Memory is in bytes, processors in whole and part cores."""

    memory_limit_bytes: int | None = None
    memory_reservation_bytes: int | None = None
    cpu_limit: float | None = None
    cpu_reservation: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryKills:
    """How often a service was killed for memory, and the largest limit that it had then, in bytes, where known."""

    count: int = 0
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeProposal:
    """What one service is declared to use, and what is proposed: the same where nothing should change.

    `hours` are those in which it was measured, the highest values those of one container. `because` says why nothing is
    proposed, or why the file cannot be changed; it is empty where the change is good. `risk` is one sentence.
    """

    service: str
    declared: Size
    proposed: Size
    hours: int
    memory_highest_bytes: int | None = None
    cpu_highest: float | None = None
    kills: MemoryKills = MemoryKills()
    risk: str = ""
    because: str = ""

    @property
    def changes(self) -> bool:
        """Whether the Compose file is to be changed, and can be."""
        return self.proposed != self.declared and not self.because


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeReport:
    """The proposals for an environment as a unified diff without secrets; `written` are the files that were changed."""

    environment: str
    days: int
    proposals: tuple[SizeProposal, ...]
    diff: str = ""
    written: tuple[str, ...] = ()
