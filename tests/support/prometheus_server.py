"""A Prometheus of the tests' own, which scrapes an exporter all the time, and how to ask it."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
import yaml

from tests.support import patient_http
from tests.support.ports import free_port

prometheus_needed = pytest.mark.skipif(
    not shutil.which("prometheus") or not shutil.which("promtool"), reason="prometheus is not installed"
)

_READY_WITHIN_SECONDS = 300
# The default reads the machine's authorities at each question.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrometheusForTests:
    """A running server."""

    url: str

    def ask(self, query: str) -> list[Any]:
        """What a query gives now; it must be one that Prometheus understands."""
        answer = self._get("query", query=query)
        result: list[Any] = answer["result"]
        return result

    def rules(self) -> list[dict[str, Any]]:
        """Every rule as it was last evaluated."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {one["labels"]["alertname"] for one in self._get("alerts")["alerts"] if one["state"] == "firing"}

    def _get(self, what: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=30, verify=_NO_TLS).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]


@contextmanager
def prometheus(folder: Path, exporter: str, rules: Path, every: str = "2s") -> Iterator[PrometheusForTests]:
    """A server with some rules that scrapes one address; its data goes into a folder.

    A scrape may take as long as the time to the next one: on a busy machine half a second was too short for every one.
    """
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": "500ms"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "roas", "static_configs": [{"targets": [exporter]}]}],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    with running_prometheus(file, folder / "tsdb") as server:
        yield server


@contextmanager
def running_prometheus(
    config: Path, data: Path, *options: str, variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[PrometheusForTests]:
    """A server with a configuration file, options of its own and environment variables."""
    port = free_port()
    command = [
        *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=error", *options),
    ]
    process = subprocess.Popen(command, env=os.environ | dict(variables))
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, process)
        yield PrometheusForTests(url=url)
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_WITHIN_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "prometheus ended"
        try:
            if patient_http.get(f"{url}/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("prometheus did not become ready")
