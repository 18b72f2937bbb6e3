"""An operation in the warm process, on a real engine: it ends as in a process of its own, whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from models.operations import OperationStatus
from tests.e2e.flows.conftest import Place, place, well
from tests.e2e.runtime.conftest import WarmUser, eventually
from tests.support.prefect_server import server_variables

pytestmark = [pytest.mark.engine]

__all__ = ["place"]

ROAS = [sys.executable, "-P", "-c", "from cli.entry import main; main()"]


@pytest.fixture
def warm_user(user: WarmUser, place: Place, prefect_server: None) -> WarmUser:
    """A user with a warm process of their own, whose runs the server of the tests records."""
    return made_warm(user, place)


def made_warm(user: WarmUser, place: Place) -> WarmUser:
    """Let a user work in this place, and have a warm process."""
    served = {name: value for name, value in server_variables().items() if name.startswith("PREFECT_API")}
    user.variables = served | {
        "ROAS_DATA_DIR": str(place.settings.data_dir),
        "ROAS_ENVIRONMENTS_DIR": str(place.folder),
    }
    if user.warm_process() is None:
        place.declare(well("base"))
        user.run("health", "test", command=ROAS, cwd=place.folder)
        user.wait()
    return user


def _start(user: WarmUser, place: Place) -> subprocess.Popen[str]:
    """Start an application one of whose services never becomes healthy; returns when that runs."""
    waits = "{base: {condition: service_healthy}}"
    place.declare(well("base") + well("never", depends_on=waits).replace("/tmp/well]", "/tmp/never]"))
    running = subprocess.Popen(
        ["env", "--default-signal=INT", *ROAS, "start", "test"],
        env=user.environment(), cwd=place.folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    eventually(lambda: place.containers(running=True) == ["base", "never"], "both services run")
    return running


def _ended(place: Place) -> OperationStatus | None:
    (last, *_) = place.stores().operations.history(environment="test", limit=1)
    return None if last.status is OperationStatus.RUNNING else last.status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.campaign
def test_start_whose_caller_is_signalled_is_rolled_back(warm_user: WarmUser, place: Place, number: int) -> None:
    running = _start(warm_user, place)
    running.send_signal(number)
    out, err = running.communicate(timeout=300)
    assert running.returncode in (-number, 130), out + err
    assert eventually(lambda: _ended(place), "the operation is recorded as ended") is OperationStatus.FAILED
    (last, *_) = place.stores().operations.history(environment="test", limit=1)
    assert "before it had ended" in last.details["reason"]
    assert place.containers() == []


@pytest.mark.campaign
def test_start_is_rolled_back_when_the_warm_process_is_killed(warm_user: WarmUser, place: Place) -> None:
    running = _start(warm_user, place)
    os.kill(warm_user.wait(), signal.SIGKILL)
    _, err = running.communicate(timeout=300)
    assert running.returncode == 1
    assert "The warm process ended" in err
    assert _ended(place) is OperationStatus.FAILED
    assert place.containers() == []


@pytest.mark.campaign(seconds=12)
def test_warm_start_shows_what_a_cold_one_shows(warm_user: WarmUser, place: Place) -> None:
    shown = []
    for more in ({}, {"ROAS_WARM": "0"}):
        done = warm_user.run("start", "test", command=ROAS, cwd=place.folder, variables=more)
        assert done.returncode == 0, done.stdout + done.stderr
        shown.append([line.split()[:1] for line in done.stdout.splitlines()])
        assert done.stderr.splitlines()[0].endswith("loading Prefect")
        warm_user.run("stop", "test", command=ROAS, cwd=place.folder, variables=more).check_returncode()
    assert shown[0] == shown[1]
