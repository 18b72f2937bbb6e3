"""What the detector costs, how many false alarms it raises on clean series, and which injected faults it catches.

Run: python -m benchmarks.detector [--seeds 10]. Rows are one minute apart; the first day is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks.measure import seconds
from core.monitoring.anomalies import DriftRule, Episode, LiftRule, StuckRule, ZeroRule
from core.monitoring.detector import NOTICE, Detector
from models.analysis import Level

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = 1440
Series = Callable[[int, np.random.Generator], np.ndarray]


def _memory(rows: int, noise: np.random.Generator) -> np.ndarray:
    level, out = 0.0, np.empty(rows)
    for row in range(rows):
        level = 0.97 * level + noise.normal()
        out[row] = 500 + 5 * level
    return out


def _wave(rows: int) -> np.ndarray:
    return np.sin(2 * np.pi * np.arange(rows) / DAY)


def _weekdays(rows: int) -> np.ndarray:
    return np.where(np.arange(rows) // DAY % 7 < 5, 1.0, 0.4)


CLEAN: dict[str, Series] = {
    "gaussian": lambda rows, noise: noise.normal(50, 5, rows),
    "daily": lambda rows, noise: 40 + 15 * _wave(rows) + noise.normal(0, 2, rows),
    "weekly": lambda rows, noise: 20 + _weekdays(rows) * (30 + 15 * _wave(rows)) + noise.normal(0, 2, rows),
    "latency_lognormal": lambda rows, noise: noise.lognormal(3, 0.4, rows),
    "latency_pareto": lambda rows, noise: 20 * (1 + noise.pareto(3, rows)),
    "memory": _memory,
    "bursty_cpu": lambda rows, noise: np.clip(
        noise.normal(10, 2, rows) + (noise.random(rows) < 0.05) * noise.uniform(20, 70, rows), 0, 100
    ),
    "requests": lambda rows, noise: noise.poisson(30 + 20 * _wave(rows)).astype(float),
    "rare_errors": lambda rows, noise: (noise.random(rows) < 0.01).astype(float),
}
FAULTY = ("daily", "weekly", "memory", "latency_lognormal", "bursty_cpu")

# What a fault makes of the rows that it changes, how many rows these are, and within how many it must be caught.
FAULTS: dict[str, tuple[Callable[[np.ndarray], np.ndarray | float], int, int]] = {
    "level x2, 20 rows": (lambda values: values * 2, 20, 5),
    "level x2, 20 rows, caught while it lasts": (lambda values: values * 2, 20, 20),
    "drop to zero, 20 rows": (lambda _: 0.0, 20, 5),
    "stuck, 65 rows": (lambda values: float(values[0]), 65, 65),
    "x3, one row": (lambda values: values * 3, 1, 5),
    "x1.2, 400 rows": (lambda values: values * 1.2, 400, 400),
    "ramp to x1.5, 400 rows": (lambda values: values * np.linspace(1, 1.5, 400), 400, 400),
}


def reported(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row by row: whether the score is a notice, and whether an episode or a rule warns."""
    detector, episode, drift, lift = Detector(), Episode(), DriftRule(), LiftRule()
    still, zero = StuckRule(), ZeroRule()
    notice, warning = np.zeros(len(values), bool), np.zeros(len(values), bool)
    for row, value in enumerate(values.tolist()):
        score = detector.update(START + row * timedelta(minutes=1), value)
        episode, drift = episode.advance(score, value), drift.advance(score, value)
        lift, still, zero = lift.advance(value), still.advance(value), zero.advance(value)
        notice[row] = score.value >= NOTICE
        warning[row] = any(one.judge().level.rank >= Level.WARNING.rank for one in (episode, drift, lift, still, zero))
    return notice, warning


def clean(seeds: int) -> dict[str, dict[str, float]]:
    """Notices and warnings (each counted once) per 10,000 rows, from the second day of seven."""
    result = {}
    for name, series in CLEAN.items():
        notices = warnings = 0
        for seed in range(seeds):
            notice, warning = reported(series(7 * DAY, np.random.default_rng(seed)))
            notices += int(notice[DAY:].sum())
            warnings += int((warning[1:] & ~warning[:-1])[DAY:].sum())
        rows = 6 * DAY * seeds
        result[name] = {"notice": round(1e4 * notices / rows, 2), "warning": round(1e4 * warnings / rows, 2)}
    means = {level: round(statistics.mean(one[level] for one in result.values()), 2) for level in ("notice", "warning")}
    return result | {"mean": means}


def caught(seeds: int) -> dict[str, dict[str, str]]:
    """How many of the seeds' faults were caught in time: by a notice, by a warning."""
    result: dict[str, dict[str, str]] = {}
    for fault, (change, length, within) in FAULTS.items():
        result[fault] = {}
        for name in FAULTY:
            notices = warnings = 0
            for seed in range(seeds):
                noise = np.random.default_rng(1000 + seed)
                values = CLEAN[name](4 * DAY, noise)
                at = int(noise.integers(3 * DAY, 4 * DAY - 400))
                values[at : at + length] = change(values[at : at + length])
                notice, warning = reported(values)
                notices += bool(notice[at : at + within].any())
                warnings += bool(warning[at : at + within].any())
            result[fault][name] = f"{notices} and {warnings} of {seeds}"
    return result


def cost() -> dict[str, float]:
    """Microseconds a row, microseconds to keep and take up the state, and its bytes."""
    values = CLEAN["latency_pareto"](14 * DAY, np.random.default_rng(0)).tolist()
    detector = Detector()

    def update() -> None:
        for row, value in enumerate(values):
            detector.update(START + row * timedelta(minutes=1), value)

    a_row = seconds(update) / len(values)
    kept = [seconds(lambda: Detector.from_state(detector.to_state())) for _ in range(50)]
    return {
        "us_a_row": round(1e6 * a_row, 1),
        "us_to_keep_and_take_up": round(1e6 * statistics.median(kept), 1),
        "state_bytes": len(detector.to_state()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    seeds = parser.parse_args().seeds
    print(json.dumps({"cost": cost(), "clean": clean(seeds), "caught": caught(seeds)}, indent=1))


if __name__ == "__main__":
    main()
