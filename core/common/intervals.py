"""Intervals: how far a share seen in a few may be from the true one."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054
"""Two-sided 95 % of a normal distribution."""


def wilson(good: int, total: int, *, z: float = Z_95) -> tuple[float, float]:
    """The Wilson interval of a share, as two numbers 0-1; the whole range where nothing was seen."""
    if total == 0:
        return 0.0, 1.0
    share = good / total
    weight = 1 + z * z / total
    middle = (share + z * z / (2 * total)) / weight
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / weight
    return max(0.0, middle - half), min(1.0, middle + half)
