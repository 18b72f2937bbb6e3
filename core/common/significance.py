"""How far a share or a series changes beyond chance.

SciPy has all of this, and takes longer to load than all the rest of a command, so it is what the tests compare with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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
    apart = times[:, None] - times
    later = apart > 0
    return float(np.median((levels[:, None] - levels)[later] / apart[later]))


def mann_kendall(values: Floats, grown: float) -> float:
    """The two-sided p-value of a monotonic trend; equal values show none.

    `grown` is the factor by which the variance grows because neighbours resemble each other; 1 where they do not.
    """
    total, (_, ties) = len(values), np.unique(values, return_counts=True)
    # Of pairs, the later one minus the earlier one (Mann 1945; the variance with ties: Kendall 1975).
    score = abs(np.sign(values - values[:, None])[np.triu_indices(total, 1)].sum())
    variance = _variance_of_scores(np.array([total])) - _variance_of_scores(ties)
    return p_two_sided(max(0.0, score - 1) / math.sqrt(variance * grown)) if variance else 1.0


def _variance_of_scores(sizes: np.ndarray[Any, np.dtype[np.int64]]) -> float:
    return float((sizes * (sizes - 1) * (2 * sizes + 5)).sum()) / 18


def more_often(counts: Sequence[int], counts_before: Sequence[int]) -> float:
    """Fisher's exact p-value that the first of two kinds is more frequent in `counts` than in `counts_before`."""
    drawn, kind = sum(counts), counts[0] + counts_before[0]
    total = drawn + sum(counts_before)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    hits = np.arange(counts[0], min(kind, drawn) + 1)
    misses, other_kind = drawn - hits, total - kind
    ways = -factorial[hits] - factorial[kind - hits] - factorial[misses] - factorial[other_kind - misses]
    fixed = factorial[kind] + factorial[other_kind] + factorial[drawn] + factorial[total - drawn] - factorial[total]
    return min(1.0, float(np.exp(ways + fixed).sum()))


def student_quantile(share: float, freedom: float) -> float:
    """The value below which a Student variable with `freedom` (at least 1) degrees lies with probability `share`."""
    # With t = sqrt(freedom) tan(angle), the density is a power of the cosine, which few nodes integrate exactly enough.
    nodes, weights = np.polynomial.legendre.leggauss(64)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        between = scale * angle / 2 * float(weights @ np.cos(angle / 2 * (nodes + 1)) ** (freedom - 1))
        low, high = (angle, high) if between < abs(share - 0.5) else (low, angle)
    return math.copysign(math.sqrt(freedom) * math.tan(low), share - 0.5)


def winsorized_deviation(values: Floats, share: float) -> float:
    """The standard deviation after the outermost `share` (0-0.5) at each end is drawn in."""
    ordered = np.sort(values)
    outer = int(share * len(ordered))
    return float(np.clip(ordered, ordered[outer], ordered[len(ordered) - outer - 1]).std())
