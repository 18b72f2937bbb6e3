"""Plain coroutine functions that are repeated: how often, of which failures, and with which answer."""

from __future__ import annotations

import pytest

from models.failures import BadInputError, StoreBusyError
from tasks.runtime.retry_policy import repeat


class Calls:
    """Fails so many times, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.count = list(failures), 0

    async def call(self, answer: str) -> str:
        """Count the call, and fail or answer."""
        self.count += 1
        if self.failures:
            raise self.failures.pop(0)
        return answer


async def test_what_may_pass_is_repeated_until_it_answers() -> None:
    calls = Calls(StoreBusyError("busy"), TimeoutError())
    assert await repeat(calls.call, [0, 0, 0], 60)("yes") == "yes"
    assert calls.count == 3


async def test_after_the_last_repetition_its_failure_is_raised() -> None:
    calls = Calls(StoreBusyError("first"), StoreBusyError("second"), StoreBusyError("third"))
    with pytest.raises(StoreBusyError, match="second"):
        await repeat(calls.call, [0], 60)("yes")
    assert calls.count == 2


@pytest.mark.parametrize("delays", [[], [0, 0]])
async def test_what_never_gets_better_is_not_repeated(delays: list[float]) -> None:
    calls = Calls(BadInputError("wrong", advice=""))
    with pytest.raises(BadInputError):
        await repeat(calls.call, delays, 60)("yes")
    assert calls.count == 1


async def test_without_delays_the_first_failure_is_raised() -> None:
    calls = Calls(StoreBusyError("busy"))
    with pytest.raises(StoreBusyError):
        await repeat(calls.call, [], 60)("yes")
    assert calls.count == 1
