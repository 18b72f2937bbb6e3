"""Propose memory and processors of a service by what it used: the figures of Kubernetes' Vertical Pod Autoscaler.

Its recommender (defaults of version 1.5, in its flags.md) takes the 90th percentile as the target, leaves
what lies between the 50th and the 95th as it is, adds 15 % (`recommendation-margin-fraction`), counts memory by its
daily peaks (`memory-aggregation-interval` 24h), trusts 24 hours of samples (`confidence-interval-memory`, `-cpu`), and
takes a kill for memory as a use of the limit and 20 % (`oom-bump-up-ratio` 1.2), at least 100 MiB
(`oom-min-bump-up-bytes`), more. It gives processors at least 0.025 (`pod-recommendation-min-cpu-millicores`).

A reservation is that target. A limit, which it only scales, covers the highest value and the margin. Samples do not
lose weight with age: a weekly peak counts. Its least memory, 250 MB, is that of a pod and would raise most containers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from core.common.quantities import size_in_words
from core.common.sketches import Sketch
from models.compose import ServiceDeclaration
from models.sizes import MemoryKills, Size, SizeProposal

_Number = TypeVar("_Number", int, float)
Hours = Mapping[datetime, tuple[float, Sketch]]
"""The highest value of each hour in which a metric was measured, and all its values."""

_MIB = 1024 * 1024
_LOWER, _TARGET, _UPPER = 0.5, 0.9, 0.95
_MARGIN = 1.15
_OOM_RATIO, _OOM_BYTES = 1.2, 100 * _MIB
_FEWEST_HOURS = 24
_SETTLED = 1.1
"""A limit that is at most so much larger stays (`pod-update-threshold` 0.1)."""
_LEAST_MEMORY = 32 * _MIB
_LEAST_CPU, _LEAST_CPU_LIMIT = 0.025, 0.5
"""A start and its health checks need more than a service that rests."""


def declared_size(service: ServiceDeclaration) -> Size:
    """Return the limits and reservations that a Compose file declares."""
    return Size(
        memory_limit_bytes=service.memory_limit_bytes,
        memory_reservation_bytes=service.memory_reservation_bytes,
        cpu_limit=service.cpu_limit,
        cpu_reservation=service.cpu_reservation,
    )


def propose_size(
    service: ServiceDeclaration, memory: Hours, cpu: Hours, kills: MemoryKills, processors: int | None
) -> SizeProposal:
    """Propose the size of a service by the bytes and the percentages of a processor that all its containers used.

    `processors` are those of the engine, where known: it refuses a larger limit. With too few samples only a kill for
    memory raises its memory limit.
    """
    declared, replicas, hours = declared_size(service), max(service.replicas, 1), len(memory)
    peaks = [peak / replicas for peak in _daily_peaks(memory)]
    highest, cpu_highest = (
        max(peaks, default=0.0),
        max((most for most, _ in cpu.values()), default=0.0) / 100 / replicas,
    )
    proposal = SizeProposal(
        service=service.name,
        declared=declared,
        proposed=declared,
        hours=hours,
        memory_highest_bytes=round(highest) if memory else None,
        cpu_highest=round(cpu_highest, 3) if cpu else None,
        kills=kills,
    )
    if kills.count and (killed_at := kills.limit_bytes or highest):
        peaks.append(max(killed_at * _OOM_RATIO, killed_at + _OOM_BYTES))
    limit = _limit(declared.memory_limit_bytes, _whole_mib(max(peaks, default=0.0)))
    if hours >= _FEWEST_HOURS:
        shares = [_percentile(peaks, share) for share in (_LOWER, _TARGET, _UPPER)]
        reservation = _reservation(declared.memory_reservation_bytes, shares, _whole_mib(shares[1]))
        proposed = replace(declared, memory_limit_bytes=limit, memory_reservation_bytes=min(reservation, limit))
    elif kills.count and peaks and (declared.memory_limit_bytes or 0) < limit:
        proposed = replace(declared, memory_limit_bytes=max(limit, declared.memory_reservation_bytes or 0))
    else:
        return replace(
            proposal, because=f"measured in {hours} hour{'s' * (hours != 1)}, and {_FEWEST_HOURS} are needed"
        )
    if len(cpu) >= _FEWEST_HOURS:
        every = Sketch()
        for _, sketch in cpu.values():
            every = every.merge(sketch)
        shares = [every.quantile(share) / 100 / replicas for share in (_LOWER, _TARGET, _UPPER)]
        cpu_limit = _limit(declared.cpu_limit, max(_LEAST_CPU_LIMIT, _hundredths(cpu_highest)))
        cpu_limit = min(cpu_limit, processors or cpu_limit)
        cpus = _reservation(declared.cpu_reservation, shares, max(_LEAST_CPU, _hundredths(shares[1])))
        proposed = replace(proposed, cpu_limit=cpu_limit, cpu_reservation=min(cpus, cpu_limit))
    risk = "" if proposed == declared else _risk(declared, proposed, proposal)
    return replace(proposal, proposed=proposed, risk=risk)


def _daily_peaks(memory: Hours) -> list[float]:
    days: dict[str, float] = {}
    for hour, (highest, _) in memory.items():
        day = f"{hour:%Y-%m-%d}"
        days[day] = max(days.get(day, 0.0), highest)
    return list(days.values())


def _percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of the values does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def _whole_mib(peak: float) -> int:
    return max(_LEAST_MEMORY, math.ceil(peak * _MARGIN / _MIB) * _MIB)


def _hundredths(cores: float) -> float:
    return math.ceil(round(cores * _MARGIN * 100, 6)) / 100


def _limit(declared: _Number | None, needed: _Number) -> _Number:
    return declared if declared is not None and needed <= declared <= needed * _SETTLED else needed


def _reservation(declared: _Number | None, shares: Sequence[float], target: _Number) -> _Number:
    settled = declared is not None and shares[0] * _MARGIN <= declared <= shares[2] * _MARGIN
    return declared if declared is not None and settled else target


def _risk(declared: Size, proposed: Size, used: SizeProposal) -> str:
    """What may go wrong with a change, in one sentence."""
    limit, before, risks = proposed.memory_limit_bytes, declared.memory_limit_bytes, []
    if limit is not None and before is not None and limit > before:
        risks.append(f"it may take {size_in_words(limit - before)} more from the other programs of the machine")
    elif limit is not None and limit != before:
        seen = size_in_words(used.memory_highest_bytes or 0)
        risks.append(f"the kernel kills it above {size_in_words(limit)} (highest seen: {seen})")
    if proposed.cpu_limit is not None and proposed.cpu_limit != declared.cpu_limit:
        seen = f"highest seen: {used.cpu_highest:.2f}"
        risks.append(f"work above {proposed.cpu_limit:g} processors, such as a start, takes longer ({seen})")
    text = "; ".join(risks or ["a reservation counts only where the machine is short of memory or processors"])
    return f"{text[:1].upper()}{text[1:]}."
