"""Where the time of one command went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """A part of a start, in the order of the first time it begins.

    ENTRY: from the command's process to the flow, without SERVER, the wait for the Prefect API. FETCH: images are
    pulled and built. CREATE: Compose creates containers. SERVICES: they start in order. PROOF: their health is
    verified. RECORD: open and close the operation and the run, keep the release.
    """

    ENTRY = "entry"
    SERVER = "server"
    VALIDATION = "validation"
    PLAN = "plan"
    FETCH = "fetch"
    CREATE = "create"
    SERVICES = "services"
    PROOF = "proof"
    ROLLBACK = "rollback"
    RECORD = "record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of each phase, and `wall`, the seconds since the command began."""

    phases: Mapping[Phase, float]
    wall: float

    @property
    def accounted_seconds(self) -> float:
        """The sum of the phases, in seconds."""
        return sum(self.phases.values())

    @property
    def unaccounted_seconds(self) -> float:
        """The seconds that belong to no phase."""
        return self.wall - self.accounted_seconds

    def figures(self) -> dict[str, object]:
        """The timing as a program reads it: seconds to a millisecond."""
        return {
            "phases_seconds": {str(phase): round(spent, 3) for phase, spent in self.phases.items()},
            "sum_seconds": round(self.accounted_seconds, 3),
            "unaccounted_seconds": round(self.unaccounted_seconds, 3),
            "wall_seconds": round(self.wall, 3),
        }
