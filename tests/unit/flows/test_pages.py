"""Everything that a server has is read, a page of 200 after the other."""

from __future__ import annotations

import pytest

from flows.common.pages import all_of


@pytest.mark.parametrize("number", [0, 1, 199, 200, 201, 400, 999])
async def test_all_pages_are_read_with_the_same_filter(number: int) -> None:
    async def read(*, kind: str, limit: int, offset: int) -> list[str]:
        assert limit <= 200
        return [f"{kind} {place}" for place in range(number)][offset : offset + limit]

    assert await all_of(read, kind="run") == [f"run {place}" for place in range(number)]
