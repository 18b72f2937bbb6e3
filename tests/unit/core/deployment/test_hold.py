"""How long a service that serves has to stay so."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.deployment.hold import SHORTENED, NeededHold, ServiceHistory, needed_hold
from models.containers import ContainerState
from models.environments import Environment
from models.records import Release

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
FULL = timedelta(seconds=10)
SHOP = {"name": "shop", "project": "shop", "compose_files": ["compose.yaml"]}
WEB = ContainerState(
    container_id="1", name="shop-web-1", service="web", project="shop", number=1, image="web", image_id="sha256:1",
    state="running", seen_at=NOON, config_hash="a",
)  # fmt: skip
PROVEN = Release(
    release_id="r1", environment="shop", deployment_id="d1", created_at=NOON, hashes={"web": "a"},
    images={"web": "sha256:1"}, proven=True,
)  # fmt: skip
AFTER, BEFORE = NOON + timedelta(days=1), NOON - timedelta(days=1)


def hold(history: ServiceHistory | None, *containers: ContainerState, **said: object) -> NeededHold:
    environment = Environment.model_validate(SHOP | said)
    return needed_hold(environment, "web", containers or (WEB,), history)


def test_what_was_proven_before_and_never_failed_holds_for_less() -> None:
    found = hold(ServiceHistory(releases=[PROVEN]))
    assert found == NeededHold(needed=SHORTENED, why="it was proven before, and has not failed since")
    stands_for = replace(WEB, config_hash="b", release_hash="a")
    assert hold(ServiceHistory(releases=[PROVEN], failed_at=BEFORE), WEB, stands_for).needed == SHORTENED


@pytest.mark.parametrize(
    "container", [replace(WEB, config_hash="b"), replace(WEB, image_id="sha256:2"), replace(WEB, release_hash="b")]
)
def test_another_version_or_configuration_holds_in_full(container: ContainerState) -> None:
    history = ServiceHistory(releases=[PROVEN])
    expected = NeededHold(needed=FULL, why="this version of it was not proven before")
    assert hold(history, container) == hold(history, WEB, container) == expected
    assert hold(ServiceHistory(), WEB) == expected


@pytest.mark.parametrize("failed_at", [NOON, AFTER])
def test_what_failed_since_it_was_proven_holds_in_full(failed_at: datetime) -> None:
    proven_again = replace(PROVEN, created_at=AFTER + timedelta(days=1))
    found = hold(ServiceHistory(releases=[proven_again, PROVEN], failed_at=failed_at))
    assert found == NeededHold(needed=FULL, why=f"it failed at {failed_at:%Y-%m-%d %H:%M} UTC")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"state": "exited", "exit_code": 3}, "shop-web-1 ended with exit code 3"),
        (
            {"state": "exited", "exit_code": 137, "oom_killed": True},
            "shop-web-1 ended with exit code 137, killed for using too much memory",
        ),
        ({"restart_count": 4, "state": "exited"}, "shop-web-1 was restarted 4 times"),
    ],
)
def test_what_shows_that_it_failed_unseen_holds_in_full(change: dict[str, Any], why: str) -> None:
    assert hold(ServiceHistory(releases=[PROVEN]), replace(WEB, **change)) == NeededHold(needed=FULL, why=why)


@pytest.mark.parametrize("code", [0, 130, 137, 143])
def test_the_end_of_a_stop_is_no_failure(code: int) -> None:
    stopped = replace(WEB, state="exited", exit_code=code)
    assert hold(ServiceHistory(releases=[PROVEN]), stopped).needed == SHORTENED


def test_what_the_environment_says_counts() -> None:
    history = ServiceHistory(releases=[PROVEN])
    said = NeededHold(needed=timedelta(seconds=7), why="as the environment says")
    assert hold(history, stabilisation_seconds=7) == said
    assert hold(history, stabilisation_seconds=30, services={"web": {"stabilisation_seconds": 7}}) == said
    assert hold(history, services={"web": {"stabilisation_seconds": 0}}).needed == timedelta()


def test_without_a_history_that_counts_it_holds_in_full() -> None:
    assert hold(None) == NeededHold(needed=FULL, why="its container, its files or its data are new")
