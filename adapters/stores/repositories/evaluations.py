"""Results of monitoring evaluations, and the predictions among them."""

from __future__ import annotations

from datetime import datetime
from types import EllipsisType

import sqlalchemy as sa

from adapters.stores.repositories.alerts import put_alert
from adapters.stores.repositories.baselines import put_baselines, put_states
from adapters.stores.repositories.dependencies import put_dependencies
from adapters.stores.repositories.health import put_health, score_rows
from adapters.stores.repositories.repository import Repository, Rows, newest
from adapters.stores.sql import table, upsert
from models.metrics import Prediction, PredictionOutcome
from models.records import EvaluationRecord
from models.tables.monitoring import Heartbeat, PredictionRow, ServiceHealthScore

_scores = table(ServiceHealthScore)
_heartbeats = table(Heartbeat)
_predictions = table(PredictionRow)
_rows = Rows(PredictionRow, Prediction)


class Evaluations(Repository):
    """Results of monitoring evaluations."""

    def record(self, result: EvaluationRecord, *, expecting: datetime | EllipsisType | None = ...) -> bool:
        """Record all that one evaluation found, or nothing. Repeating it changes nothing.

        `expecting` is the time of the evaluation this one was based on, None for no earlier one. Returns False
        where another one was recorded since. An acknowledged alert stays acknowledged unless it is resolved or
        has become critical.
        """
        environment = result.environment
        name = f"collection/{environment}"
        with self._database.write() as connection:
            if expecting is not ...:
                before = connection.scalar(sa.select(_heartbeats.c.beat_at).where(_heartbeats.c.name == name))
                if before not in (expecting, result.evaluated_at):
                    return False
            if result.health is not None:
                put_health(connection, result.health)
            put_states(connection, environment, result.states)
            put_baselines(connection, environment, result.baselines)
            if result.dependencies is not None:
                put_dependencies(connection, environment, result.dependencies)
            for alert in result.alerts:
                put_alert(connection, alert)
            predictions = [_rows.to_row(one) for one in result.predictions]
            upsert(connection, PredictionRow, predictions, keys=["prediction_id"])
            if result.scores:
                connection.execute(
                    sa.insert(_scores), [score_rows.to_row(one, parts=one.parts or None) for one in result.scores]
                )
            upsert(connection, Heartbeat, {"name": name, "beat_at": result.evaluated_at}, keys=["name"])
        return True

    def predictions(
        self, environment: str, outcome: PredictionOutcome | None = None, since: datetime | None = None
    ) -> list[Prediction]:
        """Predictions of an environment, optionally of one outcome or made since a time, newest first."""
        query = newest(_predictions, "made_at", environment=environment, outcome=outcome, since=since)
        return [_rows.to_value(row) for row in self._all(query)]
