"""Recorded errors and their impact."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from adapters.stores.repositories.repository import Repository
from adapters.stores.sql import insert, table
from models.errors import BusinessImpact, Category, Impact, ImpactType, RecordedError, Severity, Strategy, Verdict
from models.failures import NotFoundError
from models.tables.errors import DeploymentError, ErrorImpact, TicketRow

_errors = table(DeploymentError)
_impacts = table(ErrorImpact)
_tickets = table(TicketRow)
_JUDGED = (
    *("category", "severity", "strategy", "confidence", "pattern_name", "reason", "span", "template"),
    "fingerprint",
)


class Errors(Repository):
    """Recorded errors and their impact."""

    def record(self, error: RecordedError) -> RecordedError:
        """Record a failure and return it as recorded.

        The same cause (environment, service, category, template or pattern) while it is open is the same
        error: its count and last_seen grow, and a predicted failure that came true is predictive no more.
        Recording the same error_id again changes nothing.
        """
        fingerprint = _fingerprint(error)
        with self._database.write() as connection:
            known = connection.execute(sa.select(_errors).where(_errors.c.error_id == error.error_id)).one_or_none()
            if known is not None:
                return to_error(known)
            same_cause = sa.and_(_errors.c.fingerprint == fingerprint, _errors.c.resolved_at.is_(None))
            done = connection.execute(
                sa.update(_errors)
                .where(same_cause)
                .values(
                    count=_errors.c.count + error.count,
                    last_seen=sa.case(
                        (_errors.c.last_seen > error.last_seen, _errors.c.last_seen), else_=error.last_seen
                    ),
                    predictive=sa.and_(_errors.c.predictive, sa.literal(error.predictive)),
                )
            )
            if done.rowcount == 0:
                insert(connection, DeploymentError, _from_error(error, fingerprint))
            return to_error(connection.execute(sa.select(_errors).where(same_cause)).one())

    def get(self, error_id: str) -> RecordedError:
        """The error of this id.

        Raises:
            NotFoundError: There is none.
        """
        with self._database.read() as connection:
            found = connection.execute(sa.select(_errors).where(_errors.c.error_id == error_id)).one_or_none()
        if found is None:
            raise NotFoundError(f"No error has the id {error_id!r};", advice="`roas status` lists the open ones.")
        return to_error(found)

    def knows(self, error_id: str) -> bool:
        """Whether an error of this id is on record."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(_errors.c.id).where(_errors.c.error_id == error_id)) is not None

    def environments(self) -> list[str]:
        """Every environment that had an error."""
        with self._database.read() as connection:
            return list(connection.scalars(sa.select(_errors.c.environment).distinct()))

    def unresolved(self, environment: str | None = None) -> list[RecordedError]:
        """Errors that are not resolved, the latest seen first."""
        query = sa.select(_errors).where(_errors.c.resolved_at.is_(None))
        if environment is not None:
            query = query.where(_errors.c.environment == environment)
        with self._database.read() as connection:
            latest = query.order_by(_errors.c.last_seen.desc(), _errors.c.id.desc())
            return [to_error(row) for row in connection.execute(latest)]

    def unclassified(self, environment: str | None = None, limit: int = 5_000) -> list[RecordedError]:
        """Unclassified errors, resolved or not, the latest seen first."""
        query = sa.select(_errors).where(_errors.c.category == Category.UNKNOWN.value)
        if environment is not None:
            query = query.where(_errors.c.environment == environment)
        with self._database.read() as connection:
            latest = query.order_by(_errors.c.last_seen.desc(), _errors.c.id.desc()).limit(limit)
            return [to_error(row) for row in connection.execute(latest)]

    def reclassify(self, error_id: str, verdict: Verdict) -> bool:
        """Judge an open error anew, with its ticket; False where it is closed, or named meanwhile.

        Where the same cause is already open under its new name, this error stays as it was.
        """
        unnamed = sa.and_(
            _errors.c.error_id == error_id,
            _errors.c.category == Category.UNKNOWN.value,
            _errors.c.resolved_at.is_(None),
        )
        with self._database.write() as connection:
            known = connection.execute(sa.select(_errors).where(unnamed)).one_or_none()
            if known is None:
                return False
            error = replace(to_error(known), verdict=verdict)
            judged = _from_error(error, _fingerprint(error))
            same_cause = sa.and_(_errors.c.fingerprint == judged["fingerprint"], _errors.c.resolved_at.is_(None))
            if connection.execute(sa.select(_errors.c.id).where(same_cause)).first() is not None:
                return False
            connection.execute(sa.update(_errors).where(unnamed).values({name: judged[name] for name in _JUDGED}))
            connection.execute(
                sa.update(_tickets)
                .where(_tickets.c.fingerprint == known.fingerprint)
                .values(fingerprint=judged["fingerprint"])
            )
            return True

    def latest(self, environment: str | None = None, limit: int = 100) -> list[RecordedError]:
        """Errors, resolved or not, the latest seen first."""
        query = sa.select(_errors).order_by(_errors.c.last_seen.desc(), _errors.c.id.desc()).limit(limit)
        if environment is not None:
            query = query.where(_errors.c.environment == environment)
        with self._database.read() as connection:
            return [to_error(row) for row in connection.execute(query)]

    def resolve(self, error_id: str, at: datetime, resolution: str) -> bool:
        """Resolve an error; False where it is unknown or already resolved."""
        with self._database.write() as connection:
            return resolve_error(connection, error_id, at, resolution)

    def of_deployment(self, deployment_id: str, *more: str) -> Sequence[RecordedError]:
        """The errors that were first seen in an operation, and those of these ids, the latest seen first."""
        its = sa.or_(_errors.c.deployment_id == deployment_id, _errors.c.error_id.in_(more))
        query = sa.select(_errors).where(its).order_by(_errors.c.last_seen.desc(), _errors.c.id.desc())
        with self._database.read() as connection:
            return [to_error(row) for row in connection.execute(query)]

    def add_impact(self, error_id: str, impact: Impact, at: datetime) -> None:
        """Record who is hit by an error.

        Raises:
            StoreConstraintError: No error has this id.
        """
        values = {
            "error_id": error_id,
            "impact_type": impact.impact_type.value,
            "affected_services": list(impact.affected_services),
            "estimated_recovery_time": impact.estimated_recovery_seconds,
            "business_impact": impact.business_impact.value,
            "created_at": at,
        }
        with self._database.write() as connection:
            insert(connection, ErrorImpact, values)

    def impacts(self, error_id: str) -> Sequence[Impact]:
        """Who is hit by an error, as judged over time."""
        query = sa.select(_impacts).where(_impacts.c.error_id == error_id).order_by(_impacts.c.id)
        with self._database.read() as connection:
            return [
                Impact(
                    impact_type=ImpactType(row.impact_type),
                    affected_services=tuple(row.affected_services or ()),
                    estimated_recovery_seconds=row.estimated_recovery_time or 0,
                    business_impact=BusinessImpact(row.business_impact or BusinessImpact.LOW),
                )
                for row in connection.execute(query)
            ]

    def note_ignored(self, error_id: str, reason: str) -> None:
        """Write into an error's evidence why neither an attempt is made at it nor a person asked; the latest stays."""
        with self._database.write() as connection:
            this = _errors.c.error_id == error_id
            known = connection.scalar(sa.select(_errors.c.evidence).where(this))
            connection.execute(sa.update(_errors).where(this).values(evidence={**(known or {}), "left_alone": reason}))


def resolve_error(connection: sa.Connection, error_id: str, at: datetime, resolution: str) -> bool:
    """Resolve an error; False where it is unknown or already resolved."""
    done = connection.execute(
        sa.update(_errors)
        .where(_errors.c.error_id == error_id, _errors.c.resolved_at.is_(None))
        .values(resolved_at=at, resolution=resolution)
    )
    return done.rowcount == 1


def _fingerprint(error: RecordedError) -> str:
    verdict = error.verdict
    what = verdict.template or verdict.pattern_name or ""
    parts = (error.environment, error.service or "", verdict.category.value, what)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _from_error(error: RecordedError, fingerprint: str) -> dict[str, Any]:
    verdict = error.verdict
    return {
        "error_id": error.error_id,
        "environment": error.environment,
        "deployment_id": error.deployment_id,
        "service_name": error.service,
        "text": error.text,
        "category": verdict.category.value,
        "severity": verdict.severity.value,
        "strategy": verdict.strategy.value,
        "confidence": verdict.confidence,
        "pattern_name": verdict.pattern_name,
        "reason": verdict.reason,
        "span": None if verdict.span is None else list(verdict.span),
        "template": verdict.template,
        "fingerprint": fingerprint,
        "source": error.source,
        "evidence": error.evidence or None,
        "first_seen": error.first_seen,
        "last_seen": error.last_seen,
        "count": error.count,
        "predictive": error.predictive,
        "resolved_at": error.resolved_at,
    }


def to_error(row: sa.Row[Any]) -> RecordedError:
    """Build an error from its row."""
    values = row._mapping
    return RecordedError(
        error_id=row.error_id,
        environment=row.environment,
        text=row.text,
        source=row.source,
        verdict=Verdict(
            category=Category(row.category),
            severity=Severity(row.severity),
            strategy=Strategy(row.strategy),
            confidence=row.confidence,
            reason=row.reason,
            pattern_name=row.pattern_name,
            span=None if row.span is None else (row.span[0], row.span[1]),
            template=row.template,
        ),
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        deployment_id=row.deployment_id,
        service=row.service_name,
        # A row's own `count` is a method of the tuple it is.
        count=values["count"],
        predictive=row.predictive,
        resolved_at=row.resolved_at,
        evidence=row.evidence or {},
    )
