"""One round of monitoring: from what was seen now and what is remembered, all that is to be known and kept.

It is one function from values to values, so a day of rounds can be lived through in a second, and whoever
stores what it gives back in one transaction can die anywhere without losing or doubling an alert.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from core.monitoring import budgets
from core.monitoring.alerts import (
    AHEAD,
    BUDGET,
    BURN_RULES,
    acknowledge,
    close_alerts,
    evaluate_alerts,
    firing,
    judge_burn,
    maintenance_windows,
)
from core.monitoring.anomalies import DetectorResult, judge_silence, watch_metric
from core.monitoring.baselines import baseline, in_words, judge, learn
from core.monitoring.forecasts import forecast, remember, remembered, score_prediction
from core.monitoring.scores import hold_grade, score_service
from models.analysis import AlertEvent, Forecast, Grade, Judgement, Level, ServiceScore, Share, Signal
from models.containers import Death
from models.environments import Environment
from models.failures import BadInputError
from models.health import UNHEALTHY_STATES, Concern, ServiceHealth, ServiceVerdict
from models.metrics import (
    HOST,
    Alert,
    AlertState,
    Baseline,
    Dependency,
    Metric,
    Prediction,
    PredictionOutcome,
)
from models.retention import RetentionPolicy

Key = tuple[str, str]
"""A service (or the host, or "" for the whole) and the name of what is remembered of it."""

JUDGED = frozenset(
    {"cpu_usage", "memory_usage", "response_time", "disk_usage", "inodes_usage", "load_1m", "store_bytes"}
)
"""The metrics with a baseline and a detector; the others are kept as they are, for rates and for people."""

HEALTH = "health"
RESTARTS = "restarts"
SOURCES = "sources"
UPTIME_BUDGET = "uptime" + BUDGET
ANSWER_BUDGET = "answer" + BUDGET
SCORES_EVERY = timedelta(minutes=5)
"""How often scores are kept that stay as they are: a row a round would be most of the store."""

_FORECASTS_EVERY = timedelta(minutes=15)
_HORIZON = timedelta(hours=72)
_STILL = timedelta(minutes=5)
"""A budget burns only while something fails: within this time and the five minutes it is counted in."""

_BURNT_IN = tuple({_STILL, *(rule.long for rule in BURN_RULES), *(rule.short for rule in BURN_RULES)})

_LOOK_BACK = (timedelta(days=14), timedelta(days=3), timedelta(days=1))
_ONE_DAY = timedelta(days=1)
_NEW_NORMAL = timedelta(days=1)
"""What has been unusual for so long is learnt all the same: else its alert would never end."""

_MATERIAL = {
    "cpu_usage": 5.0,
    "memory_usage": 2.0,
    "response_time": 50.0,
    "disk_usage": 1.0,
    "inodes_usage": 1.0,
    "load_1m": 1.0,
    "store_bytes": 16.0 * 1024 * 1024,
}
"""How far from usual a metric must be, in its unit, before it is anybody's business."""

_ROOMS = frozenset({"memory_usage", "disk_usage", "inodes_usage"})
_HALF_FULL = 50.0
"""Up to here what can be full is nobody's business: a program that has just begun fills its memory for hours, and
what goes on filling it is predicted."""

_SHARE_OF_ROOM = 0.1
"""What can be full matters by the room that is left: two points more are much at 95 %, and nothing at 20 %."""

_FULL = {
    (HOST, "disk_usage"): (95.0, timedelta(0)),
    (HOST, "inodes_usage"): (95.0, timedelta(0)),
    (HOST, "memory_usage"): (95.0, _ONE_DAY),
    (HOST, "store_bytes"): (float(RetentionPolicy().store_bytes), timedelta(0)),
}
_FULL_MEMORY = (95.0, _ONE_DAY)
"""Where a service's memory is full, and its rhythm, which is not to be taken for a trend."""

_ALERTS, _NOTES = ("", "alerts"), ("", "round")
_DETECTOR, _BUDGET, _TRAIL = "/detector", "budget", "/trail"
_SURPRISE = {Level.NONE: 0.0, Level.NOTICE: 0.1, Level.WARNING: 0.6, Level.CRITICAL: 1.0}
_WORRY = {Concern.NONE: Level.NONE, Concern.WARNING: Level.WARNING, Concern.CRITICAL: Level.CRITICAL}
_UNJUDGED = frozenset({ServiceHealth.UNKNOWN, ServiceHealth.STARTING, ServiceHealth.COMPLETED})
_MANY_RESTARTS = 3
_SCORES_HELD = 3
_SCORE_MOVES = 5.0
"""A score so many points from the one kept last is kept at once, and so is another grade."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one collection saw.

    `verdicts` is None where health could not be judged; `certain` are services whose state needs no second
    look, such as a container that has exited; `gaps` are the sources that did not answer, in words;
    `statistics` tells whether the containers' use of resources was among what answered; `ends` is how each
    service ended last, where that is known.
    """

    at: datetime
    metrics: Sequence[Metric]
    verdicts: Sequence[ServiceVerdict] | None
    dependencies: Sequence[Dependency] = ()
    certain: AbstractSet[str] = frozenset()
    gaps: Sequence[str] = ()
    statistics: bool = True
    ends: Mapping[str, Death] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietServices:
    """Where nothing is to be told now. `busy` are services an operation of ours touches, `settling` those one
    touched a moment ago; `idle` that nobody wants the application to run."""

    busy: AbstractSet[str] = frozenset()
    settling: AbstractSet[str] = frozenset()
    idle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What one round found, and what is to be kept of it, together or not at all.

    `alerts` are those that are open, each that another explains with its cause; `closed` ended now.
    `muted` are services that maintenance or an operation keeps automatic action away from. `scores` are those
    to be kept now, since it is time or since they moved; `current_scores` are all.
    """

    at: datetime
    states: dict[Key, bytes]
    baselines: tuple[Baseline, ...]
    judgements: tuple[tuple[Metric, Judgement], ...]
    events: tuple[AlertEvent, ...]
    alerts: tuple[Alert, ...]
    closed: tuple[Alert, ...]
    predictions: tuple[Prediction, ...] = ()
    current_scores: tuple[ServiceScore, ...] = ()
    scores: tuple[ServiceScore, ...] = ()
    muted: frozenset[str] = frozenset()
    unreadable: tuple[str, ...] = ()

    @property
    def reported(self) -> tuple[Alert, ...]:
        """The open alerts that no other one explains."""
        return tuple(alert for alert in self.alerts if alert.explained_by is None)


@dataclass(slots=True)
class _Notes:
    """What a round notes for the next one, beside the states of metrics. `absent` counts the looks in a row in
    which a metric of a service that was well did not come."""

    seen: dict[str, float] = field(default_factory=dict)
    absent: dict[str, int] = field(default_factory=dict)
    restarts: dict[str, float] = field(default_factory=dict)
    grades: dict[str, str] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)
    kept_scores: dict[str, tuple[float, str | None]] = field(default_factory=dict)
    scored_at: float = 0.0
    forecast_at: float = 0.0


def is_predictive(metric: str) -> bool:
    """Whether an alert of this metric tells of a failure that may come, and not of one that is there or counted.

    Predictions are handed over by themselves.
    """
    return metric not in (HEALTH, SOURCES, UPTIME_BUDGET, ANSWER_BUDGET) and not metric.endswith(AHEAD)


def evaluate(
    remembered_states: Mapping[Key, bytes],
    looked: Observation,
    *,
    environment: Environment,
    quiet: QuietServices | None = None,
    rows: Sequence[Alert] = (),
    predictions: Sequence[Prediction] = (),
) -> Evaluation:
    """Judge what was seen by what is remembered, and learn from it.

    `rows` are the alerts the store has as open: what a person took there is taken here too, and what is not
    known here any more is closed. `predictions` are those that are not scored yet. A state that cannot be
    read is begun anew and named in `unreadable`.
    """
    return _Evaluator(remembered_states, looked, environment, quiet or QuietServices(), rows, predictions).outcome()


def close_proven(
    outcome: Evaluation, well: AbstractSet[str], at: datetime
) -> tuple[dict[Key, bytes], tuple[Alert, ...]]:
    """What is to be kept where a recovery has proven services to be well: the states, and the closed alerts."""
    over = {alert.alert_id for alert in outcome.alerts if alert.metric in (HEALTH, RESTARTS) and alert.service in well}
    state, closed = close_alerts(outcome.states.get(_ALERTS), over, at)
    return {_ALERTS: state}, closed


class _Evaluator:
    """The parts of one round, which share what was seen and what is remembered."""

    def __init__(
        self,
        states: Mapping[Key, bytes],
        looked: Observation,
        environment: Environment,
        quiet: QuietServices,
        rows: Sequence[Alert],
        predictions: Sequence[Prediction],
    ) -> None:
        self._states, self._kept = states, dict[Key, bytes]()
        self._looked, self._environment, self._quiet = looked, environment, quiet
        self._rows, self._predictions = rows, predictions
        self._unreadable: list[str] = []
        self._windows = maintenance_windows(environment.maintenance, looked.at)
        self._verdicts = {verdict.service: verdict for verdict in looked.verdicts or ()}
        self._ill = {name for name, verdict in self._verdicts.items() if verdict.health in UNHEALTHY_STATES}
        self._notes = self._read_notes()
        self._firing = self._read_firing()

    def outcome(self) -> Evaluation:
        """Every part in its order: judged before it is learnt, told before it is scored."""
        at = self._looked.at
        judgements, baselines, signals, surprises = self._metrics()
        signals += self._services() + self._missing() + self._burns()
        made = self._forecasts()
        scored = [self._scored(one) for one in self._predictions]
        signals += self._ahead([*scored, *made])
        silenced = {*self._quiet.busy, *(self._verdicts if self._quiet.idle else ())}
        reported = evaluate_alerts(
            self._kept.get(_ALERTS),
            signals,
            environment=self._environment.name,
            now=at,
            dependencies=self._looked.dependencies,
            maintenance=self._windows,
            busy=silenced,
        )
        self._kept[_ALERTS] = reported.state
        explained = [replace(alert, explained_by=root) for alert, root in reported.explained]
        alerts = (*reported.open, *explained)
        scores = self._scores(surprises)
        due = at.timestamp() - self._notes.scored_at >= SCORES_EVERY.total_seconds()
        kept = [one for one in scores if one.score is not None and (due or self._moved(one))]
        self._notes.kept_scores |= {one.service: _reported_by(one) for one in kept}
        if due:
            self._notes.scored_at = at.timestamp()
        self._kept[_NOTES] = _note(self._notes)
        changed = [one for one, before in zip(scored, self._predictions, strict=True) if one != before]
        return Evaluation(
            at=at,
            states=self._kept,
            baselines=tuple(baselines),
            judgements=tuple(judgements),
            events=reported.events,
            alerts=alerts,
            closed=(*reported.closed, *self._retired, *self._orphans(alerts, reported.closed)),
            predictions=(*made, *changed),
            current_scores=tuple(scores),
            scores=tuple(kept),
            muted=frozenset(silenced | {name for name in (HOST, *self._verdicts) if self._in_maintenance(name)}),
            unreadable=tuple(self._unreadable),
        )

    def _read_notes(self) -> _Notes:
        state = self._states.get(_NOTES)
        try:
            return _Notes(**json.loads(state)) if state else _Notes()
        except (ValueError, TypeError):
            self._unreadable.append("what the last round noted")
            return _Notes()

    def _read_firing(self) -> dict[Key, Alert]:
        """The alerts that were open before, after what people and the environment's file did to them."""
        self._retired: tuple[Alert, ...] = ()
        state = self._states.get(_ALERTS)
        try:
            known = firing(state)
        except BadInputError:
            self._unreadable.append("the alerts")
            return {}
        taken = {row.alert_id for row in self._rows if row.state is AlertState.ACKNOWLEDGED}
        for alert in known:
            if state is not None and alert.alert_id in taken and alert.state is not AlertState.ACKNOWLEDGED:
                state = acknowledge(state, alert.alert_id, self._looked.at)
        gone = {alert.alert_id for alert in known if self._is_gone(alert)}
        if gone:
            state, self._retired = close_alerts(state, gone, self._looked.at)
        if state is not None:
            self._kept[_ALERTS] = state
        return {(alert.service, alert.metric): alert for alert in firing(state)}

    def _is_gone(self, alert: Alert) -> bool:
        """What the alert is about is not declared any more, or nobody wants it to run."""
        if alert.service == HOST or self._looked.verdicts is None:
            return False
        if self._quiet.idle or alert.service not in self._verdicts:
            return True
        return alert.metric == "response_time" and self._environment.service(alert.service).probe is None

    def _orphans(self, alerts: Sequence[Alert], closed: Sequence[Alert]) -> list[Alert]:
        """Open in the store, unknown to the rounds: left by a state that was lost, or by an earlier version."""
        known = {alert.alert_id for alert in (*alerts, *closed, *self._retired)}
        return [
            replace(row, state=AlertState.RESOLVED, resolved_at=self._looked.at)
            for row in self._rows
            if row.alert_id not in known
        ]

    def _is_planned(self, service: str) -> bool:
        """Whether the service may be down: nobody wants it to run, or somebody works on it."""
        return self._quiet.idle or service in self._quiet.busy or self._in_maintenance(service)

    def _in_maintenance(self, service: str) -> bool:
        return any(window.covers(service, self._looked.at) for window in self._windows)

    def _metrics(
        self,
    ) -> tuple[list[tuple[Metric, Judgement]], list[Baseline], list[Signal], dict[str, float]]:
        """Judge each metric by what was usual before it, then learn from it; nothing is learnt in bad times.

        The last value is how unusual the worst metric of each service is, where enough is known of it.
        """
        judgements, baselines, signals = [], [], []
        surprises: dict[str, float] = {}
        for metric in self._looked.metrics:
            if metric.name not in JUDGED:
                continue
            key = (metric.service, metric.name)
            self._notes.seen["/".join(key)] = metric.sampled_at.timestamp()
            self._learn_trail(metric)
            judged, lasting, known = self._judged(metric)
            judgements.append((metric, judged))
            if known:
                surprises[metric.service] = max(surprises.get(metric.service, 0.0), _SURPRISE[judged.level])
            signals.append(
                Signal(
                    service=metric.service,
                    metric=metric.name,
                    at=metric.sampled_at,
                    level=judged.level,
                    reason=judged.reason,
                    value=metric.value,
                    threshold=judged.threshold,
                    lasting=lasting,
                )
            )
            usual = baseline(self._kept.get(key, self._states.get(key)), service=metric.service, metric=metric.name)
            if usual is not None:
                baselines.append(usual)
        return judgements, baselines, signals, surprises

    def _judged(self, metric: Metric) -> tuple[Judgement, bool, bool]:
        """The worst that can be said of a value; whether it has lasted already; and whether history speaks."""
        key = (metric.service, metric.name)
        frozen = self._is_frozen(key)
        state = self._readable(key, lambda known: baseline(known, service="", metric=""))
        usual = judge(state, metric.sampled_at, metric.value, metric=metric.name)
        self._kept[key] = learn(state, metric.sampled_at, metric.value, frozen=frozen)
        watched = self._watched(metric, frozen=frozen)
        found = [(usual, False)]
        known = baseline(state, service="", metric="")
        middle = known.value if known is not None else None
        warning = known.warning if known is not None else None
        enough = warning is not None
        if watched is not None:
            # The detector knows that something is odd, the baseline how to say it in the metric's own words.
            odd = watched.judgement
            if watched.low or (not enough and odd.level is Level.WARNING):
                odd = _at_most_a_notice(odd)
            if odd.reason and enough:
                odd = replace(odd, reason=f"{usual.reason} ({odd.reason})")
            found.append((odd, watched.lasting))
            middle = watched.score.usual if middle is None else middle
        judged, lasting = max(found, key=lambda one: one[0].level.rank)
        if middle is not None and abs(metric.value - middle) < _material(metric.name, middle):
            judged, lasting = _at_most_a_notice(judged), False
        if metric.name in _ROOMS and metric.value <= max(warning or 0.0, _HALF_FULL):
            # It has been as full before, whatever the shape of its way there is, or there is room enough.
            judged, lasting = _at_most_a_notice(judged), False
        limit = self._limit(metric)
        if limit is not None and limit.level.rank > judged.level.rank:
            judged, lasting = limit, False
        settled = enough or limit is not None or (watched is not None and watched.score.settled)
        return judged, lasting, settled

    def _watched(self, metric: Metric, *, frozen: bool) -> DetectorResult | None:
        """The detector's view. It is left alone where an operation moves the metric, or the service is ill."""
        key = (metric.service, metric.name + _DETECTOR)
        if frozen and (metric.service, metric.name) not in self._firing:
            return None
        state = self._states.get(key)
        try:
            watched = watch_metric(None if state is None else zlib.decompress(state), metric.sampled_at, metric.value)
        except (BadInputError, zlib.error):
            self._unreadable.append("/".join(key))
            watched = watch_metric(None, metric.sampled_at, metric.value)
        self._kept[key] = zlib.compress(watched.state, 1)
        return watched

    def _readable(self, key: Key, read: Any) -> bytes | None:
        state = self._states.get(key)
        try:
            read(state)
        except BadInputError:
            self._unreadable.append("/".join(key))
            return None
        return state

    def _is_frozen(self, key: Key) -> bool:
        service, _ = key
        if service in self._quiet.busy or service in self._quiet.settling or service in self._ill:
            return True
        if service == HOST and (self._quiet.busy or self._quiet.settling):
            return True
        if self._in_maintenance(service):
            return True
        alert = self._firing.get(key)
        return alert is not None and self._looked.at - alert.opened_at < _NEW_NORMAL

    def _limit(self, metric: Metric) -> Judgement | None:
        """Where a service is beyond what its environment allows, whatever is usual for it."""
        limits = self._environment.service(metric.service).limits
        allowed: Mapping[str, float | None] = {
            "cpu_usage": limits.cpu_percent,
            "memory_usage": limits.memory_percent,
            "response_time": limits.response_time_ms,
        }
        limit = allowed.get(metric.name)
        if limit is None or metric.value <= limit:
            return None
        words = metric.name.replace("_", " ").replace("cpu", "CPU")
        return Judgement(
            level=Level.WARNING,
            reason=f"{words} is {in_words(metric.name, metric.value)}, the environment allows "
            f"{in_words(metric.name, limit)}",
            threshold=limit,
        )

    def _services(self) -> list[Signal]:
        """Health and restarts of each service, and the sources that did not answer."""
        at, signals = self._looked.at, []
        for verdict in self._verdicts.values():
            worst = Level.CRITICAL if verdict.required else Level.WARNING
            signals.append(
                Signal(
                    service=verdict.service,
                    metric=HEALTH,
                    at=at,
                    level=worst if verdict.health in UNHEALTHY_STATES else Level.NONE,
                    reason=verdict.reason,
                    missing=verdict.health in (ServiceHealth.UNKNOWN, ServiceHealth.STARTING),
                    lasting=verdict.service in self._looked.certain,
                )
            )
            signals += [
                Signal(
                    service=verdict.service,
                    metric=reading.metric,
                    at=at,
                    level=_WORRY[reading.concern],
                    reason=reading.words,
                    value=reading.value,
                    threshold=reading.threshold,
                    # It was read, and not measured: another look reads the same.
                    lasting=True,
                )
                for probe in verdict.probes
                for reading in probe.readings
            ]
        for metric in self._looked.metrics:
            if metric.name != "restarts_total":
                continue
            before = self._notes.restarts.get(metric.service)
            self._notes.restarts[metric.service] = metric.value
            more = 0.0 if before is None else max(0.0, metric.value - before)
            many = more >= _MANY_RESTARTS
            end = self._looked.ends.get(metric.service)
            how = f"; its last end: {end}" if end else ""
            signals.append(
                Signal(
                    service=metric.service,
                    metric=RESTARTS,
                    at=at,
                    level=Level.CRITICAL if many else Level.WARNING if more else Level.NONE,
                    reason=f"the engine restarted it {more:.0f} times since the last look, "
                    f"{metric.value:.0f} in all{how}",
                    value=metric.value,
                    lasting=many,
                )
            )
        # Several sources fail for one cause, in the same words.
        causes = dict.fromkeys(gap.partition(": ")[2] or gap for gap in self._looked.gaps)
        blind = self._looked.verdicts is None
        signals.append(
            Signal(
                service=HOST,
                metric=SOURCES,
                at=at,
                level=(Level.CRITICAL if blind else Level.WARNING) if causes else Level.NONE,
                reason="; ".join(causes) or "every source answers",
            )
        )
        return signals

    def _missing(self) -> list[Signal]:
        """Metrics that should have come and did not. Where the whole source is away, that is told instead.

        Only looks count: time in which nobody looked, or in which the service was down, is no silence of its.
        """
        if not self._looked.statistics or self._looked.verdicts is None:
            return []
        at, every = self._looked.at, timedelta(seconds=self._environment.collect_every_seconds)
        came = {(metric.service, metric.name) for metric in self._looked.metrics}
        signals = []
        for verdict in self._verdicts.values():
            unknown = verdict.health in UNHEALTHY_STATES or verdict.health in _UNJUDGED
            for name in ("cpu_usage", "memory_usage"):
                label = f"{verdict.service}/{name}"
                last = self._notes.seen.get(label)
                if unknown or last is None or (verdict.service, name) in came:
                    self._notes.absent.pop(label, None)
                    continue
                looks = self._notes.absent[label] = self._notes.absent.get(label, 0) + 1
                since = max(datetime.fromtimestamp(last, at.tzinfo), at - looks * every)
                silent = judge_silence(since, at, every=every)
                signals.append(
                    Signal(
                        service=verdict.service,
                        metric=name,
                        at=at,
                        level=silent.level,
                        reason=silent.reason,
                        threshold=silent.threshold,
                        missing=silent.level is Level.NONE,
                        lasting=True,
                    )
                )
        return signals

    def _burns(self) -> list[Signal]:
        """Count this look at each service, and say whose error budget burns too fast."""
        at, signals = self._looked.at, []
        objective = self._environment.objective_percent / 100
        for verdict in self._verdicts.values():
            key = (verdict.service, _BUDGET)
            state = self._readable(key, lambda known: budgets.shares(known, at, ()))
            planned = self._is_planned(verdict.service)
            up = None if planned or verdict.health in _UNJUDGED else verdict.health not in UNHEALTHY_STATES
            answered = Share(good=sum(probe.ok for probe in verdict.probes), total=len(verdict.probes))
            state = budgets.count_look(state, at, up=up, answers=None if planned else answered)
            self._kept[key] = state
            counted = dict(zip(_BURNT_IN, budgets.shares(state, at, _BURNT_IN), strict=True))
            lately = counted[_STILL]
            for place, name in enumerate((UPTIME_BUDGET, ANSWER_BUDGET)):
                # What has been mended would else be told of half an hour later, when nothing is left to do.
                still = lately[place].good < lately[place].total
                burning = {length: both[place] for length, both in counted.items()} if still else {}
                signals.append(judge_burn(burning, service=verdict.service, metric=name, at=at, objective=objective))
        return signals

    def _learn_trail(self, metric: Metric) -> None:
        if _full(metric.service, metric.name) is None:
            return
        key = (metric.service, metric.name + _TRAIL)
        trail = self._readable(key, remembered)
        self._kept[key] = remember(trail, metric.sampled_at, metric.value)

    def _forecasts(self) -> list[Prediction]:
        """What will be full within three days, unless that was said already. Looked at every quarter of an hour."""
        at = self._looked.at
        if at.timestamp() - self._notes.forecast_at < _FORECASTS_EVERY.total_seconds():
            return []
        self._notes.forecast_at = at.timestamp()
        said = {(one.service, one.metric) for one in self._predictions}
        made = []
        for metric in self._looked.metrics:
            full = _full(metric.service, metric.name)
            if full is None or (metric.service, metric.name) in said:
                continue
            threshold, rhythm = full
            if metric.value >= threshold:
                continue
            seen = _foreseen(self._kept[metric.service, metric.name + _TRAIL], metric.name, threshold, rhythm, at)
            if seen is None or seen.latest is None:
                continue
            words = f"{self._environment.name}/{metric.service}/{metric.name}/{at.isoformat()}"
            made.append(
                Prediction(
                    prediction_id=f"prediction-{hashlib.sha256(words.encode()).hexdigest()[:16]}",
                    environment=self._environment.name,
                    service=metric.service,
                    metric=metric.name,
                    value=metric.value,
                    threshold=threshold,
                    falling=False,
                    made_at=at,
                    expected=seen.expected,
                    earliest=seen.earliest,
                    latest=seen.latest,
                    words=seen.words,
                )
            )
        return made

    def _scored(self, prediction: Prediction) -> Prediction:
        for metric in self._looked.metrics:
            if (metric.service, metric.name) == (prediction.service, prediction.metric):
                return score_prediction(prediction, metric.sampled_at, metric.value)
        return prediction

    def _ahead(self, predictions: Iterable[Prediction]) -> list[Signal]:
        """Each prediction that stands is a warning of its own; one that is scored, the end of it."""
        return [
            Signal(
                service=one.service,
                metric=one.metric + AHEAD,
                at=self._looked.at,
                level=Level.WARNING if one.outcome is PredictionOutcome.OPEN else Level.NONE,
                reason=one.words,
                value=one.value,
                threshold=one.threshold,
                lasting=True,
            )
            for one in predictions
        ] + [
            Signal(service=service, metric=metric, at=self._looked.at, level=Level.NONE, reason="no prediction stands")
            for service, metric in self._firing
            if metric.endswith(AHEAD)
            and all((one.service, one.metric + AHEAD) != (service, metric) for one in predictions)
        ]

    def _scores(self, surprises: Mapping[str, float]) -> list[ServiceScore]:
        """Each service's score of the last three days, its grade held so that it does not flicker.

        What is down because somebody wants it so is not scored meanwhile.
        """
        objective, scores = self._environment.objective_percent / 100, []
        for name, verdict in self._verdicts.items():
            if verdict.health in UNHEALTHY_STATES and self._is_planned(name):
                continue
            ((up, answers),) = budgets.shares(self._kept[name, _BUDGET], self._looked.at, (budgets.KEPT,))
            score = score_service(
                name,
                uptime=up if up.total else None,
                surprise=surprises.get(name),
                requests=answers if answers.total else None,
                dependencies=[need for need in self._looked.dependencies if need.service == name],
                down=verdict.health in UNHEALTHY_STATES,
                objective=objective,
            )
            if score.score is not None:
                recent = [*self._notes.scores.get(name, []), round(score.score, 2)][-_SCORES_HELD:]
                before = self._notes.grades.get(name)
                shown = hold_grade(Grade(before) if before else None, recent)
                self._notes.scores[name] = recent
                if shown is not None:
                    self._notes.grades[name] = shown.value
                score = replace(score, grade=shown)
            scores.append(score)
        return scores

    def _moved(self, score: ServiceScore) -> bool:
        points, letter = _reported_by(score)
        kept_points, kept_letter = self._notes.kept_scores.get(score.service, (math.inf, None))
        return abs(points - kept_points) >= _SCORE_MOVES or letter != kept_letter


def _reported_by(score: ServiceScore) -> tuple[float, str | None]:
    return score.score or 0.0, None if score.grade is None else score.grade.value


def _material(metric: str, usual: float) -> float:
    """How far from its usual a metric must be before it is anybody's business."""
    room = _SHARE_OF_ROOM * (100.0 - usual) if metric in _ROOMS else 0.0
    return max(_MATERIAL.get(metric, 0.0), room)


def _full(service: str, metric: str) -> tuple[float, timedelta] | None:
    """The value at which a metric is full, and its rhythm; None where that means nothing."""
    if service != HOST and metric == "memory_usage":
        return _FULL_MEMORY
    return _FULL.get((service, metric))


def _foreseen(trail: bytes, metric: str, threshold: float, rhythm: timedelta, at: datetime) -> Forecast | None:
    """What the longest time says that says anything: a leak that began today is no line through two weeks."""
    history = remembered(trail)
    for length in _LOOK_BACK:
        recent = [one for one in history if at - one[0] <= length]
        seen = forecast(recent, metric=metric, threshold=threshold, horizon=_HORIZON, rhythm=rhythm)
        if seen is not None:
            return seen
    return None


def _at_most_a_notice(judged: Judgement) -> Judgement:
    return replace(judged, level=Level.NOTICE) if judged.level.rank > Level.NOTICE.rank else judged


def _note(notes: _Notes) -> bytes:
    return json.dumps(
        {name: getattr(notes, name) for name in _Notes.__dataclass_fields__}, separators=(",", ":")
    ).encode()
