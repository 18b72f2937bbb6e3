"""The secret values of an environment, from it, its Compose files, and the files these name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.compose.declared_secrets import concealed_values
from adapters.host.fingerprints import Fingerprints
from adapters.host.kept_files import KeptFiles, read_entries
from models.environments import Environment

COMPOSE = """\
include: [more.yaml]
services:
  web:
    image: web
    env_file: [web.env, {path: gone.env, required: false}]
    environment: {PASS: "${GIVEN}"}
secrets: {one: {file: ./one.secret}, pipe: {file: ./pipe}}
configs: {app: {file: ./app.conf}}
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:control-plane-1")
    monkeypatch.setenv("GIVEN", "from-the-process-2")
    files = {
        "compose.yaml": COMPOSE,
        "more.yaml": "services: {db: {image: db, environment: {PW: included-3}}}\n",
        "web.env": "DB_PASSWORD=in-env-file-4\nLEVEL=debug\nURL=redis://a:in-url-5@c/0\n",
        "one.secret": "in-secret-file-6\n",
        "app.conf": "workers = 4\napi_key = in-config-7\n",
        "token": "of-the-environment-8",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    os.mkfifo(tmp_path / "pipe")
    return Environment.model_validate(
        {
            "name": "dev", "project": "shop", "compose_files": [tmp_path / "compose.yaml"],
            "secrets": [{"name": "TOKEN", "file": tmp_path / "token"}],
        }
    )  # fmt: skip


def test_every_file_that_declares_a_secret_is_read(environment: Environment) -> None:
    expected = {
        "admin:control-plane-1", "control-plane-1", "from-the-process-2", "included-3", "in-env-file-4", "in-url-5",
        "in-secret-file-6", "in-config-7", "of-the-environment-8",
    }  # fmt: skip
    known = concealed_values(environment)

    assert expected <= known
    assert not {"debug", "4", "web"} & known


def test_a_secret_that_changes_is_known_at_once(environment: Environment, tmp_path: Path) -> None:
    assert "in-secret-file-6" in concealed_values(environment)

    (tmp_path / "one.secret").write_text("another-secret-of-it-9\n")
    (tmp_path / "gone.env").write_text("NEW_PASSWORD=new-in-env-10\n")

    assert {"another-secret-of-it-9", "new-in-env-10"} <= concealed_values(environment)


def test_a_secret_that_a_release_kept_is_known_as_long_as_it_is_copied_out(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    kept = KeptFiles(tmp_path / "data", "dev", Fingerprints(tmp_path / "data"))
    kept.seal("0f", read_entries(tmp_path / "one.secret"))
    (tmp_path / "one.secret").write_text("another-secret-of-it-9\n")
    assert "in-secret-file-6" not in concealed_values(environment)

    kept.copy_out("0f", tmp_path / "one.secret")
    assert {"in-secret-file-6", "another-secret-of-it-9"} <= concealed_values(environment)

    kept.sweep_copies(())
    assert "in-secret-file-6" not in concealed_values(environment)
