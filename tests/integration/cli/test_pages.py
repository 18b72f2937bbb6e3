"""`--html` writes one private file or prints the page and stores nothing; a post-mortem is of three kinds of id."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from adapters.stores import Stores
from models.settings import Settings
from tests.integration.stores.values import record_some
from tests.support.commands import run_roas_text


@pytest.fixture
def roas(tmp_path: Path):
    with Stores.open(Settings(data_dir=tmp_path / "data")) as stores:
        record_some(stores)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        folders = {"ROAS_DATA_DIR": str(tmp_path / "data"), "ROAS_ENVIRONMENTS_DIR": str(tmp_path)}
        return run_roas_text(*words, cwd=tmp_path, env=os.environ | folders)

    return run


def test_a_report_is_a_private_file_and_is_not_stored(roas, tmp_path: Path) -> None:
    done = roas("report", "prod", "--days", "3650", "--html", "report.html")

    assert (done.returncode, done.stdout) == (0, "")
    page = tmp_path / "report.html"
    assert "<h1>Report on prod</h1>" in page.read_text()
    assert "port conflict" in page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    with closing(sqlite3.connect(tmp_path / "data" / "monitoring.db")) as connection:
        assert connection.execute("SELECT count(*) FROM reports").fetchone() == (0,)


def test_a_report_can_be_printed(roas) -> None:
    done = roas("report", "prod", "--html", "-")

    assert done.returncode == 0
    assert done.stdout.startswith("<!doctype html>")
    assert done.stdout.rstrip().endswith("</html>")


@pytest.mark.parametrize("file", ["missing/report.html", ".", "pipe", ""])
def test_a_file_that_cannot_be_written_is_an_input_error(roas, tmp_path: Path, file: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = roas("report", "prod", "--html", file)

    assert done.returncode == 2
    assert "- for standard output" in done.stderr or "name a file" in done.stderr
    assert (tmp_path / "pipe").is_fifo()


def test_html_and_json_exclude_each_other(roas) -> None:
    done = roas("report", "prod", "--html", "-", "--json")

    assert done.returncode == 2
    assert "not both" in done.stderr


@pytest.mark.parametrize("other", [("--html", "-"), ("--json",)])
def test_a_report_is_sent_or_written(roas, other: tuple[str, ...]) -> None:
    done = roas("report", "prod", "--send", *other)

    assert done.returncode == 2
    assert "--send goes without --html and --json" in done.stderr


@pytest.mark.parametrize("record", ["prod-1", "e1", "t1"])
def test_a_postmortem_is_of_an_operation_an_error_or_a_ticket(roas, record: str) -> None:
    done = roas("postmortem", record)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"# Post-mortem of {record}\n")
    assert "port_conflict" in done.stdout


def test_a_postmortem_is_written_as_a_page(roas, tmp_path: Path) -> None:
    done = roas("postmortem", "prod-1", "--html", "failure.html")

    assert done.returncode == 0
    assert "<h1>Post-mortem of prod-1</h1>" in (tmp_path / "failure.html").read_text()


def test_an_unknown_id_says_where_ids_are_listed(roas) -> None:
    done = roas("postmortem", "nothing")

    assert done.returncode != 0
    assert "No operation, error or ticket has the id 'nothing'" in done.stderr
    assert "roas history" in done.stderr


def test_a_prefix_of_several_ids_is_refused(roas) -> None:
    done = roas("postmortem", "prod-")

    assert done.returncode == 2
    assert "prod-1, prod-2" in done.stderr
