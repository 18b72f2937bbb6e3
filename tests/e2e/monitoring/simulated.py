"""Ordinary services that need no engine: what a collection would see of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime

from core.monitoring.assess import SourceAnswers
from models.containers import ContainerState, ServiceSample, SystemSample
from models.health import Health, HealthReport, ProbeResult, ServiceHealth, ServiceVerdict


def simulated(at: datetime, number: int, chance: random.Random, names: Sequence[str]) -> SourceAnswers:
    """The look of that number, one each 15 s: a quarter of a processor a service, memory that breathes, answers
    in 20 ms."""
    samples, container_states, verdicts = [], [], []
    for place, name in enumerate(names):
        samples.append(
            ServiceSample(
                service=name, container_id=name, sampled_at=at,
                cpu_total_ns=int(1e9 * (1000 + (0.25 + 0.002 * place) * 15 * number + chance.random())),
                memory_bytes=int((200 + chance.gauss(0, 5)) * 2**20), memory_limit_bytes=2**30,
                network_rx_bytes=number * 10_000, network_tx_bytes=number * 9_000, block_read_bytes=number * 500,
                block_write_bytes=number * 800, processes=12,
            )
        )  # fmt: skip
        container_states.append(
            ContainerState(
                container_id=name, name=name, service=name, project="day", number=1, image=name, image_id=name,
                state="running", seen_at=at,
            )
        )  # fmt: skip
        probe = ProbeResult(
            service=name, kind="http", target="/", ok=True, detail="/ answered 200", checked_at=at,
            latency_ms=chance.lognormvariate(3, 0.3),
        )  # fmt: skip
        verdicts.append(ServiceVerdict(service=name, health=ServiceHealth.HEALTHY, reason="answers", probes=(probe,)))
    system = SystemSample(
        sampled_at=at, cpu_busy_seconds=15 * number * 1.2 + chance.random(), load_1m=2 + chance.random(), load_5m=2,
        load_15m=2, cpus=4, memory_total_bytes=2**34, memory_available_bytes=int(2**33 + chance.gauss(0, 2**26)),
        swap_used_bytes=0, disk_total_bytes=2**40, disk_free_bytes=2**39, inodes_total=2**24, inodes_free=2**23,
        network_rx_bytes=number * 10**6, network_tx_bytes=number * 10**6, open_files_limit=1024,
    )  # fmt: skip
    health = HealthReport(environment="day", overall=Health.HEALTHY, checked_at=at, services=tuple(verdicts))
    return SourceAnswers(at=at, system=system, samples=samples, container_states=container_states, health=health)
