"""Estimate percentiles of many numbers from a few bytes; sketches can be added."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

_ACCURACY = 0.02
_LOG_GAMMA = math.log((1 + _ACCURACY) / (1 - _ACCURACY))
_SMALLEST, _LARGEST = 1e-9, 1e300


@dataclass(slots=True)
class Sketch:
    """Counts of numbers by the power they are near. A percentile is right within 2 % of its value."""

    counts: dict[int, int] = field(default_factory=dict)
    """Bucket to count; bucket 0 is for zero, a negative number has its bucket mirrored."""

    @classmethod
    def from_values(cls, values: Iterable[float]) -> Sketch:
        """A sketch of these numbers."""
        sketch = cls()
        for value in values:
            bucket = _bucket(value)
            sketch.counts[bucket] = sketch.counts.get(bucket, 0) + 1
        return sketch

    @classmethod
    def from_bytes(cls, data: bytes) -> Sketch:
        """Read what `to_bytes` wrote."""
        pairs = zlib.decompress(data)
        return cls(dict(struct.iter_unpack("<iI", pairs)))

    def to_bytes(self) -> bytes:
        """Few bytes to keep."""
        return zlib.compress(b"".join(struct.pack("<iI", *pair) for pair in sorted(self.counts.items())), 6)

    def merge(self, other: Sketch) -> Sketch:
        """The sketch of the numbers of both."""
        counts = dict(self.counts)
        for bucket, count in other.counts.items():
            counts[bucket] = counts.get(bucket, 0) + count
        return Sketch(counts)

    def quantile(self, share: float) -> float:
        """The number below which this share (0-1) lies; 0 for an empty sketch."""
        rank = share * (sum(self.counts.values()) - 1)
        for bucket in sorted(self.counts):
            rank -= self.counts[bucket]
            if rank < 0:
                return _value(bucket)
        return 0.0


_OFFSET = math.ceil(math.log(_SMALLEST) / _LOG_GAMMA) - 1


def _bucket(value: float) -> int:
    # An infinite value counts as a very large one, so that it does not spoil the hour.
    size = min(abs(value), _LARGEST)
    if size < _SMALLEST:
        return 0
    bucket = math.ceil(math.log(size) / _LOG_GAMMA) - _OFFSET
    return bucket if value > 0 else -bucket


def _value(bucket: int) -> float:
    if bucket == 0:
        return 0.0
    middle = math.exp((abs(bucket) + _OFFSET) * _LOG_GAMMA) * (1 - _ACCURACY)
    return middle if bucket > 0 else -middle
