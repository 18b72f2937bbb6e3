"""Retention: what may leave the stores, and when it pays to make their files smaller."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from models.storage import RetentionPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutoffs:
    """What happened before these moments leaves. `over_budget` is where the size budget stops."""

    monitoring: datetime
    errors: datetime
    deployments: datetime
    failed_deployments: datetime
    hours: datetime
    days: datetime
    runs: datetime
    failed_runs: datetime
    over_budget: datetime


def cutoffs(policy: RetentionPolicy, now: datetime) -> Cutoffs:
    """The moments at which each kind of record becomes old."""
    return Cutoffs(
        monitoring=now - policy.monitoring,
        errors=now - policy.errors,
        deployments=now - policy.deployments,
        failed_deployments=now - max(policy.failed_deployments, policy.deployments),
        hours=now - max(policy.hours, policy.monitoring),
        days=now - max(policy.days, policy.hours),
        runs=now - policy.runs,
        failed_runs=now - max(policy.failed_runs, policy.runs),
        over_budget=now - policy.keep_always,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileUse:
    """Pages of a store's file: `free` ones are inside it but hold nothing. `page_bytes` is one page's size."""

    pages: int
    free: int
    page_bytes: int

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return self.pages * self.page_bytes

    @property
    def used_bytes(self) -> int:
        """Size of what the file holds."""
        return (self.pages - self.free) * self.page_bytes


def pages_to_give_back(use: FileUse, policy: RetentionPolicy) -> int:
    """How many free pages to cut off: none while they are few, since new rows will need some again."""
    if use.pages == 0 or use.free / use.pages <= policy.vacuum_share:
        return 0
    spare = (use.pages - use.free) // 20
    return max(0, use.free - spare)


def bytes_over_budget(use: FileUse, policy: RetentionPolicy) -> int:
    """How many bytes more than it may a store holds; 0 where it is within its budget."""
    return max(0, use.used_bytes - policy.store_bytes)


def full_in(use: FileUse, policy: RetentionPolicy, growth_bytes_per_day: float) -> timedelta | None:
    """When a store reaches its budget if it goes on growing like this; None if it does not grow."""
    remaining_bytes = policy.store_bytes - use.used_bytes
    if remaining_bytes <= 0:
        return timedelta(0)
    if growth_bytes_per_day <= 0:
        return None
    return min(timedelta(days=remaining_bytes / growth_bytes_per_day), timedelta(days=36_500))
