"""`roas history --verify`, and that no variable or name replaces the user that the kernel knows."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from adapters.host.processes import this_user
from adapters.stores import Stores
from models.settings import Settings
from tests.integration.stores.values import record_some
from tests.support.commands import run_roas_text
from tests.support.prefect_server import server_variables
from tests.support.warm import warm_commands

ROAS = Path(sys.executable).with_name("roas")


@pytest.fixture
def roas(tmp_path: Path):
    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        places = {"ROAS_DATA_DIR": str(tmp_path / "data"), "ROAS_ENVIRONMENTS_DIR": str(tmp_path)}
        if "PREFECT_API_URL" not in variables:
            return run_roas_text(*words, cwd=tmp_path, env=os.environ | places | variables)
        # The warm process has Prefect imported; forks of `run_roas` have not.
        context_of_step = os.environ | warm_commands() | places | variables
        return subprocess.run(
            [ROAS, *words], capture_output=True, text=True, check=False, env=context_of_step, cwd=tmp_path
        )

    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with Stores.open(Settings(data_dir=tmp_path / "data")) as stores:
        record_some(stores)
    return tmp_path / "data"


def test_a_record_that_holds_is_reported_with_hashes_to_note(roas, data: Path) -> None:
    done = roas("history", "--verify")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("deployment_logs: 7 entries, 2 rows and 0 archives compared; head ")
    assert lines[1].startswith("errors: 4 entries, 4 rows and 0 archives compared; head ")
    # The printed command can be run.
    assert roas(*lines[-1].split()[1:]).returncode == 0


def test_a_changed_row_is_one_line_and_exit_code_1(roas, data: Path) -> None:
    noted = [report["head"] for report in json.loads(roas("history", "--verify", "--json").stdout)]
    with closing(sqlite3.connect(data / "deployment_logs.db")) as file:
        file.execute("UPDATE deployment_operations SET status = 'success' WHERE deployment_id = 'prod-1'")
        file.commit()
    done = roas("history", "--verify", "--expect", noted[0])
    assert done.returncode == 1
    line = (
        "deployment_logs: operation prod-1: the row was changed: status is 'success', recorded was 'failed' (entry 4)"
    )
    assert done.stdout.splitlines()[0] == line
    assert "1 findings" in done.stdout
    reported = roas("history", "--verify", "--json")
    assert reported.returncode == 1
    [finding] = [one for report in json.loads(reported.stdout) for one in report["findings"]]
    assert finding["subject"] == "operation prod-1"


def test_a_tail_cut_off_is_found_where_a_hash_was_noted(roas, data: Path) -> None:
    noted = [report["head"] for report in json.loads(roas("history", "--verify", "--json").stdout)]
    with closing(sqlite3.connect(data / "deployment_logs.db")) as file:
        file.execute("DELETE FROM deployment_operations WHERE deployment_id = 'prod-2'")
        file.execute("DELETE FROM audit_log WHERE subject = 'prod-2'")
        file.commit()
    assert roas("history", "--verify").returncode == 0
    done = roas("history", "--verify", "--expect", noted[0], "--expect", noted[1])
    assert done.returncode == 1
    assert f"hash {noted[0]}: no entry has this hash" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("history", "--expect", "0" * 64), "--expect goes with --verify"),
        (("history", "--verify", "--expect", "abc"), "'abc' is no hash"),
        (("history", "prod", "--verify"), "--verify reads the whole record"),
    ],
)
def test_options_that_do_not_go_together_are_bad_input(roas, data: Path, words, expected: str) -> None:
    done = roas(*words)
    assert (done.returncode, expected in done.stderr) == (2, True)


def test_a_name_in_the_environment_cannot_pass_for_who_paused_or_answered(roas, data: Path) -> None:
    somebody = {"LOGNAME": "nobody-real", "USER": "nobody-real", "SUDO_UID": "4242"}
    assert roas("pause", "--reason", "x", **somebody).returncode == 0
    assert roas("resolve", "t1", "--note", "mended", **somebody).returncode == 0
    actor = this_user({"LOGNAME": "nobody-real", "SUDO_UID": "4242"})
    assert actor.claimed == "nobody-real (sudo by 4242)"
    with Stores.open(Settings(data_dir=data)) as stores:
        [line] = [line for line in stores.tickets.get("t1").history if "mended" in line.what]
        [pause] = [pause for pause in stores.pauses.active(line.at) if pause.reason == "x"]
        assert (line.by, line.actor) == (actor.user, actor)
        assert (pause.by, pause.actor) == (actor.user, actor)
    assert roas("unpause", **somebody).returncode == 0
    assert roas("history", "--verify").returncode == 0
    shown = roas("tickets", "t1").stdout
    assert f"{actor.user} ({actor.user} (uid {os.getuid()})" in " ".join(shown.split())


@pytest.mark.flow
def test_a_name_in_the_environment_cannot_pass_for_who_started(roas, tmp_path: Path, prefect_server: None) -> None:
    (tmp_path / "compose.yaml").write_text(
        "services:\n  web:\n    image: roas-no-such-image:none\n    pull_policy: never\n"
    )
    server = {name: value for name, value in server_variables().items() if name.startswith("PREFECT_API_")}
    done = roas("start", "-f", "compose.yaml", "-p", "roas-test-audit", "--json", LOGNAME="nobody-real", **server)
    assert done.returncode == 1, done.stderr
    with Stores.open(Settings(data_dir=tmp_path / "data")) as stores:
        [operation] = stores.operations.history()
    actor = this_user({"LOGNAME": "nobody-real"})
    assert operation.user_agent == f"person: {actor.user} (roas start)"
    assert operation.actor == actor
