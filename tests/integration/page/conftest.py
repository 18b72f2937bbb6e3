"""Pages on stores of their own, which hold what a hostile program or label could have written."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from flows.page.rendering import BASE
from tests.golden.conftest import HERE, STORES
from tests.integration.page.prefect_server import PrefectServer
from tests.support.page import page_client
from tests.support.warm import warm_commands

ReadPage = Callable[[str], str]

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x1b]0;title\x07 ' onmouseover=alert(3) x="
"""Ends an attribute and an element, begins a script, turns the direction of text, and sets a terminal's title."""


@pytest.fixture(autouse=True)
def own_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def recorded(own_stores: Path) -> Path:
    """A folder with the recorded stores of the environment `shop`, as golden tests have them."""
    shutil.copytree(HERE / "shop", own_stores, dirs_exist_ok=True)
    data = own_stores / "data"
    data.mkdir(mode=0o700)
    for dump in sorted(STORES.glob("*.sql")):
        path = data / f"{dump.stem}.db"
        store = sqlite3.connect(path)
        store.executescript(dump.read_text())
        store.close()
        path.chmod(0o600)
    return own_stores


@pytest.fixture
def markup(recorded: Path) -> ReadPage:
    """A page below BASE, as it is sent."""
    client = page_client()

    def read(path: str) -> str:
        page = client.get(f"{BASE}{path}")
        assert page.status_code == 200
        return page.text

    return read


@pytest.fixture
def text(markup: ReadPage) -> ReadPage:
    """What a page below BASE says, as it is read: a command in letters of its own is part of its sentence."""
    return lambda path: unescape(re.sub("</?code>", "", markup(path)))


@pytest.fixture
def home(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in warm_commands().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PREFECT_UI_ENABLED", raising=False)
    return recorded / "data" / "prefect"


@pytest.fixture
def prefect(tmp_path: Path) -> PrefectServer:
    return PrefectServer(tmp_path / "runs")
