"""Description of a stop: killed after its grace period, exited by itself, left alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.deployment.stop import how_it_stopped, left_alone, returning_with_engine
from models.compose import Application, ServiceDeclaration
from models.containers import ContainerState

GRACE = timedelta(seconds=10)
ONE = ContainerState(
    container_id="c", name="shop-db-1", service="db", project="shop", number=1, image="i", image_id="sha256:1",
    state="exited", seen_at=datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip
APPLICATION = Application(project="shop", services={"db": ServiceDeclaration(name="db", image="i", restart="always")})


@pytest.mark.parametrize(
    ("exit_code", "oom_killed", "seconds", "words"),
    [
        (0, False, 1, "ended with exit code 0"),
        (143, False, 1, "exit code 143, terminated by SIGTERM, as a stop asks for"),
        (137, False, 10.2, "grace period of 10 s and was killed (exit code 137)"),
        (137, False, 1, "it ended with exit code 137"),
        (137, True, 10.2, "killed for using too much memory"),
    ],
)
def test_only_what_outlived_its_grace_is_called_killed(
    exit_code: int, oom_killed: bool, seconds: float, words: str
) -> None:
    ended = replace(ONE, exit_code=exit_code, oom_killed=oom_killed)
    assert words in how_it_stopped([ended], GRACE, timedelta(seconds=seconds))


def test_one_killed_replica_is_named_beside_one_that_exited_with_code_0() -> None:
    reported = how_it_stopped([ONE, replace(ONE, name="shop-db-2", exit_code=137)], GRACE, timedelta(seconds=11))
    assert "shop-db-2" in reported
    assert "shop-db-1" not in reported


def test_one_off_and_undeclared_containers_are_left_alone_with_a_reason() -> None:
    run, old = replace(ONE, name="shop-db-run-1", one_off=True), replace(ONE, name="shop-old-1", service="old")
    reported = left_alone(APPLICATION, [ONE, run, old])
    assert set(reported) == {"shop-db-run-1", "shop-old-1"}
    assert "docker compose run" in reported["shop-db-run-1"]
    assert "old is not declared" in reported["shop-old-1"]


def test_what_the_engine_brings_back_is_known() -> None:
    assert returning_with_engine(APPLICATION) == ("db",)
    resting = replace(APPLICATION.services["db"], restart="unless-stopped")
    assert returning_with_engine(replace(APPLICATION, services={"db": resting})) == ()
