"""Run the detector and its rules on one value of a metric.

The rules judge scored values over several rows: surprises that last, drifts, lifts, stuck and zero metrics.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import NormalDist

import orjson

from core.monitoring.detector import NOTICE, WARM_UP_ROWS, Detector, Score
from models.analysis import Judgement, Level
from models.failures import BadInputError

NO_JUDGEMENT = Judgement(level=Level.NONE, reason="")
_NORMAL = NormalDist()
_FAR = 3.0
_DRIFT = 6.0
_DRIFT_ROWS = 1000
_LIFT_ROWS = 5
_LIFT_MARGIN = 0.15
_ZERO_ROWS = 3
_FAR_FROM_ZERO = 0.1
"""A metric whose lowest value was less than this share of its mean may be zero at times."""

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorResult:
    """One value after the detector and the rules: the state to keep, the score, and the worst judgement.

    `lasting` says that the judgement has waited for the trouble to last; otherwise, ask for a second look.
    `low` that it is no more than a value below the usual, which for most metrics is good news.
    """

    state: bytes
    score: Score
    judgement: Judgement
    lasting: bool
    low: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """Whether a surprise lasts: a single odd row is shown, only what stays is worth an alert.

    An episode begins with a notice and goes on while values stay at least half as far from
    `usual` as in its first row, which was `distance` away, in the metric's unit. `rows` counts them.
    """

    usual: float = 0.0
    distance: float = 0.0
    rows: int = 0
    reason: str = ""

    def advance(self, score: Score, value: float) -> Episode:
        """The episode, if any, after one more scored value."""
        if self.rows:
            # A jump back to the usual ends an episode; its own surprise begins none.
            lasts = (value - self.usual) / self.distance >= 0.5
            return replace(self, rows=self.rows + 1) if lasts else Episode()
        distance = value - score.usual
        if score.settled and score.value >= NOTICE and distance:
            return Episode(usual=score.usual, distance=distance, rows=1, reason=score.reason)
        return Episode()

    def judge(self) -> Judgement:
        """A notice for its first row, a warning from the second on."""
        if not self.rows:
            return NO_JUDGEMENT
        level = Level.WARNING if self.rows > 1 else Level.NOTICE
        return Judgement(level=level, reason=self.reason, threshold=self.usual + self.distance / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRule:
    """Values that are each only a little odd, but row after row on the same side of the usual.

    `above` and `below` sum how far each row is from the usual at its hour, in standard deviations by rank,
    less one a row; `highest` is the largest sum that was no drift, `limit` the sum that began the one
    that lasts now, 0 while none does.
    """

    above: float = 0.0
    below: float = 0.0
    highest: float = 0.0
    limit: float = 0.0
    rows: int = 0
    reason: str = ""

    def advance(self, score: Score, value: float) -> DriftRule:
        """The rule's memory after one more scored value."""
        away = min(_FAR, max(0.0, _NORMAL.inv_cdf(1 - max(score.rarity, 1e-6) / 2)))
        away = away if value > score.usual else -away
        most = 2 * max(self.limit, _DRIFT)
        above, below = (min(most, max(0.0, side - 1)) for side in (self.above + away, self.below - away))
        rule = replace(self, above=above, below=below, rows=self.rows + 1)
        sum_now = max(above, below)
        if self.limit:
            if sum_now >= self.limit / 2:
                return rule
            return replace(rule, highest=max(self.highest, self.limit), limit=0.0, reason="")
        limit = max(_DRIFT, 1.2 * self.highest)
        if sum_now > limit and self.rows >= _DRIFT_ROWS:
            side = "above" if above > below else "below"
            reason = f"row after row {side} the usual, {score.usual:.4g} at this hour; now {value:.4g}"
            return replace(rule, limit=limit, reason=reason)
        return replace(rule, highest=max(self.highest, sum_now))

    def judge(self) -> Judgement:
        """A warning while the drift lasts."""
        return Judgement(level=Level.WARNING, reason=self.reason) if self.limit else NO_JUDGEMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftRule:
    """Values that are each nothing new, since the metric has bursts, but five of them in a row are.

    `last` are the latest five values; `low` and `high` the range of the lowest of any five in a row so far.
    `limit` is what all five passed when a lift began that lasts now, `peak` how high their lowest came.
    """

    last: Sequence[float] = ()
    low: float | None = None
    high: float = 0.0
    rows: int = 0
    limit: float | None = None
    peak: float = 0.0
    held: int = 0
    reason: str = ""

    def advance(self, value: float) -> LiftRule:
        """The rule's memory after one more value."""
        rule = replace(self, last=(*self.last, value)[-_LIFT_ROWS:], rows=self.rows + 1)
        lowest = min(rule.last)
        if self.limit is not None:
            # A lift that lasts for a quarter of the history is the new normal; one that ends may be reported again.
            usual_now = 4 * self.held >= self.rows
            if value > self.limit and not usual_now:
                return replace(rule, held=self.held + 1, peak=max(self.peak, lowest))
            high = self.peak if usual_now else min(self.peak, 2 * self.high - (self.low or 0.0))
            return replace(rule, limit=None, held=0, reason="", high=high)
        if len(rule.last) < _LIFT_ROWS:
            return rule
        if self.low is None:
            return replace(rule, low=lowest, high=lowest)
        width = self.high - self.low
        if self.rows >= WARM_UP_ROWS and width > 0 and lowest > self.high + _LIFT_MARGIN * width:
            words = f"the last {_LIFT_ROWS} rows are all above {self.high:.4g}, as never in {self.rows} rows"
            reason = f"{words}; now {value:.4g}"
            return replace(rule, limit=self.high, peak=lowest, reason=reason)
        return replace(rule, low=min(self.low, lowest), high=max(self.high, lowest))

    def judge(self) -> Judgement:
        """A warning while the lift lasts."""
        if self.limit is None:
            return NO_JUDGEMENT
        return Judgement(level=Level.WARNING, reason=self.reason, threshold=self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckRule:
    """A metric that usually moves has stood still for longer than ever: its source may hang.

    `moves` and `rows` count the history, `run` the equal values up to now, `longest` the longest such run
    that ended. A metric that stood still for a tenth of its rows is one that may.
    """

    last: float | None = None
    run: int = 0
    longest: int = 0
    moves: int = 0
    rows: int = 0

    def advance(self, value: float) -> StuckRule:
        """The rule's memory after one more value."""
        if value == self.last:
            return replace(self, run=self.run + 1, rows=self.rows + 1)
        ended = max(self.longest, self.run)
        return StuckRule(last=value, run=1, longest=ended, moves=self.moves + 1, rows=self.rows + 1)

    def judge(self) -> Judgement:
        """Warns from 60 equal rows on, if they are also more than twice the longest run so far."""
        steady = max(60, 2 * self.longest + 1)
        before = self.rows - self.run
        lively = before >= WARM_UP_ROWS and self.moves >= 0.9 * before
        if not lively or self.run < steady:
            return NO_JUDGEMENT
        reason = f"stands at exactly {self.last:.6g} for {self.run} rows; before, at most {self.longest}"
        return Judgement(level=Level.WARNING, reason=reason, threshold=float(steady))


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroRule:
    """A metric that never lived near zero has dropped to zero and stays there: its source may be gone.

    `low`, `total` and `rows` are the lowest, the sum and the number of the values that were not part of a drop,
    `zeros` the rows of the drop.
    """

    low: float | None = None
    total: float = 0.0
    rows: int = 0
    zeros: int = 0

    def advance(self, value: float) -> ZeroRule:
        """The rule's memory after one more value."""
        # A drop that lasts for a quarter of the history is how this metric is now.
        if self._is_zero(value) and 4 * (self.zeros + 1) < self.rows:
            return replace(self, zeros=self.zeros + 1)
        low = value if self.low is None or self._is_zero(value) else min(self.low, value)
        return ZeroRule(low=low, total=self.total + value, rows=self.rows + 1)

    def judge(self) -> Judgement:
        """A notice for the first two rows of a drop, critical from the third on."""
        if not self.zeros:
            return NO_JUDGEMENT
        return Judgement(
            level=Level.CRITICAL if self.zeros >= _ZERO_ROWS else Level.NOTICE,
            reason=f"dropped to zero; in {self.rows} rows it was never below {self.low:.4g}",
            threshold=self.low,
        )

    def _is_zero(self, value: float) -> bool:
        if self.low is None or self.low <= 0 or self.rows < WARM_UP_ROWS:
            return False
        return self.low >= _FAR_FROM_ZERO * self.total / self.rows and abs(value) <= 0.02 * self.low


def judge_silence(last_seen: datetime | None, now: datetime, *, every: timedelta) -> Judgement:
    """Whether a metric that should come `every` so often has stayed away: a warning after three, critical
    after ten times."""
    if last_seen is None:
        return NO_JUDGEMENT
    silent = now - last_seen
    if silent <= 3 * every:
        return NO_JUDGEMENT
    level, seconds = Level.CRITICAL if silent > 10 * every else Level.WARNING, every.total_seconds()
    reason = f"no data for {silent.total_seconds():.0f} s; it should come every {seconds:.0f} s"
    return Judgement(level=level, reason=reason, threshold=3 * seconds)


def watch_metric(state: bytes | None, at: datetime | None, value: float) -> DetectorResult:
    """Score one value of a metric and hold it against the rules, from the state of the last one.

    Raises BadInputError for a value that is no number, or for a state of another kind or version.
    """
    detector, episode, drift, lift, stuck, zero = _take_up(state)
    score = detector.update(at, value)
    of_scores = (episode.advance(score, value), drift.advance(score, value))
    rules = (*of_scores, lift.advance(value), stuck.advance(value), zero.advance(value))
    judged = [rule.judge() for rule in rules]
    judgement = max(judged, key=lambda candidate: candidate.level.rank)
    rules_json = orjson.dumps(rules, option=orjson.OPT_SERIALIZE_NUMPY)
    return DetectorResult(
        state=_LENGTH.pack(len(rules_json)) + rules_json + detector.to_state(),
        score=score,
        judgement=judgement,
        lasting=judgement.level.rank >= Level.WARNING.rank,
        low=judged.index(judgement) < len(of_scores) and value < score.usual,
    )


def _take_up(state: bytes | None) -> tuple[Detector, Episode, DriftRule, LiftRule, StuckRule, ZeroRule]:
    if state is None:
        return Detector(), Episode(), DriftRule(), LiftRule(), StuckRule(), ZeroRule()
    try:
        begins = _LENGTH.size
        ends = begins + int(_LENGTH.unpack_from(state)[0])
        episode, drift, lift, stuck, zero = orjson.loads(state[begins:ends])
        rules = Episode(**episode), DriftRule(**drift), LiftRule(**lift), StuckRule(**stuck), ZeroRule(**zero)
        return Detector.from_state(state[ends:]), *rules
    except (ValueError, TypeError, struct.error) as error:
        raise BadInputError("The state of a watched metric is not readable;", advice="start anew.") from error
