"""Verdicts of `roas doctor`: what is wrong comes with the command that fixes it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.deployment.doctor import diagnose
from models.containers import EngineInfo
from models.doctor import (
    DataFolder,
    EnvironmentFacts,
    FindingLevel,
    InstalledProgram,
    MachineFacts,
    OpenFile,
    ServerFacts,
)
from models.validation import Trouble

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
GIB = 1024**3
DATA = DataFolder(path=Path("/srv/data"), exists=True, writable=True, free_bytes=10 * GIB)
ENGINE = EngineInfo(
    address="unix:///var/run/docker.sock",
    version="27.1.1",
    api_version="1.46",
    operating_system="Debian",
    architecture="x86_64",
    cpus=2,
    memory_bytes=4 * GIB,
    storage_driver="overlay2",
)
GOOD = MachineFacts(
    checked_at=NOW,
    user=1000,
    programs=(
        InstalledProgram(name="Python", version="3.12.1", required=">=3.11,<3.14"),
        InstalledProgram(name="Prefect", version="3.9.1", required=">=3.9,<4"),
    ),
    engine_url=ENGINE.address,
    engine=ENGINE,
    refused=False,
    compose_version="2.29.0",
    clock_offset=timedelta(),
    host=None,
    data=DATA,
    server=ServerFacts(),
    environments=(EnvironmentFacts(name="shop", watched_at=NOW),),
)
AWAY = Trouble(what="Docker engine did not answer;", advice="is it running?")


def line_of(name: str, **changes: Any) -> tuple[FindingLevel, str]:
    """The verdict and fix of the one line with this name."""
    [line] = [one for one in diagnose(replace(GOOD, **changes)) if one.name == name]
    return line.verdict, line.fix


def test_a_machine_without_fault_is_ok_and_needs_no_command() -> None:
    lines = diagnose(GOOD)
    assert {line.verdict for line in lines} == {FindingLevel.OK}
    assert {"python", "prefect", "engine", "compose", "clock", "data", "data_disk", "server", "shop", "shop watch"} == {
        line.name for line in lines
    }


@pytest.mark.parametrize(
    ("name", "changes", "verdict", "fix"),
    [
        ("engine", {"engine": AWAY}, FindingLevel.WRONG, "sudo systemctl start docker"),
        ("engine", {"engine": AWAY, "refused": True}, FindingLevel.WRONG, "sudo usermod -aG docker $USER"),
        ("engine", {"engine": AWAY, "engine_url": "tcp://h:1"}, FindingLevel.WRONG, "docker --host tcp://h:1 version"),
        ("engine", {"engine": replace(ENGINE, version="19.3.1")}, FindingLevel.WRONG, "Upgrade it to 20.10"),
        ("compose", {"compose_version": Trouble(what="no docker")}, FindingLevel.WRONG, "sudo apt-get install"),
        ("compose", {"compose_version": "2.1.0"}, FindingLevel.WRONG, "sudo apt-get install"),
        ("clock", {"clock_offset": timedelta(minutes=1)}, FindingLevel.WARNING, "sudo timedatectl set-ntp true"),
        ("data", {"data": replace(DATA, writable=False)}, FindingLevel.WRONG, "sudo chown -R 1000 /srv/data"),
        ("data", {"data": replace(DATA, exists=False)}, FindingLevel.OK, ""),
        ("data_disk", {"data": replace(DATA, free_bytes=GIB)}, FindingLevel.WARNING, "roas db clean"),
        ("data_disk", {"data": replace(DATA, free_bytes=1)}, FindingLevel.WRONG, "roas db clean"),
        ("stores", {"stores_problem": Trouble(what="It is damaged.")}, FindingLevel.WRONG, "roas db check"),
        ("server", {"server": ServerFacts(url="http://s/api", problem="refused")}, FindingLevel.WRONG, "roas serve"),
        ("worker", {"server": ServerFacts(url="http://s/api", workers={"roas": 2})}, FindingLevel.OK, ""),
        ("worker", {"server": ServerFacts(url="http://s/api", workers={"roas": 0})}, FindingLevel.WRONG,
         "roas worker --pool roas"),
        ("worker", {"server": ServerFacts(url="http://s/api", wants_password=True)}, FindingLevel.WARNING,
         "export PREFECT_API_AUTH_STRING"),
        ("worker", {"server": ServerFacts(url="http://s/api", is_served_here=True)}, FindingLevel.OK, ""),
        ("prefect", {"programs": (InstalledProgram(name="Prefect", version=None, required=">=3.9", fits=False),)},
         FindingLevel.WRONG, "uv pip install 'prefect>=3.9'"),
        ("python", {"programs": (InstalledProgram(name="Python", version="3.10.0", required=">=3.11", fits=False),)},
         FindingLevel.WRONG, "make setup"),
        ("sqlite",
         {"programs": (InstalledProgram(name="SQLite", version="3.46.1", known_fault="faulty", avoided_by="read"),)},
         FindingLevel.WARNING, "read"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_the_command_that_fixes_it(name, changes, verdict, fix) -> None:
    found, command = line_of(name, **changes)
    assert found is verdict
    assert command.startswith(fix)


@pytest.mark.parametrize(
    ("mode", "owner", "verdict", "fix"),
    [
        (0o644, 1000, FindingLevel.WRONG, "chmod 600 '/srv/my data/errors.db'"),
        (0o640, 1000, FindingLevel.WARNING, "chmod 600 '/srv/my data/errors.db'"),
        (0o600, 33, FindingLevel.WRONG, "sudo chown 1000 '/srv/my data/errors.db'"),
    ],
)
def test_a_file_that_others_may_read_is_named(mode, owner, verdict, fix) -> None:
    exposed = OpenFile(path=Path("/srv/my data/errors.db"), mode=mode, owner=owner)
    assert line_of("data", data=replace(DATA, exposed=(exposed,))) == (verdict, fix)


def test_a_folder_stays_one_that_its_owner_may_enter() -> None:
    exposed = OpenFile(path=Path("/srv/data"), mode=0o755, owner=1000, is_folder=True)
    assert line_of("data", data=replace(DATA, exposed=(exposed,))) == (FindingLevel.WRONG, "chmod 700 /srv/data")


@pytest.mark.parametrize(
    ("watched_at", "verdict"),
    [(NOW, FindingLevel.OK), (NOW - timedelta(minutes=10), FindingLevel.WARNING), (None, FindingLevel.WARNING)],
)
def test_a_watch_that_is_silent_is_a_warning(watched_at, verdict) -> None:
    shop = EnvironmentFacts(name="shop", watched_at=watched_at)
    assert line_of("shop watch", environments=(shop,))[0] is verdict


def test_a_missing_secret_is_wrong() -> None:
    shop = EnvironmentFacts(name="shop", missing_secrets={"TOKEN": "variable TOKEN is not set or empty"})
    assert line_of("shop", environments=(shop,)) == (FindingLevel.WRONG, "export TOKEN=VALUE   # or write its file")


def test_snapshots_that_are_too_old_are_a_warning_with_the_command_that_takes_one() -> None:
    problem = "there is no whole snapshot of its data; `roas snapshot create shop` takes one"
    shop = EnvironmentFacts(name="shop", watched_at=NOW, snapshot_problems=(problem,))
    assert line_of("shop snapshots", environments=(shop,)) == (FindingLevel.WARNING, "roas snapshot create shop")


def test_an_environment_that_does_not_load_has_no_other_line() -> None:
    shop = EnvironmentFacts(name="shop", problem=Trouble(what="shop.yaml:3: no such field."))
    lines = [one for one in diagnose(replace(GOOD, environments=(shop,))) if one.name.startswith("shop")]
    assert [(one.verdict, one.fix) for one in lines] == [(FindingLevel.WRONG, "roas validate shop")]


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [(0.2, FindingLevel.OK), (-5, FindingLevel.OK), (5.1, FindingLevel.WRONG), (-600, FindingLevel.WRONG)],
)
def test_a_clock_that_differs_from_that_of_the_stores_is_wrong(seconds: float, verdict: FindingLevel) -> None:
    found, fix = line_of("stores_clock", stores_clock_skew=timedelta(seconds=seconds))
    assert found is verdict
    assert ("timedatectl" in fix) is (verdict is FindingLevel.WRONG)


def test_the_clock_of_stores_in_files_is_not_judged() -> None:
    assert "stores_clock" not in {one.name for one in diagnose(GOOD)}


def test_why_a_service_is_not_replaced_start_first_is_a_warning() -> None:
    shop = EnvironmentFacts(
        name="shop",
        watched_at=NOW,
        stop_first={"web": "port 80 of the host is fixed"},
        overlap_notes={"api": "requests may fail, because front does not try again"},
    )

    found = [one for one in diagnose(replace(GOOD, environments=(shop,))) if one.name == "shop update"]

    assert [(one.verdict, one.finding, one.fix) for one in found] == [
        (
            FindingLevel.WARNING,
            "web is not replaced start-first: port 80 of the host is fixed.",
            "roas plan --update shop",
        ),
        (
            FindingLevel.WARNING,
            "api is replaced start-first, but requests may fail, because front does not try again.",
            "roas plan --update shop",
        ),
    ]
