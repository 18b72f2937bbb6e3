"""Find the fewest events with which a sentence still does not hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.simulation.actions import Action
from tests.simulation.run import Report


def shrink(
    actions: Sequence[Action], run: Callable[[Sequence[Action]], Report], first: Report
) -> tuple[list[Action], Report]:
    """Leave events out, ever smaller parts of them, while the same sentence does not hold: the shortest such run."""
    # What was to come later had no part in it.
    end = first.hours * 3600 + 1
    shortest, report = [action for action in actions if action.at <= end], first
    size = max(1, len(shortest) // 2)
    while True:
        begin, was_shorter = 0, False
        while begin < len(shortest):
            fewer = shortest[:begin] + shortest[begin + size :]
            again = run(fewer) if fewer else None
            if again is not None and again.sentence == first.sentence:
                shortest, report, was_shorter = fewer, again, True
            else:
                begin += size
        if size == 1 and not was_shorter:
            return shortest, report
        size = max(1, size // 2)
