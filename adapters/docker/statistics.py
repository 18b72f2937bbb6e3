"""Resource use of containers: from the kernel's control groups where possible, else from the engine."""

from __future__ import annotations

from typing import Any

from adapters.docker.client import EngineClient, short
from adapters.docker.containers import Containers
from adapters.docker.control_groups import sample_group
from adapters.docker.states import moment
from core.monitoring.measurements import uses_the_same
from models.containers import ServiceSample
from models.failures import ContainerGoneError

_ONE_SHOT = {"stream": 0, "one-shot": 1}


class Statistics:
    """Resource use of one engine's containers."""

    def __init__(self, client: EngineClient, containers: Containers) -> None:
        self._client = client
        self._containers = containers
        # By project: the containers whose control groups agree with the engine, and whether they have a network.
        self._verified: dict[str, dict[str, bool]] = {}

    def samples(self, project: str) -> list[ServiceSample]:
        """Sample each running container of a project; counters are totals since its start.

        Statistics are expensive for the engine. Once the kernel's control groups have agreed with the engine about
        a container, only the control groups are read.

        Raises:
            EngineError: The engine did not answer, or refused.
        """
        containers = self._containers.services(project, running=True)
        verified = self._verified.get(project, {})
        read = {
            container_id: sample_group(container_id, service, networked=verified[container_id])
            for container_id, service in containers.items()
            if container_id in verified
        }
        unread = [container_id for container_id in containers if read.get(container_id) is None]
        for container_id, reported in zip(unread, self._client.map(self._statistics, unread), strict=True):
            read[container_id] = (
                None if reported is None else sample_of(reported, container_id, containers[container_id])
            )
            networked = bool(reported and reported.get("networks"))
            group = sample_group(container_id, containers[container_id], networked=networked)
            if group is not None and (engines := read[container_id]) is not None and uses_the_same(engines, group):
                verified = verified | {container_id: networked}
        self._verified[project] = {
            container_id: networked for container_id, networked in verified.items() if container_id in containers
        }
        return [sample for container_id in containers if (sample := read[container_id]) is not None]

    def _statistics(self, container_id: str) -> Any | None:
        try:
            with self._client.translate_errors(f"measuring container {short(container_id)}"):
                return self._client.get(f"/containers/{container_id}/stats", **_ONE_SHOT)
        except ContainerGoneError:
            return None


def sample_of(reported: dict[str, Any], container_id: str, service: str) -> ServiceSample | None:
    """What the engine reported of a container's use; None where the container had ended by then."""
    sampled_at, cpu, memory = (
        moment(reported.get("read")),
        reported.get("cpu_stats"),
        reported.get("memory_stats") or {},
    )
    if sampled_at is None or cpu is None or "usage" not in memory:
        # It ended between being listed and being measured: the engine then answers with zeroes, or a message alone.
        return None
    # Page cache that can be dropped at once is no use of memory; the two cgroup versions name it differently.
    details = memory.get("stats") or {}
    reclaimable = details.get("total_inactive_file", details.get("inactive_file", 0))
    networks = (reported.get("networks") or {}).values()
    blocks = (reported.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    return ServiceSample(
        service=service,
        container_id=container_id,
        sampled_at=sampled_at,
        cpu_total_ns=cpu["cpu_usage"]["total_usage"],
        memory_bytes=max(0, memory["usage"] - reclaimable),
        memory_limit_bytes=memory.get("limit", 0),
        network_rx_bytes=sum(network["rx_bytes"] for network in networks),
        network_tx_bytes=sum(network["tx_bytes"] for network in networks),
        block_read_bytes=sum(block["value"] for block in blocks if block["op"].lower() == "read"),
        block_write_bytes=sum(block["value"] for block in blocks if block["op"].lower() == "write"),
        processes=(reported.get("pids_stats") or {}).get("current", 0),
        throttled_periods=(cpu.get("throttling_data") or {}).get("throttled_periods", 0),
    )
