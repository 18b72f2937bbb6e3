"""How a command ends: one line on standard error, the documented exit code, and never a traceback."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from cli import exit_codes
from tests.support.commands import run_roas
from tests.support.warm import warm_commands

ROAS = Path(sys.executable).with_name("roas")
PREFECT_IS_USED = "PREFECT_CLIENT_MAX_RETRIES"
"""Commands with it go on to Prefect, which the warm process has imported and forks of `run_roas` have not."""


@pytest.fixture
def roas(tmp_path: Path):
    def run(
        *words: str | bytes, said: bytes = b"", redirected: str = "", **variables: str
    ) -> subprocess.CompletedProcess[bytes]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROAS_", "PREFECT_"))}
        folders = {"ROAS_DATA_DIR": str(tmp_path / "data"), "ROAS_ENVIRONMENTS_DIR": str(tmp_path)}
        # Python opens the streams at the start of a process.
        is_own = redirected or any(name.startswith("PYTHON") for name in variables)
        if not is_own and PREFECT_IS_USED not in variables:
            return run_roas(*words, cwd=tmp_path, env=kept | folders | variables, said=said)
        warm = {"ROAS_WARM": "0"} if is_own else warm_commands()
        command = ["bash", "-c", f'"$@" {redirected}', "bash", ROAS, *words] if redirected else [ROAS, *words]
        return subprocess.run(
            command,
            input=said,
            capture_output=True,
            check=False,
            env=kept | warm | folders | variables,
            cwd=tmp_path,
            encoding=None,
        )

    return run


class _RefusesEverything(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(200 if self.path.endswith(("/version", "/health")) else 500)

    def do_POST(self) -> None:
        self._answer(500)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        said = f'"{version("prefect")}"'.encode()
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def failing_api() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _RefusesEverything)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    server.server_close()


def one_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"ROAS_METRICS_PORT": "abc"},
            "ROAS_METRICS_PORT is 'abc', which cannot be used: a whole number from 1 to 65535",
        ),
        ({"ROAS_METRICS_PORT": "0"}, "ROAS_METRICS_PORT is '0'"),
        ({"ROAS_METRICS_HOST": "a..b"}, "a host name of labels of 1 to 63 characters is allowed"),
        ({"ROAS_STORES_URL": "postgresql://a..b/roas"}, "ROAS_STORES_URL cannot be used: a host name"),
        ({"ROAS_KEEP_ERRORS_DAYS": "-1"}, "ROAS_KEEP_ERRORS_DAYS is '-1'"),
        ({"ROAS_KEEP_ERRORS_DAYS": "1e300"}, "a number above 0 to 36500 is allowed, by default 30"),
        ({"ROAS_KEEP_RUNS_DAYS": "nan"}, "ROAS_KEEP_RUNS_DAYS is 'nan'"),
        ({"ROAS_STORE_BUDGET_MIB": "inf"}, "ROAS_STORE_BUDGET_MIB is 'inf'"),
        ({"ROAS_DATA_DIR": "a" * 300}, "a path of at most 3500 bytes, of names of at most 255, is allowed."),
        ({"ROAS_DATA_DIR": "a/" * 2100}, "a path of at most 3500 bytes, of names of at most 255, is allowed."),
        ({"ROAS_DATA_DIR": "/dev/null/x"}, "cannot be made: Not a directory; set ROAS_DATA_DIR"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_with_what_is_allowed(roas, variables, expected) -> None:
    done = roas("history", **variables)

    assert expected in one_line(done)
    assert done.returncode == 2


def test_a_url_that_may_hold_a_password_is_not_repeated(roas) -> None:
    done = roas("history", ROAS_STORES_URL="postgresql://roas:hunter2hunter2@\udcff/x")

    assert "ROAS_STORES_URL cannot be used" in one_line(done)
    assert b"hunter2" not in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize(
    "url", ["ht!tp", "http://", "http://[::1", "http://a:99999/api", "http://a b/", "http://a..b/"]
)
def test_a_prefect_address_that_cannot_be_one_is_refused_before_anything_waits(roas, tmp_path: Path, url: str) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: 'roas-test/none:1'}}\n")

    done = roas("start", "-f", "compose.yaml", PREFECT_API_URL=url)

    assert "PREFECT_API_URL is not the address of a Prefect API" in one_line(done)
    assert done.returncode == 2


def test_a_password_in_the_prefect_address_is_refused_and_not_repeated(roas, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: 'roas-test/none:1'}}\n")

    done = roas("start", "-f", "compose.yaml", PREFECT_API_URL="http://admin:hunter2hunter2@127.0.0.1/api")

    assert "set PREFECT_API_AUTH_STRING" in one_line(done)
    assert b"hunter2" not in done.stderr
    assert done.returncode == 2


def test_a_setting_of_prefect_that_cannot_be_used_is_named(roas, tmp_path: Path, failing_api: str) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: 'roas-test/none:1'}}\n")

    done = roas(
        *("start", "-f", "compose.yaml", "--json"),
        PREFECT_API_URL=failing_api,
        PREFECT_CLIENT_MAX_RETRIES="many",
    )

    # The engine says a word of its own before.
    assert "A setting of Prefect cannot be used, " in done.stderr.decode().splitlines()[-1]
    assert "max_retries" in done.stderr.decode().splitlines()[-1]
    assert b"Traceback" not in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize("words", [(b"classify", b"\xff\xfe"), (b"pause", b"--reason", b"\xff"), (b"show", b"\xff")])
def test_an_argument_that_is_no_utf_8_is_refused(roas, words) -> None:
    done = roas(*words)

    assert "is not UTF-8 text" in one_line(done)
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("words", "buffered"),
    [
        (("patterns", "list"), ""),
        (("history",), "1"),
        pytest.param(("patterns", "list"), "1", marks=pytest.mark.campaign),
        pytest.param(("patterns", "list", "--json"), "", marks=pytest.mark.campaign),
        pytest.param(("patterns", "list", "--json"), "1", marks=pytest.mark.campaign),
        pytest.param(("history",), "", marks=pytest.mark.campaign),
    ],
)
def test_a_full_disk_under_the_output_is_reported_in_one_line(roas, words, buffered) -> None:
    roas("history")

    done = roas(*words, redirected="> /dev/full", PYTHONUNBUFFERED=buffered)

    assert one_line(done) == "roas: Standard output cannot be written: No space left on device."
    assert done.returncode == 1


def test_a_closed_output_is_reported_before_anything_is_done(roas, tmp_path: Path) -> None:
    done = roas("history", redirected=">&-")

    assert "Standard output is closed" in one_line(done)
    assert done.returncode == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("words", [("classify",), ("detect",), ("recover", "dev", "-")])
def test_a_closed_input_is_reported_where_it_is_needed(roas, words) -> None:
    done = roas(*words, redirected="<&-")

    assert "Standard input is closed" in one_line(done)
    assert done.returncode == 2


def test_a_closed_error_output_changes_nothing(roas) -> None:
    done = roas("history", redirected="2>&-")

    assert done.returncode == 0
    assert b"No operation is recorded yet" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_failure(roas) -> None:
    done = roas("patterns", "list", "--json", redirected="| head -1; exit ${PIPESTATUS[0]}")

    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (0, b"[\n", done.stderr.count(b"SQLite"))


def test_other_alphabets_are_shown_where_the_terminal_has_only_ascii(roas) -> None:
    done = roas("classify", "Zeitüberschreitung: timeout", PYTHONIOENCODING="ascii", LC_ALL="C")

    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"timestamp,value\n" + b"1" * 200_000 + b",1\n", "Line 2 is not CSV"),
        (b"timestamp,value\n" + b"1" * 10_000_000 + b",1\n", "Line 2 of standard input is longer than 1 MiB"),
        (b"timestamp,value\n2026-01-01,\xff\n", "where a number should be"),
        (b"timestamp,value\n2026-01-01,nan\n", "which cannot be judged"),
        (b"value\n1\n", "Line 1 should be the header"),
    ],
    ids=["field", "line", "bytes", "nan", "header"],
)
def test_a_series_that_cannot_be_read_is_reported_with_its_line(roas, said, expected) -> None:
    done = roas("detect", said=said)

    assert expected in one_line(done)
    assert done.returncode == 2


def test_half_a_character_in_json_is_classified_like_any_other(roas) -> None:
    done = roas("classify", said=b'{"id": "\\ud800", "text": "\\ud800 address already in use"}\n')

    assert done.returncode == 0, done.stderr
    assert b"port_conflict" in done.stdout


@pytest.mark.parametrize("length", ["999999999999d", "99999999d", "-1h", "1.5h", "", "\u0663h"])
def test_a_pause_of_impossible_length_is_refused(roas, length: str) -> None:
    done = roas("pause", "--reason", "x", f"--for={length}")

    assert "--for" in one_line(done)
    assert done.returncode == 2


def test_a_current_directory_that_was_removed_is_reported(roas, tmp_path: Path) -> None:
    gone = tmp_path / "gone"

    done = subprocess.run(
        ["bash", "-c", f"mkdir {gone}; cd {gone}; rmdir {gone}; {ROAS} history"], capture_output=True, check=False
    )

    assert "The current directory cannot be used" in one_line(done)
    assert done.returncode == 2


def test_an_interrupted_command_says_that_it_stopped() -> None:
    # The line shows that the command waits; send Ctrl-C then.
    process = subprocess.Popen(
        [sys.executable, "-c", "from tests.integration.cli.test_exit import wait_for_ever; wait_for_ever()"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)

    assert (process.returncode, said.strip()) == (130, "roas: stopped")


def wait_for_ever() -> None:
    @click.command()
    def command() -> None:
        sys.stdout.write("waiting\n")
        sys.stdout.flush()
        threading.Event().wait()

    # A shell that runs the tests in the background may ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["wait"]
    sys.exit(exit_codes.run_command(command))


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A command with a mistake, run in a process of its own."""

    def run(text: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
        code = (
            "import sys, click; from cli.exit_codes import run_command\n"
            f"@click.command()\ndef command():\n    raise LookupError({text!r})\n"
            "sys.argv = ['broken']; sys.exit(run_command(command))"
        )
        known = os.environ | {"ROAS_DATA_DIR": str(tmp_path / "data"), "TMPDIR": str(tmp_path)} | variables
        return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=known)

    return run


def test_an_unexpected_error_names_a_private_log_with_the_traceback(broken, tmp_path: Path) -> None:
    done = broken("\x1b[31mpassword=hunter2hunter2 \udcff", API_TOKEN="lost-in-a-text")

    log = tmp_path / "data" / "unexpected-errors.log"
    assert done.returncode == 3
    said = one_line(done)
    assert "unexpected error: LookupError: password=[redacted]" in said
    assert f"the traceback is in {log}" in said
    kept = log.read_text()
    assert "raise LookupError" in kept or "LookupError" in kept
    assert "Traceback" in kept
    assert "hunter2" not in kept
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_known_secrets_are_not_in_the_log_of_an_unexpected_error(broken, tmp_path: Path) -> None:
    done = broken("it was lost-in-a-text", API_TOKEN="lost-in-a-text")

    assert b"lost-in-a-text" not in done.stderr
    assert "lost-in-a-text" not in (tmp_path / "data" / "unexpected-errors.log").read_text()


def test_the_log_of_unexpected_errors_is_bounded(broken, tmp_path: Path) -> None:
    log = tmp_path / "data" / "unexpected-errors.log"
    log.parent.mkdir()
    log.write_bytes(b"x" * (1024 * 1024 + 1))

    broken("once more")

    assert log.stat().st_size < 10_000
    assert log.with_name(f"{log.name}.1").stat().st_size > 1024 * 1024


@pytest.mark.parametrize("data_dir", ["/dev/null/data", "/proc/data"])
def test_an_unexpected_error_without_a_data_folder_is_kept_in_a_temporary_file(broken, tmp_path, data_dir) -> None:
    done = broken("no room", ROAS_DATA_DIR=data_dir)

    (log,) = tmp_path.glob("roas-*.log")
    assert done.returncode == 3
    assert f"the traceback is in {log}" in one_line(done)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_link_in_place_of_the_log_is_not_followed(broken, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "unexpected-errors.log").symlink_to(tmp_path / "target")

    assert broken("a link").returncode == 3
    assert not (tmp_path / "target").exists()


def test_a_prefect_api_that_fails_is_named_with_what_it_answered(roas, tmp_path: Path, failing_api: str) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: 'roas-test/none:1'}}\n")

    done = roas(
        *("health", "-f", "compose.yaml", "--json"),
        PREFECT_API_URL=failing_api,
        PREFECT_CLIENT_MAX_RETRIES="0",
        DOCKER_HOST=f"unix://{tmp_path}/no.sock",
    )

    assert f"Prefect API at {failing_api} answered 500" in done.stderr.decode().splitlines()[-1]
    assert b"Traceback" not in done.stderr
    assert done.returncode == 1


AFTER_ITS_END = """
import asyncio, httpx, os, sys
from dataclasses import asdict
from datetime import UTC, datetime
from adapters.host.processes import this_process
from cli.exit_codes import run_command
from cli.run_flow import ask_the_record, run_flow
from models.operations import Operation, OperationStatus, OperationType
from tasks.runtime.stores import open_stores
import click

async def restart():
    operations = open_stores().operations
    operations.begin(Operation(
        deployment_id="shop-1", operation_type=OperationType.RESTART, environment="shop",
        status=OperationStatus.RUNNING, started_at=datetime.now(UTC),
        details={"runner": asdict(this_process("run-1"))},
    ))
    if END:
        operations.finish("shop-1", OperationStatus(END), datetime.now(UTC))
    async with httpx.AsyncClient() as client:
        (await client.post(os.environ["PREFECT_API_URL"] + "/flow_runs/1/set_state")).raise_for_status()

@click.command()
def command():
    with ask_the_record("shop", False):
        run_flow(restart, quiet=True)

sys.exit(run_command(command))
"""


@pytest.mark.parametrize(
    ("end", "code"), [("success", 0), pytest.param("failed", 1, marks=pytest.mark.campaign), ("", 1)]
)
def test_where_the_server_is_lost_the_record_says_how_an_operation_ended(
    tmp_path: Path, failing_api: str, end: str, code: int
) -> None:
    folders = {"ROAS_DATA_DIR": str(tmp_path / "data"), "ROAS_ENVIRONMENTS_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", AFTER_ITS_END.replace("END", repr(end))],
        capture_output=True,
        check=False,
        text=True,
        env=dict(os.environ) | folders | {"PREFECT_API_URL": failing_api},
    )
    assert done.returncode == code, done.stderr
    assert "answered 500" in done.stderr
    assert "does it know this user" not in done.stderr
    assert ("shop-1" in done.stdout) is bool(end)
    assert ("its record says how" in done.stderr) is bool(end)


def _with_json(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from _with_json(command, *path, name)
            elif command is not None and any("--json" in one.opts for one in command.params):
                yield (*path, name)


def test_every_command_with_json_reports_its_errors_as_json_too(roas) -> None:
    from cli.main import roas as group

    commands = list(_with_json(group))
    assert len(commands) > 40
    for words in commands:
        done = roas(*words, "--json", "--no-such-option")
        assert done.returncode == 2
        answer = json.loads(done.stdout)
        assert answer["exit_code"] == 2
        assert "No such option" in answer["error"]
        assert one_line(done).startswith("roas: ")


@pytest.mark.parametrize("words", [("start", "nosuch"), ("releases", "nosuch"), ("show", "nosuch"), ("ticket", "x")])
def test_under_json_an_error_has_its_advice_and_exit_code(roas, words) -> None:
    done = roas(*words, "--json")
    answer = json.loads(done.stdout)
    assert answer["exit_code"] == done.returncode != 0
    assert answer["error"]
    assert f"{answer['error']} {answer['advice']}".strip() in one_line(done)
    assert roas(*words).stdout == b""
