"""Many updates by a deployment's runs: whether each verdict is true."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.measure import report
from tests.e2e.deployments.scheduled import campaign


def hundred(folder: Path, updates: int, seed: int) -> bool:
    """So many updates; a table of their verdicts, and how many were not true."""
    states, wrong = Counter[str](), 0
    with campaign(folder, seed) as running:
        for number in range(1, updates + 1):
            one = running.update_at_random(number)
            print(one, flush=True)
            states[one.state] += 1
            wrong += bool(one.problems)
        held = len(running.held_back)
    print(f"{updates} updates: {', '.join(f'{count} {state}' for state, count in states.items())}; {held} held back")
    return report("verdicts that were not true", wrong, most=0)
