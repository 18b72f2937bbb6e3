"""A Prefect server for the session, and the folders a start writes to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the application and its environment."""
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    return tmp_path
