"""A Prefect server for the session, and the folders a start writes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.plain_tasks import tasks_make_no_runs

__all__ = ["tasks_make_no_runs"]


@pytest.fixture(scope="session", autouse=True)
def flows_are_recorded(prefect_server: None) -> None:
    """Every test here runs flows."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the application and its environment."""
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    return tmp_path
