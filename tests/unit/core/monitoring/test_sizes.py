"""Sizes proposed for a service by what it used and by its kills for memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.common.sketches import Sketch
from core.monitoring.sizes import Hours, propose_size
from models.compose import ServiceDeclaration
from models.sizes import MemoryKills, Size, SizeProposal

MIB = 1024 * 1024
WEB = ServiceDeclaration(name="web", image="nginx")
NEVER = MemoryKills()
BEGAN = datetime(2026, 12, 1, tzinfo=UTC)


def hours(*values: float, first: datetime = BEGAN) -> Hours:
    """One value an hour."""
    return {first + timedelta(hours=place): (value, Sketch.from_values([value])) for place, value in enumerate(values)}


def proposed(
    service: ServiceDeclaration = WEB,
    *,
    memory_mib: float = 100,
    cpu: float = 20,
    for_hours: int = 48,
    kills: MemoryKills = NEVER,
    processors: int | None = 8,
) -> SizeProposal:
    """What is proposed for even use."""
    return propose_size(service, hours(*[memory_mib * MIB] * for_hours), hours(*[cpu] * for_hours), kills, processors)


def test_limits_cover_the_highest_value_and_reservations_the_target_each_with_its_margin() -> None:
    size = proposed(cpu=100).proposed
    assert size.memory_limit_bytes == size.memory_reservation_bytes == 115 * MIB
    assert size.cpu_limit == pytest.approx(1.15)
    # A sketch is right within 2 %.
    assert size.cpu_reservation == pytest.approx(1.15, rel=0.03)


def test_memory_is_the_daily_peak_and_its_limit_is_never_below_the_highest_sample() -> None:
    # Nine ordinary days, and one with a peak of an hour.
    use = [50 * MIB] * 24 * 9 + [50 * MIB] * 23 + [400 * MIB]
    size = propose_size(WEB, hours(*use), {}, NEVER, 8).proposed
    assert size.memory_limit_bytes == 460 * MIB
    assert size.memory_reservation_bytes == 58 * MIB


def test_too_few_samples_propose_nothing_and_say_so() -> None:
    proposal = proposed(for_hours=23)
    assert proposal.proposed == proposal.declared
    assert not proposal.changes
    assert proposal.because == "measured in 23 hours, and 24 are needed"


def test_a_kill_for_memory_raises_the_limit_at_once_and_nothing_else() -> None:
    service = replace(WEB, memory_limit_bytes=16 * MIB)
    proposal = proposed(service, memory_mib=15, for_hours=1, kills=MemoryKills(count=3, limit_bytes=16 * MIB))
    # 100 MiB more than its limit, and the margin.
    assert proposal.proposed == Size(memory_limit_bytes=134 * MIB)
    assert proposal.changes
    assert proposal.risk == "It may take 118 MiB more from the other programs of the machine."


def test_a_large_limit_is_raised_by_a_fifth() -> None:
    kills = MemoryKills(count=1, limit_bytes=1000 * MIB)
    assert (
        proposed(replace(WEB, memory_limit_bytes=1000 * MIB), memory_mib=900, kills=kills).proposed.memory_limit_bytes
        == 1380 * MIB
    )


def test_a_kill_that_was_answered_does_not_raise_the_limit_again() -> None:
    kills = MemoryKills(count=1, limit_bytes=16 * MIB)
    service = replace(WEB, memory_limit_bytes=134 * MIB, memory_reservation_bytes=134 * MIB)
    assert proposed(service, memory_mib=90, kills=kills).proposed.memory_limit_bytes == 134 * MIB
    assert not proposed(service, memory_mib=90, for_hours=3, kills=kills).changes


def test_what_fits_stays() -> None:
    fits = Size(memory_limit_bytes=120 * MIB, memory_reservation_bytes=115 * MIB, cpu_limit=0.5, cpu_reservation=0.23)
    service = replace(
        WEB, memory_limit_bytes=120 * MIB, memory_reservation_bytes=115 * MIB, cpu_limit=0.5, cpu_reservation=0.23
    )
    assert proposed(service).proposed == fits
    assert proposed(replace(service, memory_limit_bytes=140 * MIB)).proposed.memory_limit_bytes == 115 * MIB


def test_replicas_share_what_was_measured() -> None:
    size = proposed(replace(WEB, replicas=2), memory_mib=200).proposed
    assert size.memory_limit_bytes == 115 * MIB


def test_a_service_that_rests_keeps_enough_to_start() -> None:
    size = proposed(memory_mib=1, cpu=0).proposed
    assert size == Size(
        memory_limit_bytes=32 * MIB, memory_reservation_bytes=32 * MIB, cpu_limit=0.5, cpu_reservation=0.025
    )


def test_no_more_processors_are_proposed_than_the_engine_has() -> None:
    proposal = proposed(cpu=195, processors=2)
    assert proposal.proposed.cpu_limit == proposal.proposed.cpu_reservation == 2


def test_a_reservation_is_never_above_its_limit() -> None:
    size = proposed(replace(WEB, memory_reservation_bytes=10_000 * MIB)).proposed
    assert (size.memory_reservation_bytes or 0) <= (size.memory_limit_bytes or 0)


def test_a_limit_after_a_kill_is_not_below_what_is_reserved() -> None:
    service = replace(WEB, memory_reservation_bytes=500 * MIB)
    size = proposed(service, for_hours=1, kills=MemoryKills(count=1)).proposed
    assert size.memory_limit_bytes == 500 * MIB


def test_the_risk_names_what_was_seen() -> None:
    assert proposed().risk == (
        "The kernel kills it above 115 MiB (highest seen: 100 MiB); work above 0.5 processors, such as a start, takes "
        "longer (highest seen: 0.20)."
    )
