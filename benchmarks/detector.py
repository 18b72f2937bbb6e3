"""What the detector costs, how often it cries wolf on clean series, and which injected faults it catches.

Run: python benchmarks/detector.py [--seeds 10]. Rows are one minute apart; the first day is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from core.monitoring.detector import NOTICE, Detector
from core.monitoring.detector_rules import DriftRule, Episode, LiftRule, StuckRule, ZeroRule
from models.analysis import Level

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = 1440
Series = Callable[[int, np.random.Generator], np.ndarray]


def gaussian(rows: int, noise: np.random.Generator) -> np.ndarray:
    return noise.normal(50, 5, rows)


def daily(rows: int, noise: np.random.Generator) -> np.ndarray:
    return 40 + 15 * np.sin(2 * np.pi * np.arange(rows) / DAY) + noise.normal(0, 2, rows)


def weekly(rows: int, noise: np.random.Generator) -> np.ndarray:
    at = np.arange(rows)
    busy = np.where(at // DAY % 7 < 5, 1.0, 0.4)
    return 20 + busy * (30 + 15 * np.sin(2 * np.pi * at / DAY)) + noise.normal(0, 2, rows)


def latency_lognormal(rows: int, noise: np.random.Generator) -> np.ndarray:
    return noise.lognormal(3, 0.4, rows)


def latency_pareto(rows: int, noise: np.random.Generator) -> np.ndarray:
    return 20 * (1 + noise.pareto(3, rows))


def memory(rows: int, noise: np.random.Generator) -> np.ndarray:
    level, out = 0.0, np.empty(rows)
    for row in range(rows):
        level = 0.97 * level + noise.normal()
        out[row] = 500 + 5 * level
    return out


def bursty_cpu(rows: int, noise: np.random.Generator) -> np.ndarray:
    busy = noise.random(rows) < 0.05
    return np.clip(noise.normal(10, 2, rows) + busy * noise.uniform(20, 70, rows), 0, 100)


def requests(rows: int, noise: np.random.Generator) -> np.ndarray:
    return noise.poisson(30 + 20 * np.sin(2 * np.pi * np.arange(rows) / DAY)).astype(float)


def rare_errors(rows: int, noise: np.random.Generator) -> np.ndarray:
    return (noise.random(rows) < 0.01).astype(float)


CLEAN: dict[str, Series] = {
    series.__name__: series
    for series in (
        gaussian, daily, weekly, latency_lognormal, latency_pareto, memory, bursty_cpu, requests, rare_errors,
    )
}  # fmt: skip
FAULTY = ("daily", "weekly", "memory", "latency_lognormal", "bursty_cpu")


def doubled(values: np.ndarray, at: int) -> None:
    values[at : at + 20] *= 2


def dropped(values: np.ndarray, at: int) -> None:
    values[at : at + 20] = 0


def stuck(values: np.ndarray, at: int) -> None:
    values[at : at + 65] = values[at]


def spiked(values: np.ndarray, at: int) -> None:
    values[at] *= 3


def shifted(values: np.ndarray, at: int) -> None:
    values[at : at + 400] *= 1.2


def ramped(values: np.ndarray, at: int) -> None:
    values[at : at + 400] *= np.linspace(1, 1.5, 400)


FAULTS: dict[str, tuple[Callable[[np.ndarray, int], None], int]] = {
    "level x2, 20 rows": (doubled, 5),
    "level x2, 20 rows, caught while it lasts": (doubled, 20),
    "drop to zero, 20 rows": (dropped, 5),
    "stuck, 65 rows": (stuck, 65),
    "x3, one row": (spiked, 5),
    "x1.2, 400 rows": (shifted, 400),
    "ramp to x1.5, 400 rows": (ramped, 400),
}


def reported(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row by row: whether the score is a notice, and whether an episode or a rule warns."""
    detector, episode, drift, lift = Detector(), Episode(), DriftRule(), LiftRule()
    still, zero = StuckRule(), ZeroRule()
    notice, warning = np.zeros(len(values), bool), np.zeros(len(values), bool)
    for row, value in enumerate(values.tolist()):
        score = detector.update(START + row * timedelta(minutes=1), value)
        episode, drift = episode.after(score, value), drift.after(score, value)
        lift, still, zero = lift.after(value), still.after(value), zero.after(value)
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
    for fault, (inject, within) in FAULTS.items():
        result[fault] = {}
        for name in FAULTY:
            notices = warnings = 0
            for seed in range(seeds):
                noise = np.random.default_rng(1000 + seed)
                values = CLEAN[name](4 * DAY, noise)
                at = int(noise.integers(3 * DAY, 4 * DAY - 400))
                inject(values, at)
                notice, warning = reported(values)
                notices += bool(notice[at : at + within].any())
                warnings += bool(warning[at : at + within].any())
            result[fault][name] = f"{notices} and {warnings} of {seeds}"
    return result


def cost() -> dict[str, float]:
    """Microseconds a row, microseconds to keep and take up the state, and its bytes."""
    values = latency_pareto(14 * DAY, np.random.default_rng(0)).tolist()
    detector, began = Detector(), time.perf_counter()
    for row, value in enumerate(values):
        detector.update(START + row * timedelta(minutes=1), value)
    a_row = (time.perf_counter() - began) / len(values) * 1e6
    kept = []
    for _ in range(50):
        began = time.perf_counter()
        Detector.from_state(detector.to_state())
        kept.append((time.perf_counter() - began) * 1e6)
    return {
        "us_a_row": round(a_row, 1),
        "us_to_keep_and_take_up": round(statistics.median(kept), 1),
        "state_bytes": len(detector.to_state()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    seeds = parser.parse_args().seeds
    print(json.dumps({"cost": cost(), "clean": clean(seeds), "caught": caught(seeds)}, indent=1))


if __name__ == "__main__":
    main()
