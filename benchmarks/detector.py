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

from core.anomalies import ALERT, NOTICE, Detector, StuckRule, ZeroRule
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
    "drop to zero, 20 rows": (dropped, 5),
    "stuck, 65 rows": (stuck, 65),
    "x3, one row": (spiked, 5),
    "x1.2, 400 rows": (shifted, 400),
    "ramp to x1.5, 400 rows": (ramped, 400),
}


def told(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and whether a rule speaks, row by row."""
    detector, still, zero = Detector(), StuckRule(), ZeroRule()
    scores, spoken = np.empty(len(values)), np.zeros(len(values), bool)
    for row, value in enumerate(values.tolist()):
        scores[row] = detector.update(START + row * timedelta(minutes=1), value).value
        still, zero = still.after(value), zero.after(value)
        spoken[row] = any(rule.judge().level is not Level.NONE for rule in (still, zero))
    return scores, spoken


def clean(seeds: int) -> dict[str, dict[str, float]]:
    """Rows at each level per 10,000, from the second day of seven."""
    result = {}
    for name, series in CLEAN.items():
        rows = [told(series(7 * DAY, np.random.default_rng(seed))) for seed in range(seeds)]
        scores = np.concatenate([score[DAY:] for score, _ in rows])
        rules = np.concatenate([rule[DAY:] for _, rule in rows])
        result[name] = {
            "notice": round(1e4 * float((scores >= NOTICE).mean()), 2),
            "alert": round(1e4 * float((scores >= ALERT).mean()), 2),
            "rules": round(1e4 * float(rules.mean()), 2),
        }
    return result


def caught(seeds: int) -> dict[str, dict[str, str]]:
    """How many of the seeds' faults each level caught in time (notice / alert or rule)."""
    result: dict[str, dict[str, str]] = {}
    for fault, (inject, within) in FAULTS.items():
        result[fault] = {}
        for name in FAULTY:
            notice = alert = 0
            for seed in range(seeds):
                noise = np.random.default_rng(1000 + seed)
                values = CLEAN[name](4 * DAY, noise)
                at = int(noise.integers(3 * DAY, 4 * DAY - 400))
                inject(values, at)
                scores, rules = told(values)
                span = slice(at, at + within)
                notice += bool((scores[span] >= NOTICE).any() or rules[span].any())
                alert += bool((scores[span] >= ALERT).any() or rules[span].any())
            result[fault][name] = f"{notice}/{alert} of {seeds}"
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
