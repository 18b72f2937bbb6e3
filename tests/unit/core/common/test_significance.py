"""Significance tests agree with SciPy and pymannkendall, and a start loads neither."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pymannkendall
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from core.common.significance import (
    mann_kendall,
    more_often,
    p_two_sided,
    student_quantile,
    theil_sen,
    winsorized_deviation,
)

LEVELS = st.lists(st.integers(-50, 50).map(lambda tenths: tenths / 10), min_size=3, max_size=60).map(np.array)


@pytest.mark.parametrize("score", [0.0, 0.3, -1.96, 4.0, 9.0])
def test_a_score_is_as_likely_as_scipy_says(score: float) -> None:
    assert p_two_sided(score) == pytest.approx(2 * stats.norm.sf(abs(score)), rel=1e-9)


@given(LEVELS, st.randoms(use_true_random=False))
def test_a_slope_is_that_of_scipy_also_where_times_repeat(levels: np.ndarray, randoms: object) -> None:
    times = np.array([randoms.randrange(20) for _ in levels], float)  # type: ignore[attr-defined]
    times[0] = 20

    assert theil_sen(levels, times) == pytest.approx(stats.theilslopes(levels, times)[0], abs=1e-12)


@given(LEVELS)
def test_a_trend_is_as_significant_as_pymannkendall_says(levels: np.ndarray) -> None:
    plain = pymannkendall.original_test(levels) if len(set(levels)) > 1 else None

    assert mann_kendall(levels, 1.0) == pytest.approx(plain.p if plain else 1.0, rel=1e-6)


def test_a_trend_is_less_significant_where_neighbours_are_alike() -> None:
    values = np.sin(np.arange(40.0)) + np.arange(40) / 20

    assert mann_kendall(values, 3.0) > mann_kendall(values, 1.0)


@given(*[st.integers(0, 300)] * 4)
def test_more_failures_are_as_significant_as_fisher_says(failed: int, well: int, before: int, well_before: int) -> None:
    table = [[failed, well], [before, well_before]]
    expected = stats.fisher_exact(table, alternative="greater")[1]

    assert more_often((failed, well), (before, well_before)) == pytest.approx(expected, rel=1e-9)


@given(st.floats(0.001, 0.999), st.floats(1, 5000))
def test_a_quantile_is_that_of_scipy(share: float, freedom: float) -> None:
    assert student_quantile(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-6, abs=1e-9)


@given(LEVELS, st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.49]))
def test_outer_values_are_drawn_in_as_by_scipy(levels: np.ndarray, share: float) -> None:
    expected = stats.mstats.winsorize(levels, (share, share)).std()

    assert math.isclose(winsorized_deviation(levels, share), expected, abs_tol=1e-12)


def test_a_start_does_not_load_numerical_libraries_that_it_does_not_need() -> None:
    asked = (
        "import sys, flows.deployment.startup, flows.monitoring.collection;"
        " print('scipy' in sys.modules, 'pyarrow' in sys.modules)"
    )

    reported = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

    assert reported.stdout.split() == ["False", "False"]
