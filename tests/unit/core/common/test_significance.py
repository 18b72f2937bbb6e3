"""Significance tests agree with SciPy, and SciPy is loaded only on use."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pymannkendall
import pytest
from scipy import stats

from core.common.significance import mann_kendall, more_often, p_two_sided


@pytest.mark.parametrize("score", [0.0, 0.3, -1.96, 4.0, 9.0])
def test_a_score_is_as_likely_as_scipy_says(score: float) -> None:
    assert p_two_sided(score) == pytest.approx(2 * stats.norm.sf(abs(score)), rel=1e-9)


def test_a_trend_is_as_significant_as_pymannkendall_says_and_less_where_neighbours_are_alike() -> None:
    values = np.sin(np.arange(40.0)) + np.arange(40) / 20

    assert mann_kendall(values, 1.0) == pytest.approx(pymannkendall.original_test(values).p, rel=1e-6)
    assert mann_kendall(values, 3.0) > mann_kendall(values, 1.0)


def test_more_failures_than_before_are_significant_and_as_many_are_not() -> None:
    assert more_often((8, 2), (3, 87)) < 0.001
    assert more_often((1, 9), (9, 81)) > 0.5


def test_a_start_does_not_load_scipy() -> None:
    asked = (
        "import sys, flows.deployment.startup, flows.monitoring.collection;"
        " print('scipy' in sys.modules, 'pyarrow' in sys.modules)"
    )

    reported = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

    assert reported.stdout.split() == ["False", "False"]
