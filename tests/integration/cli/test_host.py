"""`roas host maintain` on a machine where nothing runs: what it says before, and how it shows what was done."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import roas
from models.failures import BadInputError
from tasks.deployment.maintenance import close_maintenance, plan_maintenance

pytestmark = pytest.mark.usefixtures("nothing")


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without an environment."""
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path / "environments"))
    (tmp_path / "environments").mkdir()


def maintain(*words: str) -> Result:
    return CliRunner().invoke(roas, ["host", "maintain", *words])


def test_the_last_one_is_shown_in_words_and_for_programs() -> None:
    plan = plan_maintenance("kernel", timedelta(hours=1), command="upgrade")
    done = {"worked": "the command ended with exit code 3", "failed": True, "output": ("upgraded",)}
    close_maintenance(plan.model_copy(update=done))
    shown, printed = maintain("--end"), maintain("--end", "--json")
    assert shown.stdout.splitlines() == [plan.title, "upgraded", "the command ended with exit code 3"]
    assert json.loads(printed.stdout) == json.loads(plan.model_copy(update=done).model_dump_json())
    assert (shown.exit_code, printed.exit_code) == (1, 1)


def test_it_says_that_no_agent_ends_it_and_does_nothing_without_the_name_of_the_host(tmp_path: Path) -> None:
    refused = maintain("--command", f"touch {tmp_path}/worked", "--confirm", "another")
    assert isinstance(refused.exception, BadInputError)
    assert "no agent is running, so if this is cut off, `roas host maintain --end` brings all up" in refused.stderr
    assert not (tmp_path / "worked").exists()
    assert maintain("--end", "--json").stdout == "null\n"
