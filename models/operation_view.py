"""One operation as its page shows it, and the bars of its waterfall."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from models.operations import OperationStep
from models.overview import VerdictLevel
from models.records import DeploymentDetails, Explanation


@dataclass(frozen=True, slots=True, kw_only=True)
class WaterfallBar:
    """What took time in an operation, from `begins` to `ends`; `kind` is validation, step, hook or service."""

    name: str
    kind: str
    begins: datetime
    ends: datetime
    level: VerdictLevel
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedBar:
    """A bar within its operation: `left` and `width` in thousandths of that, `after_seconds` since that began."""

    bar: WaterfallBar
    left: int
    width: int
    after_seconds: float
    took_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    """An operation with its records, why it ended as it did, and what took how long.

    `explanation` is None where nothing is to be explained yet: it runs.
    """

    at: datetime
    details: DeploymentDetails
    steps: tuple[OperationStep, ...]
    bars: tuple[WaterfallBar, ...]
    explanation: Explanation | None
