"""Everything that Prefect's server has of a kind: it answers with 200 at once, and does not say that there are more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

_AT_ONCE = 200
Item = TypeVar("Item")


async def all_of(read: Callable[..., Awaitable[list[Item]]], **filters: Any) -> list[Item]:
    """All that a reading method of Prefect's client finds, such as `client.read_flow_runs`."""
    items: list[Item] = []
    while page := await read(**filters, limit=_AT_ONCE, offset=len(items)):
        items += page
        if len(page) < _AT_ONCE:
            break
    return items
