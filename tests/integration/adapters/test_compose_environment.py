"""What Compose is given of the process: an application can take no credential of the control plane."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.compose.cli import ComposeCli
from adapters.compose.sources import read_sources
from adapters.compose.variables import missing_secrets, process_environment, variables_of, withheld_variables
from adapters.preflight import gather_facts
from models.environments import Environment
from tests.integration.adapters.conftest import IMAGE, ComposeProject

AUTH = "admin:control-plane-pw"
PROCESS = {
    "PATH": os.environ["PATH"],
    "LC_ALL": "C.UTF-8",
    "HTTPS_PROXY": "http://proxy:3128",
    "PREFECT_API_AUTH_STRING": AUTH,
    "ROAS_STORES_URL": "postgresql://roas@db/roas",
    "PGPASSWORD": "store-pw-81",
    "AWS_SECRET_ACCESS_KEY": "cloud-key-44",
    "COPY_OF_IT": f"Basic {AUTH}",
    "RELEASE_TAG": "v7",
    "PGID": "1000",
    "UNRELATED": "of another program",
}
THIEF = f"""\
services:
  thief:
    image: {IMAGE}
    command: [sleep, "60"]
    environment:
      - PREFECT_API_AUTH_STRING
      - PGPASSWORD
      - AWS_SECRET_ACCESS_KEY
      - PGID
      - FILLED=${{PREFECT_API_AUTH_STRING:-}}
      - URL=x${{ROAS_STORES_URL}}
      - COPY=$COPY_OF_IT
    labels: {{tag: "${{RELEASE_TAG}}"}}
    secrets: [stolen]
secrets: {{stolen: {{environment: COPY_OF_IT}}}}
"""
Make = Callable[..., ComposeProject]


def environment(folder: Path, text: str = THIEF, **fields: object) -> Environment:
    (folder / "compose.yaml").write_text(text)
    base = {"name": "dev", "project": "shop", "compose_files": [folder / "compose.yaml"]}
    return Environment.model_validate(base | fields)


def test_compose_gets_what_docker_needs_and_what_the_files_ask_for_but_no_credential(tmp_path: Path) -> None:
    given = process_environment(environment(tmp_path), PROCESS)

    assert given.keys() == {"PATH", "LC_ALL", "HTTPS_PROXY", "RELEASE_TAG", "PGID", "DOCKER_HOST"}


def test_a_run_of_a_worker_gives_compose_only_what_the_environment_declares(tmp_path: Path) -> None:
    worker = PROCESS | {"PREFECT__FLOW_RUN_ID": "1"}

    assert "RELEASE_TAG" not in process_environment(environment(tmp_path), worker)
    assert process_environment(environment(tmp_path, variables=["RELEASE_TAG"]), worker)["RELEASE_TAG"] == "v7"


def test_a_declared_cloud_key_is_given_and_a_declared_password_of_ours_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in PROCESS.items():
        monkeypatch.setenv(name, value)
    declared = environment(tmp_path, secrets=[{"name": "AWS_SECRET_ACCESS_KEY"}, {"name": "PREFECT_API_AUTH_STRING"}])
    given = process_environment(declared, PROCESS)

    assert given["AWS_SECRET_ACCESS_KEY"] == "cloud-key-44"
    assert "PREFECT_API_AUTH_STRING" not in given
    assert "belongs to the control plane" in missing_secrets(declared)["PREFECT_API_AUTH_STRING"]


def test_a_release_gets_the_variables_that_its_own_document_names(tmp_path: Path) -> None:
    plain = environment(tmp_path, "services: {web: {image: web}}\n")
    kept = {"services": {"web": {"image": "web:${RELEASE_TAG}", "environment": {"PREFECT_API_AUTH_STRING": None}}}}

    assert "RELEASE_TAG" not in process_environment(plain, PROCESS)
    assert process_environment(plain, PROCESS, kept)["RELEASE_TAG"] == "v7"
    assert "PREFECT_API_AUTH_STRING" not in process_environment(plain, PROCESS, kept)


def test_what_is_withheld_is_named_once(tmp_path: Path) -> None:
    assert withheld_variables(environment(tmp_path), PROCESS) == (
        "AWS_SECRET_ACCESS_KEY", "COPY_OF_IT", "PGPASSWORD", "PREFECT_API_AUTH_STRING", "ROAS_STORES_URL",
    )  # fmt: skip


def test_variables_are_found_where_files_include_others_and_not_where_a_dollar_is_doubled(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("services: {db: {image: 'db:${DB_TAG}', build: {args: [PASSED, SET=1]}}}\n")
    (tmp_path / "web.env").write_text("A=${FROM_ENV_FILE}\n")
    including = "include: [more.yaml]\nservices: {web: {image: 'a$$NOT', env_file: [web.env], environment: {BARE: }}}\n"

    found = read_sources(environment(tmp_path, including).compose_files)
    assert found.variables == {"DB_TAG", "PASSED", "FROM_ENV_FILE", "BARE"}


@pytest.mark.engine
async def test_no_container_gets_the_control_planes_password(
    make_project: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in PROCESS.items():
        monkeypatch.setenv(name, value)
    project = make_project(THIEF.replace("    secrets: [stolen]\n", ""))
    compose = ComposeCli(project.environment, process_environment(project.environment, os.environ))

    rendered, _ = compose._run(["config", "--format", "json"], timedelta(seconds=30))
    compose.create()
    reported = subprocess.run(
        ["docker", "inspect", project.one("thief").container_id], capture_output=True, text=True, check=True
    ).stdout

    for secret in (AUTH, "store-pw-81", "cloud-key-44", "postgresql://roas@db"):
        assert secret not in rendered + reported
    assert json.loads(reported)[0]["Config"]["Labels"]["tag"] == "v7"
    facts = await gather_facts(project.environment)
    assert "PREFECT_API_AUTH_STRING" in facts.withheld_variables


def test_a_file_of_variables_fills_in_nothing_that_compose_may_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", AUTH)
    declared = environment(tmp_path)
    (tmp_path / ".env").write_text("TAKEN=${PREFECT_API_AUTH_STRING}\nBASE=a\nBOTH=${BASE}-${RELEASE_TAG}\n")

    known = variables_of(declared, process_environment(declared, PROCESS))

    assert (known["TAKEN"], known["BOTH"]) == ("", "a-v7")
