"""What happens within an operation (finished steps, state changes, validations), and the releases that ran."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache

import sqlalchemy as sa
from pydantic import TypeAdapter

from adapters.stores.repositories.repository import Repository, Rows, newest, newest_of_each
from adapters.stores.sql import insert_unless_same, insert_unless_there, table, upsert
from models.operations import DATA_SAVED, HOOK_BEGUN, INTERRUPTION_SECONDS, OperationStep, StateChange
from models.records import Release
from models.tables.deployment_logs import (
    DeploymentOperation,
    EnvironmentValidation,
    OperationStepRow,
    ReleaseRow,
    ServiceStateChange,
)
from models.validation import ValidationResult

_operations = table(DeploymentOperation)
_changes = table(ServiceStateChange)
_validations = table(EnvironmentValidation)
_steps = table(OperationStepRow)
_releases = table(ReleaseRow)
_release_rows = Rows(ReleaseRow, Release)
_step_rows = Rows(OperationStepRow, OperationStep)
_change_rows = Rows(
    ServiceStateChange,
    StateChange,
    service="service_name",
    changed_at="change_time",
    reason="change_reason",
    details="metadata",
)

_CHANGES_READ, _INTERRUPTIONS, _DATA_STEPS_READ = 400, 5, 50


class OperationProgress(Repository):
    """What happens within an operation."""

    def finish_step(self, deployment_id: str, step: str, service: str | None, at: datetime, detail: str = "") -> None:
        """Record that a step is done. Done twice it is done once, and as it was first recorded.

        Raises:
            StoreConstraintError: The deployment is not recorded.
        """
        done = OperationStep(deployment_id=deployment_id, step=step, service=service, finished_at=at, detail=detail)
        self.record_changes((), (done,))

    def steps(self, deployment_id: str) -> list[OperationStep]:
        """The finished steps of a deployment in the order they were finished."""
        query = sa.select(_steps).where(_steps.c.deployment_id == deployment_id)
        rows = self._all(query.order_by(_steps.c.finished_at, _steps.c.id))
        return [_step_rows.to_value(row, service=row.service or None) for row in rows]

    def data_steps(self, environment: str) -> list[OperationStep]:
        """The last hooks that updates of an environment began and snapshots that they took, newest first."""
        query = (
            sa.select(_steps)
            .join(_operations, _operations.c.deployment_id == _steps.c.deployment_id)
            .where(_operations.c.environment == environment, _steps.c.step.in_((HOOK_BEGUN, DATA_SAVED)))
            .order_by(_steps.c.id.desc())
            .limit(_DATA_STEPS_READ)
        )
        return [_step_rows.to_value(row, service=row.service or None) for row in self._all(query)]

    def record_changes(self, changes: Sequence[StateChange], steps: Sequence[OperationStep] = ()) -> None:
        """Record state changes and the steps done with them, all or none. Those already recorded stay unchanged.

        Raises:
            StoreConstraintError: A change or a step names a deployment that is not recorded.
        """
        with self._database.write() as connection:
            for step in steps:
                values = _step_rows.to_row(step, service=step.service or "", detail=step.detail or None)
                insert_unless_there(connection, OperationStepRow, values, keys=["deployment_id", "step", "service"])
            for change in changes:
                values = _change_rows.to_row(change, metadata=change.details or None)
                same = ["deployment_id", "service_name", "new_state", "change_time"]
                insert_unless_same(connection, ServiceStateChange, values, same=same)

    def changes(self, deployment_id: str) -> list[StateChange]:
        """The state changes of a deployment in the order they happened."""
        return list(self.numbered_changes(deployment_id).values())

    def numbered_changes(self, deployment_id: str) -> dict[int, StateChange]:
        """The state changes of a deployment in the order they happened, by the numbers of their rows."""
        query = sa.select(_changes).where(_changes.c.deployment_id == deployment_id)
        rows = self._all(query.order_by(_changes.c.change_time, _changes.c.id))
        return {row.id: _change_rows.to_value(row) for row in rows}

    def last_changes(self, environment: str) -> dict[str, StateChange]:
        """The state change recorded last of each service of an environment, by service."""
        newest = (
            sa.select(sa.func.max(_changes.c.id))
            .join(_operations, _operations.c.deployment_id == _changes.c.deployment_id)
            .where(_operations.c.environment == environment)
            .group_by(_changes.c.service_name)
        )
        rows = self._all(sa.select(_changes).where(_changes.c.id.in_(newest)))
        return {row.service_name: _change_rows.to_value(row) for row in rows}

    def interruptions(self, environment: str) -> dict[str, list[float]]:
        """How many seconds each service did not serve in its last interruptions by operations, newest first.

        Only the last 400 state changes of the environment are read.
        """
        query = (
            sa.select(_changes)
            .join(_operations, _operations.c.deployment_id == _changes.c.deployment_id)
            .where(_operations.c.environment == environment)
            .order_by(_changes.c.id.desc())
            .limit(_CHANGES_READ)
        )
        interruptions: dict[str, list[float]] = {}
        for change in map(_change_rows.to_value, self._all(query)):
            seconds = change.details.get(INTERRUPTION_SECONDS)
            durations = interruptions.setdefault(change.service, [])
            if isinstance(seconds, int | float) and len(durations) < _INTERRUPTIONS:
                durations.append(float(seconds))
        return {name: durations for name, durations in interruptions.items() if durations}

    def record_validation(self, deployment_id: str, result: ValidationResult) -> None:
        """Record what validation found.

        Raises:
            StoreConstraintError: The deployment is not recorded.
        """
        values = {
            "deployment_id": deployment_id,
            "validation_time": result.validated_at,
            "overall_result": result.passed,
            "failed_checks": list(result.failed_checks),
            "validation_details": result,
            "recommendations": list(result.recommendations),
        }
        with self._database.write() as connection:
            same = ["deployment_id", "validation_time"]
            insert_unless_same(connection, EnvironmentValidation, values, same=same)

    def validations(self, deployment_id: str) -> list[ValidationResult]:
        """The validations of a deployment, oldest first."""
        query = sa.select(_validations).where(_validations.c.deployment_id == deployment_id)
        rows = self._all(query.order_by(_validations.c.validation_time))
        return [_validation_adapter().validate_python(row.validation_details) for row in rows]


@cache
def _validation_adapter() -> TypeAdapter[ValidationResult]:
    return TypeAdapter(ValidationResult)


class Releases(Repository):
    """Releases."""

    def keep(self, release: Release) -> None:
        """Keep what ran; given again under the same id it is kept as last given."""
        with self._database.write() as connection:
            upsert(connection, ReleaseRow, _release_rows.to_row(release), keys=["release_id"])

    def latest(self, environment: str, limit: int = 50) -> list[Release]:
        """The latest releases of an environment, newest first: so many proven ones, and so many that failed."""
        condition = _releases.c.environment == environment
        rows = self._all(newest_of_each(_releases, ["proven"], ["created_at", "id"], limit, condition))
        ordered = sorted(rows, key=lambda row: (row.created_at, row.id), reverse=True)
        return [_release_rows.to_value(row) for row in ordered]

    def last(self, environment: str, *, proven: bool = False) -> Release | None:
        """The latest release, or the latest proven one."""
        row = self._first(newest(_releases, "created_at", environment=environment, proven=proven or None))
        return None if row is None else _release_rows.to_value(row)

    def proven_at(self) -> dict[str, datetime]:
        """When the newest proven release of each environment was made."""
        newest_proven = sa.func.max(_releases.c.created_at).label("at")
        query = sa.select(_releases.c.environment, newest_proven).where(_releases.c.proven.is_(True))
        return {row.environment: row.at for row in self._all(query.group_by(_releases.c.environment))}

    def list_failed(self, environment: str | None = None) -> list[Release]:
        """The releases that did not become proven, of one environment or of all, newest first."""
        query = newest(_releases, "created_at", environment=environment, proven=False)
        return [_release_rows.to_value(row) for row in self._all(query)]

    def get(self, release_id: str) -> Release:
        """The release of this id, or the only one whose id begins like this.

        Raises:
            NotFoundError: There is none.
            BadInputError: Several ids begin like this.
        """
        return _release_rows.to_value(
            self._row_by_prefix(_releases.c.release_id, release_id, "release", "`roas releases` lists them.")
        )

    def fingerprints(self, environment: str) -> list[tuple[dict[str, str], dict[str, str]]]:
        """The fingerprints of the files, and of the variables, of each kept release of an environment."""
        columns = (_releases.c.files, _releases.c.variables)
        rows = self._all(sa.select(*columns).where(_releases.c.environment == environment))
        return [(row.files or {}, row.variables or {}) for row in rows]

    def images(self) -> set[str]:
        """The ids of all images that a kept release of any environment ran with."""
        rows = self._all(sa.select(_releases.c.images))
        return {image for row in rows for image in (row.images or {}).values()}
