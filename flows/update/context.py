"""What an update has found out and done so far, as its steps see it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from flows.execution.start import Start

CHANGING = "changing"
"""Step of an update: it is decided which services it changes; its detail is their names."""


@dataclass(slots=True, kw_only=True)
class Update(Start):
    """An update: one service after the other is replaced."""

    one_by_one: bool = True
    override_gate: str | None = None
    """A user's reason to go on although the gate refuses the images."""

    begun_by_itself: bool = False
    """Whether a schedule or an automation began it: then what a person stopped stays so."""

    @property
    def changed_services(self) -> tuple[str, ...]:
        """The services that it changes: those of the plan, and those that an interrupted run of it has replaced."""
        earlier = json.loads(self.recorder.step_detail(CHANGING) or "[]")
        return tuple(sorted({*earlier, *(line.service for line in self.plan.changes)}))
