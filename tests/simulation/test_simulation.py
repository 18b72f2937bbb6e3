"""What must always hold does, whatever happens in whichever order; each simulation runs in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.actions import Kind, draw_actions, is_long
from tests.simulation.sentences import Sentence

ROOT = Path(__file__).parents[2]
FIXED, HOURS = "3-4", "1"
"""An hour full of events, and a long run of a day: each fourth seed is one."""

MORE, MORE_HOURS = ("1-2", "5-8", "9-12", "13-16", "17-20", "21-24", "25-28"), "2"

SHARES = 6
"""Each run takes a share of the deliberate faults: they show that the simulation would notice what the others prove."""


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run simulations as `make simulate` does."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    # A server that other tests of this worker use is no part of the simulated world.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API_")}
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False, timeout=1500)


def test_all_holds_in_the_fixed_seeds_and_a_seed_repeats_each_event_at_its_moment() -> None:
    done = simulate(FIXED, HOURS, "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(r"seed 3: 1.0 h, [1-9]\d* operations, timeline \w+: all holds\n", done.stdout)
    again = simulate(FIXED[0], HOURS, "--quiet")
    assert again.stdout.splitlines()[0] == done.stdout.splitlines()[0]


@pytest.mark.campaign(seconds=15)
def test_all_holds_in_a_seed_of_the_commit() -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    done = simulate(str(1_000 + int(commit[:6], 16)), MORE_HOURS, "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_documentation_has_each_sentence() -> None:
    text = (ROOT / "docs/explanation/what-always-holds.md").read_text()
    assert [sentence for sentence in Sentence if f"- {sentence}\n" not in text] == []


def test_what_happens_is_drawn_from_the_seed() -> None:
    assert draw_actions(7, 10) == draw_actions(7, 10)
    assert draw_actions(7, 10) != draw_actions(9, 10)


def test_a_long_run_has_few_events_and_what_is_done_each_night() -> None:
    full, long = draw_actions(7, 2), draw_actions(8, 2)
    assert is_long(8)
    assert not is_long(7)
    assert long[-1].at == pytest.approx(24 * 2 * 3600)
    assert len(long) / 48 < len(full) / 2 / 5
    assert [action.kind for action in long].count(Kind.CLEAN) == 2
    # A check comes half an hour after an event, and no other event between.
    events = [action for action in long if action.kind not in (Kind.CLEAN, Kind.REPORT)]
    last = 0.0
    for action in events[:-1]:
        if action.kind is Kind.CALM:
            assert action.at - last > 1000
        last = action.at


@pytest.mark.parametrize(
    "share", [f"1/{SHARES}", *(pytest.param(f"{n}/{SHARES}", marks=pytest.mark.campaign) for n in range(2, SHARES + 1))]
)
def test_each_deliberate_fault_is_found_where_events_show_it(share: str) -> None:
    done = simulate("--faults", "in", "--share", share)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout, "a share has faults"


@pytest.mark.campaign(seconds=30)
def test_what_shows_deliberate_faults_breaks_nothing_without_them() -> None:
    done = simulate("--faults", "out")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.campaign(seconds=65)
@pytest.mark.parametrize("seeds", MORE)
def test_all_holds_in_more_seeds(seeds: str) -> None:
    done = simulate(seeds, MORE_HOURS, "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
