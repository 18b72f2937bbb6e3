"""Metrics of the exporter: names, types, help and label values on the recorded stores, and its other answers."""

from __future__ import annotations

import os
import re
import subprocess
import time
import urllib.error
import urllib.request

from tests.golden.conftest import RoasCommand, golden
from tests.support.commands import own_process
from tests.support.ports import free_port


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scraped(roas: RoasCommand) -> list[str]:
    port = free_port()
    request = roas.request("metrics", "--port", str(port))
    with (roas.folder / "log").open("w") as log:
        exporter = subprocess.Popen(own_process(request), env=os.environ, stderr=log)
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                status, text = get(f"http://127.0.0.1:{port}/metrics")
                break
            except OSError:
                assert exporter.poll() is None, (roas.folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        others = [f"GET {path}: {get(f'http://127.0.0.1:{port}{path}')}" for path in ("/healthz", "/nosuch")]
    finally:
        exporter.terminate()
        exporter.wait(20)
    assert status == 200
    series = [line if line.startswith("#") else line.rpartition(" ")[0] for line in text.splitlines()]
    # Each release has another one.
    series = [re.sub(r'(roas_build_info\{version=")[^"]+', r"\1VERSION", line) for line in series]
    return [*others, "GET /metrics, without values:", *series]


def test_metrics(recorded: RoasCommand) -> None:
    golden("metrics.txt", "\n".join(scraped(recorded)))
