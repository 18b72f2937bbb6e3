"""One Prefect server of the tests' own, for all that runs flows: as `roas` runs it, password and all."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

TIMEOUT_SECONDS = 300


_CACHE = Path(__file__).parents[2] / ".pytest_cache"


def copy_database(home: Path) -> None:
    """Give a server that starts in this folder a database whose tables are made: making them is most of its start."""
    _CACHE.mkdir(exist_ok=True)
    template = _CACHE / f"prefect-{version('prefect')}"
    with (_CACHE / "prefect.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            _make_database(template)
    shutil.copytree(template, home, dirs_exist_ok=True)


def _make_database(template: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="prefect-", dir=_CACHE) as folder:
        home, made = Path(folder) / "home", Path(folder) / "made"
        with own_server(home, new_database=True):
            pass
        made.mkdir()
        shutil.copy(home / "memo_store.toml", made)
        with closing(sqlite3.connect(home / "prefect.db")) as database:
            database.execute("VACUUM INTO ?", [str(made / "prefect.db")])
        made.rename(template)


@contextmanager
def own_server(home: Path, *, with_ui: bool = False, new_database: bool = False) -> Iterator[str]:
    """Run a server that records the flows of this process; give its API's address.

    Its database is a copy of one that is made once, unless the folder has one or the server shall make it.
    """
    # Prefect takes seconds to import, which tests without flows need not wait for.
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    from adapters.server.credentials import server_credentials
    from flows.server.embedded import api_server, client_environment, listening_socket, wait_for_api

    if not (new_database or (home / "prefect.db").exists()):
        copy_database(home)
    credentials = server_credentials(home)
    with listening_socket(0) as listening, api_server(credentials, listening, with_ui=with_ui) as server:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in client_environment(credentials, server.url).items():
                patch.setenv(name, value)
            wait_for_api(server=server.process)
        with temporary_settings(
            {PREFECT_API_URL: server.url, PREFECT_API_AUTH_STRING: credentials.auth_string},
        ):
            yield server.url
            APILogWorker.drain_all(timeout=5)


@contextmanager
def temporary_server() -> Iterator[None]:
    """A server for a program, with its files in a folder that ends with it."""
    with tempfile.TemporaryDirectory(prefix="roas-prefect-") as folder, own_server(Path(folder) / "home"):
        yield


def server_variables() -> dict[str, str]:
    """The environment of a process whose runs are recorded by the same server."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

    return os.environ | {
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PREFECT_API_AUTH_STRING": str(PREFECT_API_AUTH_STRING.value()),
    }


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.SERVICE_UNAVAILABLE


# A server answers 503 where its SQLite database is busy; Prefect's own client asks again, too.
@retry(retry=retry_if_exception(_is_busy), stop=stop_after_delay(60), wait=wait_fixed(1), reraise=True)
def ask(url: str, auth_string: str, path: str, question: dict[str, Any] | None = None) -> Any:
    """What an API answers one who is signed in: to a question, or about one thing."""
    user, _, password = auth_string.partition(":")
    with httpx.Client(base_url=f"{url}/", auth=(user, password), timeout=300) as client:
        if question is None:
            answer = client.get(path)
        else:
            token = client.get("csrf-token", params={"client": "tests"}).raise_for_status().json()["token"]
            headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tests"}
            answer = client.post(path, json=question, headers=headers)
        return answer.raise_for_status().json()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server that every flow run of the session is recorded by."""
    with own_server(tmp_path_factory.mktemp("prefect") / "home"):
        yield
