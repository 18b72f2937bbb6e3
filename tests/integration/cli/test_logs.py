"""`roas logs` on a real engine: search, removed containers, and following until Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.docker.engine import DockerEngine
from adapters.stores import Stores
from models.evidence import ContainerEvidence, EvidenceBundle, EvidenceOccasion, LogExcerpt
from models.settings import Settings
from tests.integration.adapters.conftest import ComposeProject, projects
from tests.support.commands import quiet_environment, run_roas_text

pytestmark = pytest.mark.engine
SERVICES = """\
services:
  web:
    image: IMAGE
    command: [sh, -c, "trap 'exit 0' TERM; echo web is Ready; echo key $$TOKEN; sleep 1000 & wait"]
    environment: {TOKEN: correct-horse-battery}
  db:
    image: IMAGE
    command: [sh, -c, "trap 'exit 0' TERM; echo db is ready; sleep 1000 & wait"]
"""
NOW = datetime.now(UTC).replace(microsecond=0)


def stamped(seconds_ago: int, text: str) -> str:
    return f"{NOW - timedelta(seconds=seconds_ago):%Y-%m-%dT%H:%M:%S}.000000000Z {text}"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[ComposeProject]:
    engine = DockerEngine("unix:///var/run/docker.sock")
    with projects(tmp_path, engine) as make:
        project = make(SERVICES)
        (tmp_path / "shop.yaml").write_text(f"name: shop\nproject: {project.name}\ncompose_files: [compose.yaml]\n")
        project.started()
        for state in engine.containers.inspect_project(project.name):
            while "ready" not in engine.containers.logs(state.container_id).lower():
                pass
        yield project
    engine.close()


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return {"ROAS_DATA_DIR": str(tmp_path / "data"), "ROAS_ENVIRONMENTS_DIR": str(tmp_path), "ROAS_WARM": "0"}


def run_logs(project: ComposeProject, variables: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return run_roas_text("logs", "shop", *words, cwd=project.folder, env=os.environ | variables)


def lines_of(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The words of each line, behind the container's name and the moment."""
    return {line.partition(" | ")[2][20:] for line in done.stdout.splitlines() if " | " in line}


def keep_evidence(project: ComposeProject, tmp_path: Path) -> None:
    """Evidence of a container of web that is removed, and of the one that runs."""
    removed, running = "0" * 64, project.one("web")
    with Stores.open(Settings(data_dir=tmp_path / "data")) as stores:
        for number, container_id in enumerate((removed, running.container_id)):
            stores.evidence.keep(
                EvidenceBundle(
                    bundle_id=f"b-{number}", environment="shop", service="web", taken_at=NOW,
                    occasion=EvidenceOccasion.FAILURE, reason="it failed", first_cause="it failed", cause_service="web",
                    containers=(
                        ContainerEvidence(
                            service="web", name=running.name, container_id=container_id, image="i", state="exited"
                        ),
                    ),
                    logs=(
                        LogExcerpt(
                            service="web",
                            container=running.name,
                            lines=(stamped(7000, f"old Timeout {number}"), stamped(60, f"Timeout {number}")),
                        ),
                    ),
                )
            )  # fmt: skip


def test_services_patterns_and_moments_choose_lines(project: ComposeProject, variables: dict[str, str]) -> None:
    assert lines_of(run_logs(project, variables)) == {"web is Ready", "db is ready", "key [redacted]"}
    assert lines_of(run_logs(project, variables, "db")) == {"db is ready"}
    assert lines_of(run_logs(project, variables, "-s", "db", "-s", "web", "--grep", "is ready")) == {"db is ready"}
    assert lines_of(run_logs(project, variables, "--grep", "IS READY$", "-i")) == {"web is Ready", "db is ready"}
    nothing = run_logs(project, variables, "--since", "2999-01-01")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "no line matches" in nothing.stderr
    # What is redacted cannot be searched for.
    assert lines_of(run_logs(project, variables, "--grep", "correct-horse")) == set()
    assert run_logs(project, variables, "nothing").returncode == 1


def test_a_search_finds_what_is_kept_of_removed_containers(
    project: ComposeProject, variables: dict[str, str], tmp_path: Path
) -> None:
    keep_evidence(project, tmp_path)
    assert lines_of(run_logs(project, variables, "web")) == {"web is Ready", "key [redacted]"}
    assert lines_of(run_logs(project, variables, "--grep", "Timeout")) == {"old Timeout 0", "Timeout 0"}
    done = run_logs(project, variables, "--since", "1h", "--json")
    [log] = [log for log in json.loads(done.stdout) if log["kept_at"] is not None]
    assert log["lines"] == [stamped(60, "Timeout 0")]


def test_following_prints_json_lines_through_a_restart_until_ctrl_c(
    project: ComposeProject, variables: dict[str, str]
) -> None:
    command = [sys.executable, "-P", "-c", "from cli.entry import main; main()"]
    with subprocess.Popen(
        [*command, "logs", "shop", "web", "-f", "--grep", "Ready", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=project.folder,
        env=quiet_environment() | variables,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            first = json.loads(process.stdout.readline())
            project.engine.containers.restart(project.one("web").container_id, timedelta(seconds=1))
            second = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate()
        finally:
            process.kill()
    assert [first["line"], second["line"]] == ["web is Ready"] * 2
    assert first["service"] == "web"
    assert first["at"] < second["at"]
    assert (process.returncode, output) == (130, "")
    assert "Traceback" not in errors
