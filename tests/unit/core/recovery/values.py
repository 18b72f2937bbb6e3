"""Containers that the tests of recovery judge."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from models.containers import ContainerState

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def container(service: str, state: str = "exited", **more: Any) -> ContainerState:
    """A container of the project `shop`, which uses its one network."""
    reported: dict[str, Any] = {
        "container_id": f"{service}-id",
        "name": f"shop-{service}-1",
        "service": service,
        "project": "shop",
        "number": 1,
        "image": "i",
        "image_id": "sha256:1",
        "state": state,
        "seen_at": NOON,
        "config_hash": "h1",
        "networks": ("shop_net",),
    }
    return ContainerState(**(reported | more))
