"""Data stay whole and are kept, whatever happens in whichever order to an application whose data is saved."""

from __future__ import annotations

import pytest

from tests.simulation.data_actors import draw_data_actions
from tests.simulation.data_faults import DATA_FAULTS
from tests.simulation.test_simulation import simulate


def test_each_deliberate_fault_of_data_is_found_where_events_show_it() -> None:
    done = simulate("--data", "--faults", "in")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(DATA_FAULTS)


@pytest.mark.campaign(seconds=25)
def test_what_shows_deliberate_faults_of_data_breaks_nothing_without_them() -> None:
    done = simulate("--data", "--faults", "out")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.campaign(seconds=50)
@pytest.mark.parametrize("seeds", ["1-5", "6-10", "11-15", "16-20"])
def test_all_holds_for_data_in_more_seeds(seeds: str) -> None:
    done = simulate("--data", seeds, "2", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_happens_to_data_is_drawn_from_the_seed() -> None:
    assert draw_data_actions(7, 10) == draw_data_actions(7, 10)
    assert draw_data_actions(7, 10) != draw_data_actions(8, 10)
