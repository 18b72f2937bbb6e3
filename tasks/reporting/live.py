"""Read what `roas top` shows, again and again, for little: what changes slowly is read less often."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from core.deployment.desired_state import should_run
from core.reporting.live_view import HISTORY, live_view
from models.failures import EngineError, StoreError
from models.live import EngineReading, LiveRecords, LiveView
from models.metrics import PredictionOutcome
from models.operations import Operation
from models.recovery import TicketState
from tasks.runtime.project import Project
from tasks.runtime.stores import open_stores, stores_exist

_MOST_READINGS = 40
_SLOW_AFTER = timedelta(seconds=10)
_RECOVERIES_OF = timedelta(days=1)
_SHOWN_RECOVERIES = 10
_WAITING = tuple(state for state in TicketState if state is not TicketState.RESOLVED)
_METRICS = ("cpu_usage", "memory_bytes", "response_time")


class LiveReader:
    """Reads one environment. It keeps the last readings of the engine, from which it takes rates."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._readings: deque[EngineReading] = deque(maxlen=_MOST_READINGS)
        self._records = LiveRecords()
        self._slow_at: datetime | None = None
        self._causes: dict[str, str] = {}

    def read(self) -> LiveView:
        """The environment now. What cannot be read is said in the view."""
        self._readings.append(self._read_engine())
        self._records = self._read_records(datetime.now(UTC))
        declared = self._project.environment
        every = timedelta(seconds=declared.collect_every_seconds)
        return live_view(declared.name, tuple(self._readings), self._records, declared.services, every)

    def _read_engine(self) -> EngineReading:
        project, at = self._project, datetime.now(UTC)
        project.refresh()
        try:
            samples = project.engine.statistics.samples(project.environment.project)
            return EngineReading(at=at, containers=tuple(project.inspect_containers()), samples=tuple(samples))
        except EngineError as error:
            return EngineReading(at=at, problem=str(error))

    def _read_records(self, now: datetime) -> LiveRecords:
        if not stores_exist():
            return LiveRecords()
        try:
            if self._slow_at is None or now - self._slow_at >= _SLOW_AFTER:
                self._records = self._read_slowly(now)
                self._slow_at = now
            return self._read_quickly(now)
        except StoreError as error:
            return replace(self._records, problem=str(error))

    def _read_slowly(self, now: datetime) -> LiveRecords:
        """What an evaluation or a start writes, at most every few seconds."""
        stores, name = open_stores(), self._project.environment.name
        standing = stores.evaluations.predictions(name, PredictionOutcome.OPEN)
        return LiveRecords(
            release=stores.releases.last(name),
            forecast=min(standing, key=lambda prediction: prediction.expected, default=None),
            metrics=tuple(stores.metrics.samples_since(name, _METRICS, now - HISTORY)),
            pauses=tuple(pause for pause in stores.pauses.active(now) if pause.environment in (None, name)),
            tickets=sum(len(stores.tickets.find(state, name)) for state in _WAITING),
        )

    def _read_quickly(self, now: datetime) -> LiveRecords:
        stores, name = open_stores(), self._project.environment.name
        operations = stores.operations.latest_recorded(name)
        running = next(iter(stores.operations.list_running(name)), None)
        beats = stores.heartbeats.all()
        recoveries = stores.recoveries.latest(name, now - _RECOVERIES_OF, _SHOWN_RECOVERIES)
        for recovery in recoveries:
            if recovery.error_id not in self._causes:
                self._causes[recovery.error_id] = str(stores.errors.get(recovery.error_id).verdict.category)
        return replace(
            self._records,
            health=next(iter(stores.health.history(environment=name, limit=1)), None),
            running=running,
            last_operation=operations[0] if operations else None,
            step=self._step(running) if running is not None else "",
            meant_to_run=should_run(operations),
            alerts=tuple(alert for alert in stores.alerts.list_unresolved(name) if alert.explained_by is None),
            recoveries=tuple(recoveries),
            causes=dict(self._causes),
            watched_at=beats.get(f"watch/{name}"),
            collected_at=beats.get(f"collection/{name}"),
            problem="",
        )

    def _step(self, running: Operation) -> str:
        """The last step that an operation has finished, or the last change of a service if that is later."""
        progress = open_stores().progress
        steps, changes = progress.steps(running.deployment_id), progress.changes(running.deployment_id)
        last = [(step.finished_at, f"{step.service or ''} {step.step}".strip()) for step in steps[-1:]]
        last += [(change.changed_at, f"{change.service} {change.new_state}") for change in changes[-1:]]
        return max(last)[1] if last else ""
