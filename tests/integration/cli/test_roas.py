"""The command as users and programs see it: text on the right stream, exit codes, no traceback."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.pattern_files import shipped_set
from adapters.stores import Stores
from core.errors.classify import classify
from flows.server.embedded import START_WITHIN, prefect_api, wait_for_api
from models.errors import Category, RecordedError
from models.failures import RoasError
from models.metrics import Prediction, PredictionOutcome
from models.records import EvaluationRecord
from models.settings import Settings
from tests.support.commands import run_roas_text
from tests.support.ports import free_port
from tests.support.warm import warm_commands

ROAS = Path(sys.executable).with_name("roas")


@pytest.fixture
def roas(tmp_path: Path):
    places = {"ROAS_DATA_DIR": str(tmp_path / "data"), "ROAS_ENVIRONMENTS_DIR": str(tmp_path)}

    def run(*words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        return run_roas_text(*words, cwd=tmp_path, env=os.environ | places, said=said)

    return run


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("start", "nosuch"), "There is no environment 'nosuch'"),
        (("analyse", "nosuch"), "There is no environment 'nosuch'"),
        (("predictions", "nosuch"), "There is no environment 'nosuch'"),
        (("pause", "--env", "nosuch", "--reason", "x"), "There is no environment 'nosuch'"),
        (("start",), "Which environment?"),
        (("start", "dev", "-f", "compose.yaml"), "Give an environment or -f, not both"),
        (("start", "-f", "missing.yaml"), "missing.yaml does not exist"),
        (("history", "--limit", "0"), "0 is not in the range"),
        (("recover", "dev", " "), "text is empty"),
        (("pause", "bot", "--for", "soon", "--reason", "x"), "'soon' is not a duration"),
        (("unpause", "bot"), "There is no such pause"),
        (("patterns", "add", "mine", "(", "--category", "timeout"), "Pattern mine cannot be added"),
        (("patterns", "add", "mine", "error", "--category", "timeout"), "known to be harmless"),
        (("patterns", "add", "mine", "(?:a{1000}){1000}", "--category", "timeout"), "Pattern mine cannot be added"),
        (("patterns", "add", "redis_login", "flux", "--category", "timeout"), "There is a pattern redis_login already"),
        (("patterns", "add", "mine", "--category", "timeout"), "Give an expression, or --from"),
        (("patterns", "add", "mine", "--from", "nosuch", "--category", "timeout"), "There is no group nosuch"),
        (
            ("patterns", "add", "mine", "flux", "--category", "timeout", "--strategy", "run_script"),
            "--script goes with",
        ),
        (("patterns", "disable", "nosuch"), "There is no pattern nosuch"),
        (("patterns", "remove", "redis_login"), "redis_login is a shipped pattern"),
    ],
)
def test_wrong_input_is_reported_in_one_line_with_exit_code_2(roas, words, expected) -> None:
    done = roas(*words)

    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_command_that_reads_from_a_terminal_says_so(tmp_path: Path) -> None:
    keyboard, terminal = pty.openpty()
    variables = os.environ | warm_commands() | {"ROAS_DATA_DIR": str(tmp_path / "data")}
    with subprocess.Popen(
        [ROAS, "classify"], stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables, text=True
    ) as process:
        os.write(keyboard, b'{"id": "a", "text": "connection refused"}\n\x04')
        printed, said = process.communicate(timeout=300)
    os.close(terminal)
    os.close(keyboard)

    assert "Ctrl-D" in said
    assert "dependency_refused" in printed


def test_what_is_not_recorded_is_exit_code_1(roas) -> None:
    done = roas("show", "never")

    assert done.returncode == 1
    assert "No deployment has the id 'never'" in done.stderr


def test_a_server_that_is_not_there_is_named_and_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")

    with prefect_api(Settings()) as timeout, pytest.raises(RoasError, match="did not answer; does the server run"):
        wait_for_api(timeout / 300)

    assert timeout <= timedelta(seconds=30)


def test_a_server_of_ours_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    monkeypatch.setattr("flows.server.embedded._GONE_AFTER_SECONDS", 0.0)

    with pytest.raises(RoasError, match=r"The Prefect server ended before it answered; see \S+server\.log"):
        wait_for_api(START_WITHIN)


def test_what_answers_at_the_address_of_the_server_without_http_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def greet() -> None:
            connection, _ = stranger.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_10.0\r\n")

        threading.Thread(target=greet, daemon=True).start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{stranger.getsockname()[1]}/api")

        with pytest.raises(RoasError, match="did not answer"):
            wait_for_api(timedelta(0))


def test_a_server_that_is_away_is_reported_before_the_engine_is_imported() -> None:
    program = """
import sys
from datetime import timedelta
from cli import run_flow
from flows.server import embedded
from models.failures import RoasError
embedded.ANSWERS_WITHIN = timedelta(0)
try:
    run_flow.run_flow(None)
except RoasError as error:
    print(error, "prefect" in sys.modules)
"""
    url = f"http://127.0.0.1:{free_port()}/api"

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        env=os.environ | {"PREFECT_API_URL": url},
    )

    assert f"Prefect API at {url} did not answer" in done.stdout
    assert done.stdout.endswith("False\n")


def test_an_environment_without_a_release_has_none(roas, tmp_path: Path) -> None:
    (tmp_path / "dev.yaml").write_text("project: none\ncompose_files: [compose.yaml]\n")

    done = roas("releases", "dev")

    assert done.returncode == 0, done.stderr
    assert "There is no release yet" in done.stdout


def test_classify_answers_each_json_line_in_order(roas) -> None:
    lines = [
        {"id": "a", "text": "bind: address already in use"},
        {"id": "b", "text": "MISCONF Redis is configured to save RDB snapshots, but is unable to persist on disk"},
        {"id": "c", "text": "web-1 exited with code 1"},
    ]

    done = roas("classify", said="\n".join(map(json.dumps, lines)))

    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == ["a", "b", "c"]
    assert [answer["category"] for answer in answers] == ["port_conflict", "redis_state", "container_exited"]
    assert {"id", "category", "severity", "auto_recoverable", "strategy"} < set(answers[0])
    assert [answer["auto_recoverable"] for answer in answers] == [False, False, False]
    assert [answer["would_need"] is None for answer in answers] == [True, True, False]
    assert "exited by itself" in answers[2]["would_need"]
    assert [lines[0]["text"][slice(*answers[0]["span"])], answers[1]["span"]] == ["address already in use", [0, 7]]


def test_classify_names_the_line_that_is_not_json(roas) -> None:
    done = roas("classify", said='{"id": "1", "text": "x"}\n{oops\n')

    assert done.returncode == 2
    assert "Line 2" in done.stderr


def test_detect_scores_every_row_in_order(roas) -> None:
    rows = [f"2026-01-01 00:{minute:02d}:00,{minute % 3}" for minute in range(60)]

    done = roas("detect", said="\n".join(["timestamp,value", *rows]) + "\n")

    header, *scored = done.stdout.splitlines()
    assert header == "timestamp,value,anomaly_score"
    assert [line.rsplit(",", 1)[0] for line in scored] == rows
    assert all(0 <= float(line.rsplit(",", 1)[1]) <= 1 for line in scored)


def test_a_person_s_pattern_is_used_from_then_on(roas) -> None:
    assert (
        roas("patterns", "add", "flux", "flux capacitor (empty|open)", "--category", "resource_limit").returncode == 0
    )

    assert "resource_limit" in roas("patterns", "test", "the flux capacitor empty at 88").stdout
    listed = json.loads(roas("patterns", "list", "--json").stdout)
    assert {"name": "flux", "shipped": False}.items() <= next(one for one in listed if one["name"] == "flux").items()


def test_a_pattern_is_switched_off_and_on_and_a_person_s_own_is_forgotten(roas) -> None:
    said = "the flux capacitor (empty)"
    roas("patterns", "add", "flux", "flux capacitor", "--category", "resource_limit")

    assert "flux is disabled" in roas("patterns", "disable", "flux").stdout
    assert json.loads(roas("classify", said, "--json").stdout)["pattern_name"] is None
    assert "flux is enabled" in roas("patterns", "enable", "flux").stdout
    verdict = json.loads(roas("classify", said, "--json").stdout)
    assert verdict["pattern_name"] == "flux"
    assert said[slice(*verdict["span"])] == "flux capacitor"
    assert verdict["confidence"] >= 0.9
    assert roas("patterns", "add", "flux", "flux", "--category", "timeout", "--replace").returncode == 0
    assert "timeout" in roas("patterns", "show", "flux").stdout
    assert [one["name"] for one in json.loads(roas("patterns", "list", "--mine", "--json").stdout)] == ["flux"]
    assert "flux is removed" in roas("patterns", "remove", "flux").stdout
    assert roas("patterns", "show", "flux").returncode == 2


def test_unclassified_errors_get_a_pattern_once(roas, tmp_path: Path) -> None:
    stores = Stores.open(Settings(data_dir=tmp_path / "data"))
    for number in range(3):
        said = f"2026-01-01 10:00:0{number} ERROR ledger {number} refuses the entry of /srv/books/{number}"
        stores.errors.record(
            RecordedError(
                error_id=f"e{number}",
                environment="dev",
                service="bank",
                text=said,
                source="log",
                verdict=classify(said, shipped_set()),
                first_seen=datetime(2026, 1, 1, 10, tzinfo=UTC),
                last_seen=datetime(2026, 1, 1, 10, number, tzinfo=UTC),
            )
        )

    (group,) = json.loads(roas("patterns", "unknown", "--json").stdout)
    assert (group["count"], group["places"]) == (3, ["dev/bank"])
    assert f"--from {group['group']}" in roas("patterns", "unknown").stdout

    named = roas("patterns", "add", "ledger", "--from", group["group"], "--category", "database_locked")

    assert "1 open error was classified again" in named.stdout
    assert stores.errors.get("e0").verdict.category is Category.DATABASE_LOCKED
    assert "Every error matches a pattern" in roas("patterns", "unknown").stdout
    again = json.loads(roas("classify", "ERROR ledger 9 refuses the entry of /tmp/x", "--json").stdout)
    assert again["pattern_name"] == "ledger"


def test_a_pause_holds_until_it_is_ended(roas) -> None:
    assert "is off until" in roas("pause", "bot", "--for", "2h", "--reason", "upgrade").stdout
    assert "is on again" in roas("unpause", "bot").stdout
    assert roas("unpause", "bot").returncode == 2


def test_a_backup_brings_the_stores_back_as_they_were(roas, tmp_path: Path) -> None:
    roas("pause", "bot", "--reason", "kept in the backup")
    assert "errors" in roas("backup", "copy").stdout
    roas("unpause", "bot")

    assert "the stores are restored to" in roas("restore", "copy").stdout
    assert "is on again" in roas("unpause", "bot").stdout
    assert roas("backup", "copy").returncode == 2


def test_checking_the_stores_finds_nothing_wrong_with_new_ones(roas) -> None:
    done = roas("stores", "check", "--json")

    assert done.returncode == 0
    assert [report["store"] for report in json.loads(done.stdout)] == ["deployment_logs", "monitoring", "errors"]
    assert roas("archive", "list").stdout == "Nothing has been archived yet.\n"
    assert roas("archive", "query", "never").returncode == 2


def test_validation_alone_touches_nothing_and_says_what_would_stop_a_start(roas, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: 'roas-test/none:1'}}\n")
    (tmp_path / "here.yaml").write_text(
        "name: here\nproject: roas-test-here\ncompose_files: [compose.yaml]\n"
        f"engine: unix://{tmp_path}/no.sock\nvariables: [ROAS_TEST_NEEDED]\n"
    )

    done = roas("validate", "here", "--json")

    assert done.returncode == 1
    found = {check["name"] for check in json.loads(done.stdout)["checks"] if not check["passed"]}
    assert "engine" in found
    assert not (tmp_path / "data").exists()


def test_predictions_that_stand_and_what_became_of_others_are_reported(roas, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    standing = Prediction(
        prediction_id="p1", environment="prod", service="host", metric="disk_usage", value=80.0, threshold=95.0,
        falling=False, made_at=now - timedelta(hours=1), expected=now + timedelta(hours=20.5),
        earliest=now + timedelta(hours=18.5), latest=now + timedelta(hours=22.5), words="disk_usage rises by 1 %",
    )  # fmt: skip
    came = replace(
        standing, prediction_id="p2", service="bot", metric="memory_usage", outcome=PredictionOutcome.HIT, scored_at=now
    )
    stores = Stores.open(Settings(data_dir=tmp_path / "data"))
    stores.evaluations.record(EvaluationRecord(environment="prod", evaluated_at=now, predictions=[standing, came]))
    stores.close()

    # It is known by what it left, though it has no file.
    reported = roas("predictions", "prod")
    assert reported.returncode == 0, reported.stderr
    assert "disk_usage of prod/host passes 95 % in 20 h (80 %: 18 h to 22 h)" in " ".join(reported.stdout.split())
    assert "came true" in reported.stdout
    listed = json.loads(roas("predictions", "--json").stdout)
    assert [one["prediction_id"] for one in listed] == ["p1", "p2"]
