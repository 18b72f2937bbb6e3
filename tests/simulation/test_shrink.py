"""A run in which a sentence does not hold is shown with the fewest events."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.simulation.actions import Action, Kind, draw_actions
from tests.simulation.run import Report
from tests.simulation.shrink import shrink
from tests.simulation.test_simulation import simulate

FAULTY = ("315", "0.5")
"""A seed with an update that fails, among other events."""


def report_of(actions: Sequence[Action], *needed: Action, sentence: str = "ONE_END") -> Report:
    """How a run went that shows a defect where it has these events in their order."""
    happened = [action for action in actions if action in needed]
    is_shown = happened == list(needed)
    end = max((action.at for action in (needed if is_shown else actions)), default=0.0)
    shown = sentence if is_shown else ""
    return Report(seed=1, hours=end / 3600, processor_seconds=0.0, operations=0, sentence=shown)


def test_the_events_that_show_a_defect_are_left_in_their_order() -> None:
    actions = draw_actions(5, 20)
    needed = (actions[7], actions[31], actions[90])
    runs = 0

    def run(fewer: Sequence[Action]) -> Report:
        nonlocal runs
        runs += 1
        return report_of(fewer, *needed)

    shortest, report = shrink(actions, run, run(actions))

    assert shortest == list(needed)
    assert report.sentence == "ONE_END"
    assert runs < len(actions)


def test_a_run_that_breaks_another_sentence_is_no_shorter_one() -> None:
    actions = draw_actions(5, 2)

    def run(fewer: Sequence[Action]) -> Report:
        return report_of(fewer, actions[3], sentence="ONE_END" if actions[1] in fewer else "PROVEN")

    shortest, _ = shrink(actions, run, run(actions))

    assert shortest == [actions[1], actions[3]]


@pytest.mark.campaign(seconds=25)
def test_of_a_run_that_shows_a_deliberate_fault_a_few_events_are_left() -> None:
    done = simulate(*FAULTY, "--fault", "an update that fails is not undone")

    assert done.returncode == 0, done.stdout + done.stderr
    events = done.stdout.partition("with the fewest events:\n")[2].partition("\n03-02")[0].splitlines()
    assert [kind for kind in Kind if any(f" {kind}" in event for event in events)] == [Kind.START, Kind.UPDATE]
    assert len(events) == 2, done.stdout
