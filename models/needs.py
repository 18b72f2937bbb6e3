"""What an environment needs of others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedState:
    """One need at one moment, ENVIRONMENT or ENVIRONMENT/SERVICE.

    `up` is None where it cannot be judged. `since` is when it last came up, as far as that is known. `coming`: it may
    become healthy by itself, so a start waits for it.
    """

    need: str
    up: bool | None
    reason: str
    since: datetime | None = None
    coming: bool = False

    @property
    def environment(self) -> str:
        """The environment that it is, or that its service is of."""
        return self.need.partition("/")[0]

    @property
    def words(self) -> str:
        """Its state as a person reads it."""
        state = "healthy" if self.up else "not known" if self.up is None else "down"
        return f"{self.need}, which is {state}" + (f" ({self.reason})" if self.reason and not self.up else "")
