"""Each command that a failed start, `roas why` or a ticket prints works in the situation in which it is printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.flows.conftest import IMAGE, Place, well
from tests.e2e.runtime.conftest import eventually
from tests.support.docker_command import docker_command
from tests.support.prefect_server import server_variables
from tests.support.warm import warm_commands

# Each printed command is a process of its own, and some start the application again.
pytestmark = [pytest.mark.engine, pytest.mark.flow]

BIN = Path(sys.executable).parent
# A sentence, a colon, and a command; or a command alone.
COMMAND = re.compile(r"(?:^|: )((?:date|df|docker|getent|id|ls|roas|ss) .+)$")
DOES_NOT_WORK = re.compile(
    r"(?i)no such (?:service|container|option|command)|requires (?:at least|exactly)|usage:|no configuration file"
)
SAYS = {
    "a wrong password": "FATAL:  password authentication failed for user app",
    "a certificate": "x509: certificate has expired or is not yet valid",
}


class Shell:
    """A user's shell in another folder than the application's; all that was said is kept."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder

    def __call__(self, command: str) -> tuple[int, str]:
        own = {"PATH": f"{BIN}:{os.environ['PATH']}", "COLUMNS": "300"}
        variables = server_variables() | warm_commands() | own
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, check=False, cwd=self._folder, env=variables
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def shell(place: Place, tmp_path: Path) -> Shell:
    del place
    return Shell(tmp_path / "elsewhere")


def commands(sentences: list[str]) -> list[str]:
    """The commands of advice, each once; answers to a ticket come last, since they resolve it."""
    # The last line of an operation names several commands beside each other.
    parts = [part for sentence in sentences for part in re.split(r" {2,}", sentence)]
    found = [match[1] for part in parts if (match := COMMAND.search(part))]
    return sorted(dict.fromkeys(found), key=lambda command: command.startswith("roas resolve"))


def advice(shell: Shell, environment: str, said: str) -> list[str]:
    """All that the start, `roas why` and the tickets say is to be done."""
    failed, why = shell(f"roas why {environment} --json")
    _, tickets = shell(f"roas tickets {environment} --json")
    sentences = [*said.splitlines(), *([] if failed else json.loads(why)["commands"])]
    sentences += [step for ticket in json.loads(tickets) for step in ticket["steps"]]
    return commands(sentences)


def assert_works(shell: Shell, command: str) -> str:
    code, said = shell(command)
    # 1 tells that something is wrong with the application; 2 and more, that the command cannot be used.
    assert code in ((0, 1) if command.startswith("roas") else (0,)), f"{command}: exit code {code}\n{said}"
    assert DOES_NOT_WORK.search(said) is None, f"{command}:\n{said}"
    return said


def shows_log(command: str) -> bool:
    return command.startswith("roas logs ") or command.endswith(" --evidence")


@pytest.mark.parametrize("cause", list(SAYS))
@pytest.mark.campaign
def test_advice_works_after_a_failed_start_of_bare_compose_files(place: Place, shell: Shell, cause: str) -> None:
    script = f'echo "{SAYS[cause]}" >&2; exit 3'
    place.declare(f"web:\n  image: {IMAGE}\n  command: [sh, -c, '{script}']\n")
    (place.folder / "test.yaml").unlink()
    code, said = shell(f"roas start -f {place.folder}/compose.yaml -p {place.project}")
    assert code == 1, said
    assert place.containers() == []

    printed = advice(shell, place.project, said)

    assert any(map(shows_log, printed)), printed
    assert f"roas start {place.project}" in printed
    for command in printed:
        answer = assert_works(shell, command)
        if shows_log(command):
            assert SAYS[cause] in answer
    assert not any("restore the last backup" in command or "docker compose" in command for command in printed)


@pytest.mark.campaign
def test_advice_works_while_the_service_still_runs(place: Place, shell: Shell) -> None:
    place.declare(well("web"))
    code, said = shell("roas start test")
    assert code == 0, said
    docker_command("exec", place.container("web"), "rm", "/tmp/well")
    health = ["docker", "inspect", "--format", "{{.State.Health.Status}}", place.container("web")]
    eventually(lambda: subprocess.check_output(health, text=True) == "unhealthy\n", "its health check has failed")
    _, said = shell("roas recover test 'FATAL: password authentication failed' --service web")

    printed = advice(shell, "test", said)

    assert any(command.startswith("roas logs test web") for command in printed), said
    for command in printed:
        assert_works(shell, command)


@pytest.mark.campaign
def test_the_service_that_filled_its_own_small_disk_is_not_advised_to_prune_images(place: Place, shell: Shell) -> None:
    script = "dd if=/dev/zero of=/small/file bs=64k 2>&1; exit 3"
    place.declare(f"web:\n  image: {IMAGE}\n  tmpfs: ['/small:size=1m']\n  command: [sh, -c, '{script}']\n")
    code, said = shell("roas start test")
    assert code == 1, said
    assert "disk_full" in said

    printed = advice(shell, "test", said)

    assert "df -h" in printed
    assert not any("prune" in command for command in printed)


def test_a_service_that_nothing_checks_is_not_called_proven(place: Place, shell: Shell) -> None:
    place.declare(f"web:\n  image: {IMAGE}\n  init: true\n  command: [sleep, '600']\n")

    code, said = shell("roas start test")

    assert code == 0, said
    assert "0 of 1 services proven, 1 without a health check or probe" in said
    assert "1 of 1 services proven" not in said
