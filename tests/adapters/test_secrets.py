"""Secrets and variables: where they come from, and what becomes of those that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.secrets import missing_secrets, process_environment, secret_values, variables_of
from models.environments import Environment


def environment(folder: Path, **fields: object) -> Environment:
    base = {"name": "dev", "project": "shop", "compose_files": [folder / "compose.yaml"]}
    return Environment.model_validate(base | fields)


def secret_file(folder: Path, text: str) -> Environment:
    (folder / "token").write_text(text)
    return environment(folder, secrets=[{"name": "TOKEN", "file": folder / "token"}])


@pytest.mark.parametrize("text", ["s3cret", "s3cret\n", "s3cret\r\n"])
def test_a_secret_file_holds_its_value_with_or_without_a_line_end(tmp_path: Path, text: str) -> None:
    assert secret_values(secret_file(tmp_path, text)) == {"TOKEN": "s3cret"}


def test_spaces_within_a_secret_belong_to_it(tmp_path: Path) -> None:
    assert secret_values(secret_file(tmp_path, " a b \n")) == {"TOKEN": " a b "}


def test_a_secret_without_file_is_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "from outside")
    assert secret_values(environment(tmp_path, secrets=[{"name": "TOKEN"}])) == {"TOKEN": "from outside"}


def test_a_secret_may_lie_in_the_file_of_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN", raising=False)
    (tmp_path / ".env").write_text("TOKEN='quoted value'\n")
    assert secret_values(environment(tmp_path, secrets=[{"name": "TOKEN"}])) == {"TOKEN": "quoted value"}


def test_a_missing_secret_says_why_and_has_no_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTHER", raising=False)
    (tmp_path / "empty").write_text("\n")
    wanted = environment(
        tmp_path,
        secrets=[
            {"name": "GONE", "file": tmp_path / "gone"},
            {"name": "EMPTY", "file": tmp_path / "empty"},
            {"name": "OTHER"},
        ],
    )
    assert secret_values(wanted) == {}
    why = missing_secrets(wanted)
    assert "No such file" in why["GONE"]
    assert "is empty" in why["EMPTY"]
    assert "OTHER is not set" in why["OTHER"]


def test_compose_gets_secrets_and_the_engine_and_not_what_the_environment_decides(tmp_path: Path) -> None:
    given = {"PATH": "/bin", "COMPOSE_FILE": "other.yaml", "DOCKER_CONTEXT": "elsewhere", "DOCKER_HOST": "tcp://x:1"}
    handed_on = process_environment(secret_file(tmp_path, "s3cret"), given)
    assert handed_on == {"PATH": "/bin", "TOKEN": "s3cret", "DOCKER_HOST": "unix:///var/run/docker.sock"}


def test_variables_of_the_process_win_over_those_of_files(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=file\nB=file\n")
    assert variables_of(environment(tmp_path), {"A": "process"}) == {"A": "process", "B": "file"}


def test_named_files_of_variables_replace_the_usual_one_and_later_ones_win(tmp_path: Path) -> None:
    for name, text in ((".env", "A=usual\nU=usual\n"), ("one.env", "A=one\n"), ("two.env", "A=two\n")):
        (tmp_path / name).write_text(text)
    named = environment(tmp_path, env_files=[tmp_path / "one.env", tmp_path / "two.env"])
    assert variables_of(named, {}) == {"A": "two"}
