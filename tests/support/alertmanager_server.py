"""An Alertmanager of the tests' own, as its image starts it, and a receiver that keeps what is posted to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import patient_http
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
START = ROOT / "deployments/images/alertmanager/start"
FOLDER = ROOT / "deployments/alertmanager"

alertmanager_needed = pytest.mark.skipif(not shutil.which("amtool"), reason="prometheus-alertmanager is not installed")

_WITHIN_SECONDS = 300
POLL_SECONDS = 0.05
"""How often a server of this process looks whether it shall end; half a second is the usual."""


class Receiver:
    """What was posted so far."""

    def __init__(self) -> None:
        self.posted: list[Any] = []
        self._came = threading.Condition()

    def add(self, body: Any) -> None:
        with self._came:
            self.posted.append(body)
            self._came.notify_all()

    def wait_for(self, text: str) -> Any:
        """The first post that holds a text."""
        with self._came:
            assert self._came.wait_for(lambda: self._with(text), _WITHIN_SECONDS), (text, self.posted)
            return self._with(text)[0]

    def _with(self, text: str) -> list[Any]:
        return [one for one in self.posted if text in json.dumps(one)]


@contextmanager
def receiver(host: str = "127.0.0.1") -> Iterator[tuple[Receiver, str]]:
    """A receiver and its address."""
    kept = Receiver()

    class ManagerHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.add(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            pass

    with ThreadingHTTPServer((host, 0), ManagerHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,))
        thread.start()
        try:
            yield kept, f"http://{host}:{server.server_address[1]}/alerts"
        finally:
            server.shutdown()
            thread.join()


def config_with(folder: Path, address: str) -> Path:
    """A copy of the deployed configuration in a folder that waits for nothing and has a receiver's address."""
    (folder / "roas.tmpl").write_text((FOLDER / "roas.tmpl").read_text())
    (folder / "alert_url").write_text(address)
    text = (FOLDER / "alertmanager.yml").read_text()
    for old, new in {
        "/run/secrets/alert_url": str(folder / "alert_url"),
        "/config/": f"{folder}/",
        "group_wait: 30s": "group_wait: 1s",
        "group_interval: 5m": "group_interval: 1s",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    config = folder / "alertmanager.yml"
    config.write_text(text)
    return config


def environment_of(folder: Path, config: Path, receiver_name: str) -> dict[str, str]:
    """The variables that the start script reads."""
    (folder / "written").mkdir(exist_ok=True)
    return os.environ | {
        "ALERTMANAGER_CONFIG": str(config),
        "ALERTMANAGER_DATA": str(folder / "data"),
        "ALERT_RECEIVER": receiver_name,
        "ALERT_URL_FILE": str(folder / "alert_url"),
        "TMPDIR": str(folder / "written"),
    }


@contextmanager
def alertmanager(folder: Path, config: Path, receiver_name: str) -> Iterator[str]:
    """A running server; its address."""
    port = free_port()
    command = ["sh", START, f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen(command, env=environment_of(folder, config, receiver_name))
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + _WITHIN_SECONDS
        while not _is_ready(url):
            assert process.poll() is None, "alertmanager ended"
            assert time.monotonic() < deadline, "alertmanager did not become ready"
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        return patient_http.get(f"{url}/-/ready").status_code == 200
    except httpx.TransportError:
        return False
