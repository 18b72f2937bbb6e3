"""The Prefect API for one command: the server that is there, or a temporary one of our own.

A temporary server needs seconds to import and start, so it is started before anything else is imported
and waited for only when the first flow needs it.
"""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from models.failures import RoasError
from models.settings import Settings, current_settings

RUN_SETTINGS = {
    # Our own log goes to the server as well, where a run's page shows it; that a task came to its end as it should
    # is no news there.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "roas",
    "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",
}
"""What the engine is told in a process that runs flows, where nobody has told it otherwise."""

START_WITHIN = timedelta(seconds=240)
"""The first start of a new data folder also makes the server's own database; under load 90 s were too few."""

ANSWERS_WITHIN = timedelta(seconds=30)
"""A server that was started by somebody else is there, or it is not."""


@contextmanager
def prefect_api(settings: Settings) -> Iterator[timedelta]:
    """Give the commands inside a Prefect API to record their runs on; how long to wait for it.

    PREFECT_API_URL wins; then a server at the usual place (`roas serve`, or the production control plane);
    then a temporary one, which keeps its runs in the data folder so that `roas serve` shows them later.

    Raises:
        RoasError: The temporary server did not start.
    """
    for name, value in RUN_SETTINGS.items():
        os.environ.setdefault(name, value)
    if os.environ.get("PREFECT_API_URL"):
        yield ANSWERS_WITHIN
        return
    usual = f"http://127.0.0.1:{settings.server_port}/api"
    if _answers(usual):
        os.environ["PREFECT_API_URL"] = usual
        yield ANSWERS_WITHIN
        return
    with _temporary_server(settings.data_dir / "prefect") as url:
        os.environ["PREFECT_API_URL"] = url
        yield START_WITHIN


def wait_for_api(within: timedelta = START_WITHIN) -> None:
    """Wait until the API that `prefect_api` promised answers.

    Raises:
        RoasError: It did not answer in time, or its process ended.
    """
    url = os.environ["PREFECT_API_URL"]
    deadline = time.monotonic() + within.total_seconds()
    while not _answers(url):
        if time.monotonic() > deadline:
            raise RoasError(
                f"Prefect API at {url} did not answer;", advice="does the server run, and does PREFECT_API_URL name it?"
            )
        time.sleep(0.05)


def server_environment(home: Path) -> dict[str, str]:
    """What a Prefect server of ours is started with: its files in one folder, and no words to the outside."""
    retention = current_settings().retention
    return {
        **os.environ,
        "PREFECT_HOME": str(home.absolute()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # The newer UI calls an analytics host whatever is set, and hides Resume and Retry in a menu.
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # Kept in memory, the leases of runs that live on die with a server that is killed, and their limit with them.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_API_URL": "",
        # Its own record grows by 17 to 221 KB a run; the life cycle looks after servers that live for a moment.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(round(retention.failed_runs.total_seconds())),
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P7D",
        # The recorder's defaults write one row at a time, which SQLite answers slowly.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "2",
    }


@contextmanager
def _temporary_server(home: Path) -> Iterator[str]:
    home.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    with (home / "server.log").open("a") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"),
                *("--host", "127.0.0.1", "--port", str(port), "--log-level", "error"),
            ],
            env=server_environment(home)
            | {
                "PREFECT_LOGGING_TO_API_ENABLED": "false",
                "PREFECT_UI_ENABLED": "0",
                "PREFECT__SERVER_EPHEMERAL": "1",
                "PREFECT__SERVER_FINAL": "1",
            },
            stdout=log,
            stderr=log,
            # Ctrl-C in a terminal goes to a whole group, and what is interrupted has its end yet to record.
            start_new_session=True,
        )
    os.environ["PREFECT_HOME"] = str(home.absolute())
    try:
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    """Whether a Prefect API is there that lets us in; one that wants a password we lack is not ours to use."""
    question = urllib.request.Request(f"{url}/admin/version")  # noqa: S310 - http by construction
    if credentials := os.environ.get("PREFECT_API_AUTH_STRING"):
        question.add_header("Authorization", "Basic " + base64.b64encode(credentials.encode()).decode())
    try:
        with urllib.request.urlopen(question, timeout=1) as answer:  # noqa: S310 - http by construction
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
