"""The gate before an update: its settings, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.fields import Name, Strict, Text

LONGEST_EXPRESSION = 4000
"""Characters of an expression."""

Failure = Literal["refuse", "warn"]


class GatePolicy(Strict):
    """A condition that an update has to meet before its images run. One that cannot be judged is not met."""

    name: Name = Field(description="How messages and records call it.")
    expression: Annotated[Text, Field(max_length=LONGEST_EXPRESSION)] | None = Field(
        default=None,
        description="CEL on the document; true: it is met. With `service` in it, it is asked of each changed service.",
    )
    command: tuple[Text, ...] | None = Field(
        default=None,
        min_length=1,
        description="Program and arguments, without a shell, that get the document as JSON; exit code 0: it is met.",
    )
    failure: Failure = Field(default="refuse", description="What follows where it is not met.")
    message: Text | None = Field(default=None, max_length=400, description="Said where it is not met.")
    timeout_seconds: float = Field(default=10.0, gt=0, le=300, description="For judging it once.")

    @model_validator(mode="after")
    def _one_of_two(self) -> GatePolicy:
        if (self.expression is None) == (self.command is None):
            raise ValueError(f"policy {self.name} needs either expression or command")
        return self


class ImageScan(Strict):
    """Compare known vulnerabilities of each new image with those of the image that the last proven release ran."""

    program: Literal["auto", "trivy", "grype", "none"] = Field(
        default="auto", description="The scanner; auto: the first of trivy and grype that is installed."
    )
    fail_on: Literal["critical", "high", "medium", "low"] = Field(
        default="high", description="New findings of this severity or a higher one count."
    )
    failure: Failure = Field(default="refuse", description="What follows on a new finding that counts.")
    accepted: tuple[Text, ...] = Field(default=(), description="Ids of findings that never count: CVE-2024-12345.")
    unavailable: Failure = Field(
        default="warn", description="What follows where an image cannot be scanned: no scanner, no database."
    )
    timeout_seconds: float = Field(default=600.0, gt=0, le=3600, description="For scanning one image.")


class UpdateGate(Strict):
    """What has to hold before an update runs the images that it fetched."""

    policies: tuple[GatePolicy, ...] = Field(default=(), max_length=50, description="All of them are judged.")
    scan: ImageScan | None = Field(default=None, description="Compare known vulnerabilities; without it none are.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> UpdateGate:
        names = [policy.name for policy in self.policies]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two policies have the name {', '.join(twice)}")
        return self


class GateOutcome(StrEnum):
    """Outcome of a policy, of a scan, or of the whole gate."""

    PASSED = "passed"
    WARNED = "warned"
    REFUSED = "refused"
    WAITS = "waits"
    """It cannot be judged before the images are fetched."""
    OVERRIDDEN = "overridden"
    """It refused, and a user let the update go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyAnswer:
    """What judging a policy gave. `met` is None where it could not be judged, and `reason` then says why.

    `missing` is the field that the document does not have. `services` are those that do not meet it.
    """

    met: bool | None
    reason: str = ""
    missing: str = ""
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyResult:
    """The outcome of one policy, and why where it is not met."""

    policy: str
    outcome: GateOutcome
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ImageFinding:
    """A known vulnerability of a package in an image. `severity` is in small letters; `fixed_in` empty: no fix yet."""

    finding_id: str
    package: str
    version: str = ""
    severity: str = "unknown"
    fixed_in: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageScanResult:
    """The findings of one image. `program` is the scanner that found them."""

    image_id: str
    program: str
    scanned_at: datetime
    findings: tuple[ImageFinding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanDifference:
    """How the findings of a service's new image differ from those of the image before.

    `counting` are the new findings that decide, `appeared` counts all new ones and `fixed` those that are gone.
    `problem` says why the images could not be compared. `compared` is False where there is no earlier image.
    """

    service: str
    outcome: GateOutcome
    program: str = ""
    counting: tuple[ImageFinding, ...] = ()
    appeared: int = 0
    fixed: int = 0
    compared: bool = True
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """What the gate decided on an update."""

    environment: str
    policies: tuple[PolicyResult, ...] = ()
    scans: tuple[ScanDifference, ...] = ()

    @property
    def outcome(self) -> GateOutcome:
        """The most severe outcome of all."""
        outcomes = {result.outcome for result in self.policies} | {scan.outcome for scan in self.scans}
        order = (GateOutcome.REFUSED, GateOutcome.WAITS, GateOutcome.WARNED)
        return next((outcome for outcome in order if outcome in outcomes), GateOutcome.PASSED)
