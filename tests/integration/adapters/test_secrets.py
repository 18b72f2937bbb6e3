"""Secrets and variables: where they come from, and what becomes of those that are missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.compose.declared_secrets import concealed_values
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


def test_a_secret_is_the_first_line_that_a_program_prints(tmp_path: Path) -> None:
    command = ["sh", "-c", f"echo asked >> {tmp_path}/asked; printf 's3cret of pass\\r\\nuser: shop\\n'"]
    wanted = environment(tmp_path, secrets=[{"name": "TOKEN", "command": command}])

    assert secret_values(wanted) == {"TOKEN": "s3cret of pass"}
    assert process_environment(wanted, {})["TOKEN"] == "s3cret of pass"
    assert "s3cret of pass" in concealed_values(wanted)
    # An agent asks for secrets each few seconds.
    assert (tmp_path / "asked").read_text() == "asked\n"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["/nonexistent/pass"], "command /nonexistent/pass cannot be run: No such file or directory"),
        (["sh", "-c", "exit 0"], "command sh printed nothing"),
        (["sh", "-c", "printf '\\377'"], "command sh printed no UTF-8 text"),
        (["sh", "-c", "printf 'a\\0b'"], "what command sh printed holds a NUL character"),
        (["sh", "-c", "echo 'no such entry' >&2; exit 3"], "command sh ended with exit code 3: no such entry"),
    ],
)
def test_a_program_that_gives_no_secret_is_named_with_its_reason(tmp_path: Path, command: list[str], why: str) -> None:
    wanted = environment(tmp_path, secrets=[{"name": "TOKEN", "command": command}])

    assert secret_values(wanted) == {}
    assert missing_secrets(wanted) == {"TOKEN": why}


def test_what_a_failing_program_says_names_no_secret(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo correct-horse-battery; echo refused correct-horse-battery >&2; exit 1"]
    wanted = environment(tmp_path, secrets=[{"name": "TOKEN", "command": command}])

    assert "correct-horse" not in missing_secrets(wanted)["TOKEN"]


def test_the_program_gets_no_password_of_the_control_plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:password")
    command = ["sh", "-c", "echo ${PREFECT_API_AUTH_STRING-none}"]

    assert secret_values(environment(tmp_path, secrets=[{"name": "TOKEN", "command": command}])) == {"TOKEN": "none"}


def test_a_secret_has_one_source(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="TOKEN has a file and a command: give one of them"):
        environment(tmp_path, secrets=[{"name": "TOKEN", "file": tmp_path / "token", "command": ["pass"]}])
