"""What must always hold does, whatever happens in whichever order; each simulation runs in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.actions import draw_actions
from tests.simulation.sentences import Sentence

ROOT = Path(__file__).parents[2]
FIXED, MORE, HOURS = "1-2", ("3-6", "7-10", "11-14", "15-18"), "2"


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run simulations as `make simulate` does."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1500)


def test_all_holds_in_the_fixed_seeds() -> None:
    done = simulate(FIXED, "1.5", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.campaign(seconds=15)
def test_all_holds_in_a_seed_of_the_commit() -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    done = simulate(str(1_000 + int(commit[:6], 16)), HOURS, "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_seed_repeats_each_event_at_its_moment() -> None:
    first, again = simulate("4", "0.4"), simulate("4", "0.4")
    assert "a person starts" in first.stdout
    timelines = [done.stdout.split("simulated in")[0] for done in (first, again)]
    assert timelines[0] == timelines[1]


def test_the_documentation_has_each_sentence() -> None:
    text = (ROOT / "docs/explanation/what-always-holds.md").read_text()
    assert [sentence for sentence in Sentence if f"- {sentence}\n" not in text] == []


def test_what_happens_is_drawn_from_the_seed() -> None:
    assert draw_actions(7, 10) == draw_actions(7, 10)
    assert draw_actions(7, 10) != draw_actions(8, 10)


def test_each_deliberate_fault_is_found_where_events_show_it() -> None:
    done = simulate("--faults", "in")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.campaign(seconds=30)
def test_what_shows_deliberate_faults_breaks_nothing_without_them() -> None:
    done = simulate("--faults", "out")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.campaign(seconds=40)
@pytest.mark.parametrize("seeds", MORE)
def test_all_holds_in_more_seeds(seeds: str) -> None:
    done = simulate(seeds, HOURS, "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
