"""Recorded errors, their patterns and impact, and evidence of what containers, logs and probes showed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from adapters.stores.repositories.repository import Repository, Rows, known_word, newest
from adapters.stores.sql import insert, insert_unless_there, table, upsert
from models.errors import Category, Evidence, Impact, Pattern, RecordedError, Severity, Strategy, Verdict
from models.evidence import EvidenceBundle
from models.failures import NotFoundError
from models.tables.errors import DeploymentError, ErrorImpact, ErrorPattern, EvidenceRow, TicketRow

if TYPE_CHECKING:
    from core.errors.match import PatternSet

_errors = table(DeploymentError)
_impacts = table(ErrorImpact)
_tickets = table(TicketRow)
_rows = Rows(DeploymentError, RecordedError, service="service_name")
_verdicts = Rows(DeploymentError, Verdict)
_impact_rows = Rows(ErrorImpact, Impact, estimated_recovery_seconds="estimated_recovery_time")
_evidence = table(EvidenceRow)
_bundle_rows = Rows(EvidenceRow, EvidenceBundle, service="service_name")
_patterns = table(ErrorPattern)
_pattern_rows = Rows(
    ErrorPattern, Pattern, name="pattern_name", regex="pattern_regex", recovery_script="recovery_script_path"
)
_PARTS = ("containers", "logs", "probes", "events", "host", "missing")
_BUNDLES_OF_AN_ERROR = 12
"""A cause that comes back every minute keeps its first evidence and the latest; the rest would fill the disk."""


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
            row = connection.execute(sa.select(_errors).where(_errors.c.error_id == error.error_id)).one_or_none()
            if row is not None:
                return to_error(row)
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
        row = self._first(sa.select(_errors).where(_errors.c.error_id == error_id))
        if row is None:
            raise NotFoundError(f"No error has the id {error_id!r};", advice="`roas status` lists the open ones.")
        return to_error(row)

    def get_by_prefix(self, error_id: str) -> RecordedError:
        """The error of this id, or the only one whose id begins like this.

        Raises:
            NotFoundError: There is none.
            BadInputError: Several ids begin like this.
        """
        return to_error(
            self._row_by_prefix(_errors.c.error_id, error_id, "error", "`roas status` lists the open ones.")
        )

    def last_failures(self, environment: str) -> dict[str, datetime]:
        """When each service of an environment failed last, by its name; what was only foreseen does not count."""
        latest = sa.func.max(_errors.c.last_seen).label("at")
        query = (
            sa.select(_errors.c.service_name, latest)
            .where(_errors.c.environment == environment, _errors.c.service_name.is_not(None), ~_errors.c.predictive)
            .group_by(_errors.c.service_name)
        )
        return {row.service_name: row.at for row in self._all(query)}

    def resolutions(self, error_ids: Sequence[str]) -> dict[str, str]:
        """What ended each of these errors, by id; those without an end or a reason are left out."""
        query = sa.select(_errors.c.error_id, _errors.c.resolution).where(_errors.c.error_id.in_(error_ids))
        return {row.error_id: row.resolution for row in self._all(query) if row.resolution}

    def knows(self, error_id: str) -> bool:
        """Whether an error of this id is on record."""
        return self._first(sa.select(_errors.c.id).where(_errors.c.error_id == error_id)) is not None

    def environments(self) -> list[str]:
        """Every environment that had an error."""
        return [row.environment for row in self._all(sa.select(_errors.c.environment).distinct())]

    def list_unresolved(self, environment: str | None = None) -> list[RecordedError]:
        """Errors that are not resolved, the latest seen first."""
        return self._errors(newest(_errors, "last_seen", _errors.c.resolved_at.is_(None), environment=environment))

    def list_unclassified(self, environment: str | None = None, limit: int = 5_000) -> list[RecordedError]:
        """Unclassified errors, resolved or not, the latest seen first."""
        query = newest(_errors, "last_seen", category=Category.UNKNOWN, environment=environment)
        return self._errors(query.limit(limit))

    def latest(self, environment: str | None = None, limit: int = 100) -> list[RecordedError]:
        """Errors, resolved or not, the latest seen first."""
        return self._errors(newest(_errors, "last_seen", environment=environment).limit(limit))

    def list_by_deployment(self, deployment_id: str, *more: str) -> Sequence[RecordedError]:
        """The errors that were first seen in an operation, and those of these ids, the latest seen first."""
        its = sa.or_(_errors.c.deployment_id == deployment_id, _errors.c.error_id.in_(more))
        return self._errors(newest(_errors, "last_seen", its))

    def _errors(self, query: sa.Select[Any]) -> list[RecordedError]:
        return [to_error(row) for row in self._all(query)]

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
            row = connection.execute(sa.select(_errors).where(unnamed)).one_or_none()
            if row is None:
                return False
            error = replace(to_error(row), verdict=verdict)
            judged = _verdicts.to_row(verdict, fingerprint=_fingerprint(error))
            same_cause = sa.and_(_errors.c.fingerprint == judged["fingerprint"], _errors.c.resolved_at.is_(None))
            if connection.execute(sa.select(_errors.c.id).where(same_cause)).first() is not None:
                return False
            connection.execute(sa.update(_errors).where(unnamed).values(judged))
            connection.execute(
                sa.update(_tickets)
                .where(_tickets.c.fingerprint == row.fingerprint)
                .values(fingerprint=judged["fingerprint"])
            )
            return True

    def resolve(self, error_id: str, at: datetime, resolution: str) -> bool:
        """Resolve an error; False where it is unknown or already resolved."""
        with self._database.write() as connection:
            return resolve_error(connection, error_id, at, resolution)

    def add_impact(self, error_id: str, impact: Impact, at: datetime) -> None:
        """Record who is hit by an error.

        Raises:
            StoreConstraintError: No error has this id.
        """
        with self._database.write() as connection:
            insert(connection, ErrorImpact, _impact_rows.to_row(impact, error_id=error_id, created_at=at))

    def impacts(self, error_id: str) -> Sequence[Impact]:
        """Who is hit by an error, as judged over time."""
        query = sa.select(_impacts).where(_impacts.c.error_id == error_id)
        return [_impact_rows.to_value(row) for row in self._all(query.order_by(_impacts.c.id))]

    def note_ignored(self, error_id: str, reason: str) -> None:
        """Write into an error's evidence why neither an attempt is made at it nor a person asked; the latest stays."""
        with self._database.write() as connection:
            _add_to_evidence(connection, error_id, left_alone=reason)


def resolve_error(connection: sa.Connection, error_id: str, at: datetime, resolution: str) -> bool:
    """Resolve an error; False where it is unknown or already resolved."""
    done = connection.execute(
        sa.update(_errors)
        .where(_errors.c.error_id == error_id, _errors.c.resolved_at.is_(None))
        .values(resolved_at=at, resolution=resolution)
    )
    return done.rowcount == 1


def _add_to_evidence(connection: sa.Connection, error_id: str, **more: Any) -> None:
    this = _errors.c.error_id == error_id
    evidence = connection.scalar(sa.select(_errors.c.evidence).where(this))
    connection.execute(sa.update(_errors).where(this).values(evidence={**(evidence or {}), **more}))


def _fingerprint(error: RecordedError) -> str:
    return hashlib.sha256("\0".join(error.cause).encode()).hexdigest()[:32]


def _from_error(error: RecordedError, fingerprint: str) -> dict[str, Any]:
    judged = _verdicts.to_row(error.verdict, fingerprint=fingerprint)
    return _rows.to_row(error, evidence=error.evidence or None, **judged)


def to_error(row: sa.Row[Any]) -> RecordedError:
    """Build an error from its row. A category of another version of this program is named in the reason."""
    category, strategy = known_word(Category, row.category), known_word(Strategy, row.strategy)
    reason = row.reason
    if category is None:
        reason = f"{reason} Another version of this program recorded it as {row.category}."
    verdict = _verdicts.to_value(
        row, category=category or Category.UNKNOWN, strategy=strategy or Strategy.INVESTIGATE, reason=reason
    )
    return _rows.to_value(row, verdict=verdict)


class EvidenceBundles(Repository):
    """Evidence bundles."""

    def keep(self, bundle: EvidenceBundle) -> None:
        """Write a bundle; one that is there already stays as it is.

        Raises:
            StoreConstraintError: No error has the bundle's error id.
        """
        with self._database.write() as connection:
            insert_unless_there(connection, EvidenceRow, _from_bundle(bundle), keys=["bundle_id"])

    def find(
        self,
        *,
        deployment_id: str | None = None,
        error_id: str | None = None,
        environment: str | None = None,
        limit: int = 100,
    ) -> Sequence[EvidenceBundle]:
        """The newest bundles of an operation, an error or an environment, oldest first."""
        query = newest(
            _evidence, "taken_at", deployment_id=deployment_id, error_id=error_id, environment=environment
        ).limit(limit)
        return [_bundle_rows.to_value(row, **(row.parts or {})) for row in self._all(query)][::-1]

    def errors_by_operation(self, environment: str) -> dict[str, str]:
        """The error each operation failed of, by the evidence it left; also where an earlier one had it too."""
        query = sa.select(_evidence.c.deployment_id, _evidence.c.error_id).where(
            _evidence.c.environment == environment,
            _evidence.c.deployment_id.is_not(None),
            _evidence.c.error_id.is_not(None),
        )
        return {row.deployment_id: row.error_id for row in self._all(query.order_by(_evidence.c.id.desc()))}

    def link(self, bundle_ids: Sequence[str], error_id: str) -> None:
        """Say that bundles show an error, in their rows and in the error's own evidence.

        Of an error seen again and again the first bundle and the latest few stay.

        Raises:
            StoreConstraintError: No error has this id.
        """
        with self._database.write() as connection:
            connection.execute(
                sa.update(_evidence).where(_evidence.c.bundle_id.in_(bundle_ids)).values(error_id=error_id)
            )
            of_it = sa.select(_evidence.c.bundle_id).where(_evidence.c.error_id == error_id)
            linked_ids = list(connection.scalars(of_it.order_by(_evidence.c.taken_at, _evidence.c.id)))
            kept_ids = [*linked_ids[:1], *linked_ids[1:][1 - _BUNDLES_OF_AN_ERROR :]]
            connection.execute(
                sa.delete(_evidence).where(_evidence.c.error_id == error_id, _evidence.c.bundle_id.not_in(kept_ids))
            )
            _add_to_evidence(connection, error_id, bundles=kept_ids)

    def error_of(self, bundle_id: str) -> str | None:
        """The id of the error that a bundle shows; None where the bundle is not kept, or shows none."""
        row = self._first(sa.select(_evidence.c.error_id).where(_evidence.c.bundle_id == bundle_id))
        return None if row is None else row.error_id


@cache
def _bundle_adapter() -> TypeAdapter[EvidenceBundle]:
    return TypeAdapter(EvidenceBundle)


def _from_bundle(bundle: EvidenceBundle) -> dict[str, Any]:
    whole = _bundle_adapter().dump_python(bundle, mode="json")
    return _bundle_rows.to_row(bundle, parts={name: whole[name] for name in _PARTS})


class Patterns(Repository):
    """Error patterns."""

    def renew(self, patterns: Sequence[Pattern], version: str) -> None:
        """Bring the shipped patterns up to date; `version` names the set. Errors that they decided get their new names.

        A person's own patterns stay, also one that has the name of a shipped one, and so does what a
        person switched off. A shipped pattern that is not shipped any more goes.
        """
        names = [pattern.name for pattern in patterns]
        with self._database.write() as connection:
            own_names = set(
                connection.scalars(sa.select(_patterns.c.pattern_name).where(_patterns.c.shipped.is_not(True)))
            )
            condition = sa.and_(_patterns.c.shipped.is_(True), _patterns.c.pattern_name.not_in(names))
            gone_names = connection.scalars(sa.select(_patterns.c.pattern_name).where(condition)).all()
            connection.execute(sa.delete(_patterns).where(condition))
            shipped = [pattern for pattern in patterns if pattern.name not in own_names]
            rows = [_from_pattern(pattern, shipped=True) | {"shipped_version": version} for pattern in shipped]
            upsert(connection, ErrorPattern, rows, keys=["pattern_name"], keep=["enabled"])
            _rename_causes(connection, shipped, gone_names)

    def all(self) -> list[Pattern]:
        """Every pattern, the most urgent (highest priority) first."""
        return [_to_pattern(*row) for row in self._all(_ALL_PATTERNS)]

    def put(self, pattern: Pattern) -> None:
        """Keep a pattern as given, whether it is new or known; its matches so far stay."""
        with self._database.write() as connection:
            upsert(connection, ErrorPattern, _from_pattern(pattern, shipped=pattern.shipped), keys=["pattern_name"])

    def remove(self, name: str) -> bool:
        """Forget a person's own pattern; False where there is none of this name."""
        condition = sa.and_(_patterns.c.pattern_name == name, _patterns.c.shipped.is_not(True))
        return self._change(sa.delete(_patterns).where(condition))

    def count_match(self, name: str, at: datetime) -> None:
        """Count a match."""
        count = sa.func.coalesce(_patterns.c.match_count, 0) + 1
        self._change(
            sa.update(_patterns).where(_patterns.c.pattern_name == name).values(match_count=count, last_matched=at)
        )


_ALL_PATTERNS = (
    # Without created_at, which costs as much to read as the rest.
    sa.select(*(_patterns.c[name] for name in _pattern_rows.columns)).order_by(
        _patterns.c.priority.desc(), _patterns.c.pattern_name
    )
)


@lru_cache(maxsize=1024)
def _to_pattern(*cells: Any) -> Pattern:
    """The pattern of a row. Each watch reads hundreds of them once a minute, which seldom change."""
    row = dict(zip(_pattern_rows.columns, cells, strict=True))
    return _pattern_rows.of_cells(
        row,
        category=known_word(Category, row["category"]) or Category.UNKNOWN,
        severity=known_word(Severity, row["severity"]) or Severity.MEDIUM,
        strategy=known_word(Strategy, row["strategy"]) or Strategy.INVESTIGATE,
        shipped=bool(row["shipped"]),
    )


def _rename_causes(connection: sa.Connection, shipped: Sequence[Pattern], gone_names: Sequence[str]) -> None:
    """Give errors the categories that the patterns which decided them have now, so that they stay one group.

    Severity and strategy stay: they were weighed with the evidence of then. An error whose pattern is in `gone_names`
    is judged by its text and the logs kept with it; where no pattern knows these now, it keeps its name. So does an
    error whose category is the evidence's, beside a pattern that says something else.
    """
    now = {pattern.name: pattern.category for pattern in shipped if pattern.category is not Category.BENIGN}
    pairs = sa.select(_errors.c.pattern_name, _errors.c.category).where(_errors.c.pattern_name.in_([*now, *gone_names]))
    moved = [tuple(pair) for pair in connection.execute(pairs.distinct()) if now.get(pair[0]) != pair[1]]
    these = sa.tuple_(_errors.c.pattern_name, _errors.c.category).in_(moved)
    rows = connection.execute(sa.select(_errors).where(these)).all() if moved else ()
    patterns = _compile_patterns(shipped) if any(row.pattern_name not in now for row in rows) else None
    for row in rows:
        error, phrase = to_error(row), f"means {row.category} (pattern {row.pattern_name})"
        if phrase not in row.reason:
            continue
        if patterns is None or row.pattern_name in now:
            category = now[row.pattern_name]
            reason = row.reason.replace(phrase, f"means {category} (pattern {row.pattern_name})")
            verdict = replace(error.verdict, category=category, reason=reason)
        else:
            verdict = _judged_anew(error, patterns)
        if verdict != error.verdict:
            _rename_cause(connection, row, replace(error, verdict=verdict))


def _compile_patterns(patterns: Sequence[Pattern]) -> PatternSet:
    from adapters.pattern_files import compile_patterns

    return compile_patterns(patterns)


def _judged_anew(error: RecordedError, patterns: PatternSet) -> Verdict:
    from core.errors.classify import classify

    logs, outputs = (tuple(map(str, error.evidence.get(name) or ())) for name in ("logs", "probe_outputs"))
    verdict = classify(error.text, patterns, evidence=Evidence(logs=logs, probe_outputs=outputs))
    if verdict.pattern_name is None or verdict.category is Category.BENIGN:
        return error.verdict
    # What is said behind the pattern is about the moment, such as how long ago a deployment ended.
    beside = error.verdict.reason.partition(f"(pattern {error.verdict.pattern_name}).")[2]
    return replace(
        verdict,
        severity=error.verdict.severity,
        strategy=error.verdict.strategy,
        reason=verdict.reason + beside,
    )


def _rename_cause(connection: sa.Connection, row: sa.Row[Any], renamed: RecordedError) -> None:
    fingerprint = _fingerprint(renamed)
    same_cause = sa.and_(_errors.c.fingerprint == fingerprint, _errors.c.resolved_at.is_(None))
    if row.resolved_at is None and connection.execute(sa.select(_errors.c.id).where(same_cause)).first() is not None:
        # Open under its new name as well: both stay, each with its own count and ticket, until the service is healthy.
        return
    connection.execute(
        sa.update(_errors)
        .where(_errors.c.id == row.id)
        .values(_verdicts.to_row(renamed.verdict, fingerprint=fingerprint))
    )
    if connection.execute(sa.select(_tickets.c.id).where(_tickets.c.fingerprint == fingerprint)).first() is None:
        its = _tickets.c.fingerprint == row.fingerprint
        connection.execute(sa.update(_tickets).where(its).values(fingerprint=fingerprint))


def _from_pattern(pattern: Pattern, *, shipped: bool) -> dict[str, Any]:
    values = _pattern_rows.to_row(pattern, auto_recovery_possible=pattern.strategy.automatic, shipped=shipped)
    del values["match_count"], values["last_matched"]
    return values
