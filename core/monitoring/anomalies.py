"""Run the detector and its rules on one value of a metric."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime

import orjson

from core.monitoring.detector import Detector, Score
from core.monitoring.detector_rules import DriftRule, Episode, LiftRule, StuckRule, ZeroRule
from models.analysis import Judgement, Level
from models.failures import BadInputError


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


def watch_metric(state: bytes | None, at: datetime | None, value: float) -> DetectorResult:
    """Score one value of a metric and hold it against the rules, from the state of the last one.

    Raises BadInputError for a value that is no number, or for a state of another kind or version.
    """
    detector, episode, drift, lift, stuck, zero = _take_up(state)
    score = detector.update(at, value)
    rules: tuple[Episode | DriftRule | LiftRule | StuckRule | ZeroRule, ...] = (
        episode.after(score, value),
        drift.after(score, value),
        lift.after(value),
        stuck.after(value),
        zero.after(value),
    )
    judged = [rule.judge() for rule in rules]
    judgement = max(judged, key=lambda one: one.level.rank)
    rule = rules[judged.index(judgement)]
    kept = orjson.dumps(rules, option=orjson.OPT_SERIALIZE_NUMPY)
    return DetectorResult(
        state=_LENGTH.pack(len(kept)) + kept + detector.to_state(),
        score=score,
        judgement=judgement,
        lasting=judgement.level is Level.WARNING,
        low=isinstance(rule, (Episode, DriftRule)) and value < score.usual,
    )


_LENGTH = struct.Struct("<I")


def _take_up(state: bytes | None) -> tuple[Detector, Episode, DriftRule, LiftRule, StuckRule, ZeroRule]:
    if state is None:
        return Detector(), Episode(), DriftRule(), LiftRule(), StuckRule(), ZeroRule()
    try:
        begins = _LENGTH.size
        ends = begins + int(_LENGTH.unpack_from(state)[0])
        episode, drift, lift, stuck, zero = orjson.loads(state[begins:ends])
        return (
            Detector.from_state(state[ends:]),
            Episode(**episode),
            DriftRule(**drift),
            LiftRule(**lift | {"last": tuple(lift["last"])}),
            StuckRule(**stuck),
            ZeroRule(**zero),
        )
    except (ValueError, TypeError, struct.error) as error:
        raise BadInputError("The state of a watched metric is not readable;", advice="start anew.") from error
