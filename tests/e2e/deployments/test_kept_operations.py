"""A folder of an earlier version: its interrupted operations are resumed, or go back to its releases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.stores import Stores
from models.operations import Operation, OperationStatus
from models.settings import Settings
from tests.e2e.flows.conftest import flows_are_recorded  # noqa: F401 - fixture
from tests.support.kept_folder import KeptFolder, unpack
from tests.support.prefect_server import server_variables
from tests.support.warm import warm_commands

pytestmark = [pytest.mark.engine, pytest.mark.flow]

ROAS = Path(sys.executable).with_name("roas")
SERVICES = ("base", "web")
RESUMED = {"start": "1", "update": "2", "rollback": "1", "restart": "1", "restoring": "2"}
"""The version that runs once the interrupted operation of an environment has been finished."""

IN_EACH_RUN = {"update", "restoring"}
"""What changes images, and what changes data; tests/golden/test_kept.py reads the records of all."""

GOING_BACK = {"undone", "restoring"}
"""Environments of the second archive."""


class Kept:
    """An environment of the folder, on the engine again."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.kept = name, KeptFolder(folder)
        self.settings = Settings(data_dir=folder / "data")

    def roas(self, *words: str) -> subprocess.CompletedProcess[str]:
        folders = {"ROAS_DATA_DIR": f"{self.kept.folder}/data", "ROAS_ENVIRONMENTS_DIR": str(self.kept.folder)}
        variables = server_variables() | warm_commands() | folders
        return subprocess.run([ROAS, *words], capture_output=True, text=True, check=False, env=variables)

    def last(self) -> Operation:
        with Stores.open(self.settings) as stores:
            return stores.operations.history(environment=self.name)[0]

    def versions(self) -> dict[str, str]:
        return {service: self.inspect(service) for service in SERVICES}

    def inspect(self, service: str) -> str:
        words = ["docker", "inspect", "-f", "{{.Config.Labels.version}} {{.State.Health.Status}}"]
        done = subprocess.run([*words, self.container(service)], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def container(self, service: str) -> str:
        return f"{self.kept.project(self.name)}-{service}-1"


@pytest.fixture
def kept(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Kept]:
    """The environment that the test names."""
    unpack(tmp_path, "going_back" if request.param in GOING_BACK else "kept")
    made = Kept(tmp_path, request.param)
    try:
        made.kept.bring_back(made.name)
        yield made
    finally:
        made.kept.remove(made.name)


@pytest.mark.parametrize(
    "kept",
    [name if name in IN_EACH_RUN else pytest.param(name, marks=pytest.mark.campaign) for name in RESUMED],
    indirect=True,
)
def test_an_interrupted_operation_of_an_earlier_version_is_resumed(kept: Kept) -> None:
    operation = kept.last()

    done = kept.roas("resume", operation.deployment_id)

    assert done.returncode == 0, done.stdout + done.stderr
    assert kept.last().deployment_id == operation.deployment_id
    assert kept.last().status is OperationStatus.SUCCESS
    assert kept.versions() == dict.fromkeys(SERVICES, f"{RESUMED[kept.name]} healthy")


@pytest.mark.parametrize("kept", ["undoing", pytest.param("undone", marks=pytest.mark.campaign)], indirect=True)
def test_an_update_that_an_earlier_version_began_and_that_fails_goes_back(kept: Kept) -> None:
    """One was interrupted before its new version failed, the other as it began to go back."""
    operation = kept.last()

    done = kept.roas("resume", operation.deployment_id)

    assert done.returncode == 1, done.stdout + done.stderr
    assert kept.last().status is OperationStatus.FAILED
    assert kept.last().details["rolled_back_to"]
    assert kept.versions() == dict.fromkeys(SERVICES, "1 healthy")
