"""How far a share or a series changes beyond chance: SciPy's tests, in the few shapes that are needed.

SciPy's statistics take longer to load than all the rest of a command, so they are loaded on first use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z_95 = 1.959963984540054
"""Two-sided 95 % of a normal distribution."""

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


def wilson(good: int, total: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share, as two numbers 0-1; the whole range where nothing was seen."""
    if total == 0:
        return 0.0, 1.0
    share, z = good / total, Z_95
    weight = 1 + z * z / total
    middle = (share + z * z / (2 * total)) / weight
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / weight
    return max(0.0, middle - half), min(1.0, middle + half)


def p_two_sided(score: float) -> float:
    """The probability of a standard normal value at least so far from zero, either way."""
    return math.erfc(abs(score) / math.sqrt(2))


def theil_sen(levels: Floats, times: Floats) -> float:
    """The median slope: the change of a level over one unit of time."""
    from scipy import stats

    return float(stats.theilslopes(levels, times)[0])


def mann_kendall(values: Floats, grown: float) -> float:
    """The two-sided p-value of a monotonic trend.

    `grown` is the factor by which the variance grows because neighbours resemble each other; 1 where they do not.
    """
    import pymannkendall

    plain = pymannkendall.original_test(values)
    return p_two_sided(max(0.0, abs(float(plain.s)) - 1) / math.sqrt(float(plain.var_s) * grown))


def more_often(counts: Sequence[int], counts_before: Sequence[int]) -> float:
    """Fisher's exact p-value that the first of two kinds is more frequent in `counts` than in `counts_before`."""
    from scipy import stats

    return float(stats.fisher_exact([[*counts], [*counts_before]], alternative="greater")[1])


def student_quantile(share: float, freedom: float) -> float:
    """The value below which a Student variable with so many degrees of freedom lies with probability `share`."""
    from scipy import stats

    return float(stats.t.ppf(share, freedom))


def winsorized_deviation(values: Floats, share: float) -> float:
    """The standard deviation after the outermost `share` (0-0.5) at each end is drawn in."""
    from scipy import stats

    return float(stats.mstats.winsorize(values, (share, share)).std())
