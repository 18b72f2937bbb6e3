"""Secrets and variables: where they come from, and what becomes of those that are missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.compose.variables import missing_secrets, process_environment, secret_values, variables_of
from models.environments import Environment
from models.failures import EnvironmentFileError


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


def test_a_secret_that_is_a_fifo_a_device_or_too_large_is_missing_and_nothing_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"x" * (1024 * 1024 + 1))
    files = {"FIFO": tmp_path / "fifo", "DEVICE": Path("/dev/zero"), "LARGE": tmp_path / "large"}
    wanted = environment(tmp_path, secrets=[{"name": name, "file": file} for name, file in files.items()])
    assert secret_values(wanted) == {}
    why = missing_secrets(wanted)
    assert "no regular file" in why["FIFO"]
    assert "no regular file" in why["DEVICE"]
    assert "larger than" in why["LARGE"]


def test_a_secret_that_no_variable_can_hold_is_missing(tmp_path: Path) -> None:
    (tmp_path / "nul").write_bytes(b"half\0half")
    (tmp_path / "long").write_text("x" * 131_072)
    (tmp_path / ".env").write_bytes(b"IN_VARIABLES=half\0half\n")
    wanted = environment(
        tmp_path,
        secrets=[
            {"name": "NUL", "file": tmp_path / "nul"},
            {"name": "LONG", "file": tmp_path / "long"},
            {"name": "IN_VARIABLES"},
        ],
    )

    assert secret_values(wanted) == {}
    why = missing_secrets(wanted)
    assert why["NUL"] == f"file {tmp_path / 'nul'} holds a NUL character"
    assert why["LONG"] == f"file {tmp_path / 'long'} holds more than 130,000 bytes"
    assert why["IN_VARIABLES"] == "variable IN_VARIABLES holds a NUL character"


def test_a_file_of_variables_that_is_a_fifo_a_device_or_binary_is_refused_in_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for file, said in (
        (tmp_path / "fifo", "no regular file"),
        (Path("/dev/zero"), "no regular file"),
        (tmp_path / "binary", "not UTF-8"),
    ):
        with pytest.raises(EnvironmentFileError, match=said) as caught:
            variables_of(environment(tmp_path, env_files=[file]), {})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("step", ["V{0}=${{V{1}}}${{V{1}}}", "V0=${{V0}}${{V0}}"])
def test_variables_that_double_each_other_are_refused(tmp_path: Path, step: str) -> None:
    lines = ["V0=0123456789", *(step.format(number + 1, number) for number in range(40))]
    (tmp_path / ".env").write_text("\n".join(lines))
    with pytest.raises(EnvironmentFileError, match="variables filled in"):
        variables_of(environment(tmp_path), {})
