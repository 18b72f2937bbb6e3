"""A sketch answers percentiles within 2 %, in few bytes, and adds up as if it had seen everything itself."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.common.sketches import Sketch

_ANY = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12).filter(
    lambda value: value == 0 or abs(value) > 1e-6
)


def exact(values: list[float], share: float) -> float:
    return sorted(values)[math.floor(share * (len(values) - 1))]


def draws(kind: str, count: int) -> list[float]:
    rng = random.Random(kind)
    draw = {
        "latencies": lambda: rng.lognormvariate(3, 1.5),
        "shares": lambda: rng.uniform(0, 100),
        "bytes": lambda: rng.paretovariate(1.2) * 1e6,
        "two humps": lambda: rng.gauss(5, 0.5) if rng.random() < 0.9 else rng.gauss(900, 20),
        "around zero": lambda: rng.gauss(0, 10),
    }[kind]
    return [draw() for _ in range(count)]


@pytest.mark.parametrize("kind", ["latencies", "shares", "bytes", "two humps", "around zero"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0])
def test_percentiles_are_right_within_two_percent(kind: str, share: float) -> None:
    values = draws(kind, 20_000)
    assert Sketch.from_values(values).quantile(share) == pytest.approx(exact(values, share), rel=0.0201)


@given(st.lists(_ANY, min_size=1, max_size=50), st.floats(0, 1))
def test_every_answer_is_near_a_number_that_was_seen(values: list[float], share: float) -> None:
    assert Sketch.from_values(values).quantile(share) == pytest.approx(exact(values, share), rel=0.0201, abs=1e-9)


@given(st.lists(_ANY, max_size=30), st.lists(_ANY, max_size=30))
def test_merging_is_the_same_as_having_seen_both(one: list[float], other: list[float]) -> None:
    assert Sketch.from_values(one).merge(Sketch.from_values(other)).counts == Sketch.from_values(one + other).counts


def test_a_day_merged_from_its_hours_answers_like_the_day() -> None:
    hours = [draws("latencies", 400) for _ in range(24)]
    day = Sketch()
    for values in hours:
        day = day.merge(Sketch.from_bytes(Sketch.from_values(values).to_bytes()))
    everything = [value for values in hours for value in values]
    assert day.quantile(0.95) == pytest.approx(exact(everything, 0.95), rel=0.0201)


def test_an_hour_takes_few_bytes() -> None:
    assert len(Sketch.from_values(draws("latencies", 240)).to_bytes()) < 400
    assert len(Sketch.from_values([5.0] * 240).to_bytes()) < 24


@given(st.lists(_ANY, max_size=40))
def test_what_is_read_back_is_what_was_written(values: list[float]) -> None:
    assert Sketch.from_bytes(Sketch.from_values(values).to_bytes()).counts == Sketch.from_values(values).counts


def test_what_is_infinite_counts_as_very_much() -> None:
    sketch = Sketch.from_values([1.0, math.inf, -math.inf])
    assert (sketch.quantile(0) < -9e299, sketch.quantile(1) > 9e299) == (True, True)


def test_an_empty_sketch_answers_zero() -> None:
    assert Sketch().quantile(0.5) == 0
