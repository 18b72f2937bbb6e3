"""Records of two worlds are made comparable: what differs in any two runs goes, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.containers import Outcome, Version
from tests.simulation.real_records import NOT_CLAIMED, Normalizer, Records, names_of_images
from tests.simulation.real_scenarios import COMMANDS, SCENARIOS, Doing, scenario_of

ROOT = Path(__file__).parents[2]


def normalize(details: dict[str, object], **names: str) -> dict[str, object]:
    records: Records = {"operations": [{"details": details}]}
    row = Normalizer(names).apply(records)["operations"][0]
    made: dict[str, object] = row["details"]
    return made


def test_times_durations_and_ids_become_alike() -> None:
    first = normalize(
        {"reason": "err-20260302-080014-cdf26e after 2.4 s, at 2026-03-02 08:00:14 UTC", "waits": {"db": 1.5}}
    )
    second = normalize(
        {"reason": "err-20261201-010943-b209a3 after 3.1 s, at 2026-12-01 01:09:43 UTC", "waits": {"db": 0.2}}
    )
    assert first == second == {"reason": "<1> after <n> s, at <time>", "waits": {"db": "<n>"}}


def test_an_id_keeps_its_number_wherever_it_comes() -> None:
    details = {"first": "e-20260302-080014-aa", "second": "e-20260302-080014-bb", "third": "e-20260302-080014-aa"}
    assert normalize(dict(details)) == {"first": "<1>", "second": "<2>", "third": "<1>"}


def test_what_is_not_the_same_event_stays_different() -> None:
    assert normalize({"exit_code": 1}) != normalize({"exit_code": 137})
    assert normalize({"reason": "web failed"}) != normalize({"reason": "db failed"})
    assert normalize({"undone": "all"}) != normalize({})


def test_a_health_check_that_meets_the_end_of_its_container_is_left_out_and_no_other() -> None:
    results = [
        "exit code 137",
        "exit code -1: cannot exec in a stopped state: unknown",
        "exit code -1: OCI runtime exec failed: exec failed: unable to start container process: unknown",
        "exit code -1",
        "exit code 1",
    ]
    records: Records = {"errors": [{"evidence": {"probe_outputs": results}}]}
    row = Normalizer({}).apply(records)["errors"][0]
    assert row["evidence"]["probe_outputs"] == ["exit code -1", "exit code 1"]


def test_images_have_the_names_of_their_versions_also_shortened() -> None:
    version = Version(service="web", number=2, outcome=Outcome.CRASHES)
    digest = "sha256:" + "ab" * 32
    names = names_of_images([digest], version)
    assert normalize({"image": digest, "short": "abababababab"}, **names) == {"image": "<web 2>", "short": "<web 2>"}


def test_what_the_simulator_does_not_claim_is_left_out_by_name_with_a_reason() -> None:
    assert normalize({"runner": {"pid": 1}, "error": "kept"}) == {"error": "kept"}
    text = (ROOT / "docs/explanation/what-always-holds.md").read_text()
    assert [row for row in NOT_CLAIMED if f"| `{row.path}` | {row.reason} |" not in text] == []


def test_each_scenario_has_some_steps_and_all_steps_occur() -> None:
    scenarios = [scenario_of(number) for number in range(SCENARIOS)]
    assert all(3 <= len(scenario.steps) <= 6 for scenario in scenarios)
    assert {step.doing for scenario in scenarios for step in scenario.steps} == set(Doing)
    assert set(COMMANDS) < set(Doing)
    assert scenario_of(7) == scenario_of(7)


@pytest.mark.campaign(seconds=60)
def test_what_is_on_record_does_not_depend_on_how_long_things_take() -> None:
    first, other = (simulate(*map(str, range(SCENARIOS)), "--chance", chance) for chance in ("0", "7"))
    differing = [number for number in range(SCENARIOS) if first[number] != other[number]]
    assert (len(first), differing) == (SCENARIOS, [])


def simulate(*arguments: str) -> list[str]:
    """The records of scenarios in the simulated world, each a line."""
    command = [sys.executable, "-m", "tests.simulation.real_simulated", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.splitlines()
