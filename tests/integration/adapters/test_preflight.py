"""Facts gathered from real projects without changing them."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from adapters.docker.unix_http import UnixConnection
from adapters.preflight import gather_facts
from core.deployment.validate import validate
from models.validation import Check, Facts, Trouble
from tests.integration.adapters.conftest import ComposeProject
from tests.support.ports import free_port

pytestmark = pytest.mark.engine
Make = Callable[..., ComposeProject]


def findings(facts: Facts, name: str) -> list[Check]:
    return [check for check in validate(facts, datetime.now(UTC)).failed_checks if check.name == name]


async def test_a_sound_project_has_no_critical_finding_and_is_left_as_it_was(make_project: Make) -> None:
    project = make_project("services: {a: {image: IMAGE, command: FOREVER, restart: always}}")
    facts = await gather_facts(project.environment)
    assert validate(facts, datetime.now(UTC)).passed
    assert facts.application.services.keys() == {"a"}
    assert project.engine.containers.inspect_project(project.name) == []
    assert project.engine.networks.find(project.name) == []


async def test_an_engine_that_is_away_is_a_fact(make_project: Make) -> None:
    project = make_project("services: {a: {image: IMAGE}}", engine="unix:///nowhere/docker.sock")
    facts = await gather_facts(project.environment)
    assert isinstance(facts.engine, Trouble)
    assert "unix:///nowhere" in facts.engine.what
    assert not validate(facts, datetime.now(UTC)).passed


async def test_files_that_do_not_parse_are_a_fact(make_project: Make) -> None:
    facts = await gather_facts(make_project("services: {a: {image: [").environment)
    assert isinstance(facts.declared, Trouble)
    assert len(findings(facts, "compose_files")) == 1


async def test_variables_and_secrets_that_are_missing_are_named(
    make_project: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)
    text = 'services: {a: {image: IMAGE, command: FOREVER, environment: {A: "${EMPTY}", B: "${UNSET}", C: "${D:-x}"}}}'
    project = make_project(text, variables=["WANTED"], secrets=[{"name": "PW", "file": "/nowhere/pw"}])
    facts = await gather_facts(project.environment)
    assert facts.missing_variables == ("WANTED",)
    assert "PW" in facts.missing_secrets
    assert {check.subject for check in findings(facts, "interpolation")} == {"EMPTY", "UNSET"}


async def test_a_used_port_is_reported_with_its_holder(make_project: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = f"['127.0.0.1:{port}:80']"
        project = make_project(f"services: {{a: {{image: IMAGE, command: FOREVER, ports: {ports}}}}}")
        (found,) = findings(await gather_facts(project.environment), "ports")
    assert f"(pid {os.getpid()})" in found.finding
    assert findings(await gather_facts(project.environment), "ports") == []


async def test_a_port_of_the_applications_own_container_is_no_finding(make_project: Make) -> None:
    text = f"services: {{a: {{image: IMAGE, command: FOREVER, ports: ['127.0.0.1:{free_port()}:80']}}}}"
    project = make_project(text)
    project.started()
    facts = await gather_facts(project.environment)
    assert findings(facts, "ports") == []
    assert facts.ports[0].own
    other = make_project(text)
    (found,) = findings(await gather_facts(other.environment), "ports")
    assert f"container {project.name}-a-1 of project {project.name}" in found.finding


async def test_one_port_cannot_serve_two_replicas(make_project: Make) -> None:
    fields = f"ports: ['127.0.0.1:{free_port()}:80'], deploy: {{replicas: 2}}"
    project = make_project(f"services: {{a: {{image: IMAGE, command: FOREVER, {fields}}}}}")
    (found,) = findings(await gather_facts(project.environment), "ports")
    assert "its own 2 replicas" in found.finding


async def test_an_image_that_cannot_be_had_is_found_and_one_to_build_is_not(make_project: Make) -> None:
    text = """\
services:
  gone: {image: "registry.invalid/nothing:1"}
  never: {image: "nothing:1", pull_policy: never}
  built: {build: ./here}
  unbuilt: {build: ./nowhere}
"""
    project = make_project(text)
    (project.folder / "here").mkdir()
    (project.folder / "here" / "Dockerfile").write_text("FROM scratch\n")
    found = findings(await gather_facts(project.environment), "image")
    assert sorted(check.subject or "" for check in found) == ["gone", "never", "unbuilt"]


async def test_a_health_check_with_a_program_the_image_lacks_is_found(make_project: Make) -> None:
    text = """\
services:
  curl: {image: IMAGE, command: FOREVER, healthcheck: {test: [CMD, curl, -f, "http://localhost"]}}
  shell: {image: IMAGE, command: FOREVER, healthcheck: {test: "test -e /etc/passwd"}}
  absolute: {image: IMAGE, command: FOREVER, healthcheck: {test: [CMD, /bin/nothing]}}
"""
    facts = await gather_facts(make_project(text).environment)
    held = facts.images[0].held
    assert held is not None
    # Only root may look into the engine's layers; to others the check stays silent.
    visible = bool(held.layers) and all(os.access(layer, os.R_OK) for layer in held.layers)
    found = {check.subject for check in findings(facts, "health_check")}
    assert found == ({"curl", "absolute"} if visible else set())


MOUNTS = """\
services:
  a:
    image: IMAGE
    command: FOREVER
    volumes: ["./gone:/gone", "./settings.json:/settings.json:ro", "./folder:/folder:ro"]
    configs: [missing]
configs: {missing: {file: ./missing.txt}}
"""


async def test_mounts_are_looked_at_and_their_files_parsed(make_project: Make) -> None:
    project = make_project(MOUNTS)
    (project.folder / "settings.json").write_text('{"a": 1,}')
    (project.folder / "folder").mkdir()
    (project.folder / "folder" / "good.yaml").write_text("a: !custom [1, 2]\n---\nb: 2\n")
    facts = await gather_facts(project.environment)
    reported = [check.finding for check in findings(facts, "mounts")]
    assert len(reported) == 2
    assert any("gone" in one and "empty folder" in one for one in reported)
    assert any("missing.txt" in one for one in reported)
    (parse,) = findings(facts, "mounted_configuration")
    assert "settings.json does not parse" in parse.finding
    (project.folder / "folder" / "bad.toml").write_text("= 1")
    assert len(findings(await gather_facts(project.environment), "mounted_configuration")) == 2


async def test_a_file_its_user_may_not_read_is_found(make_project: Make) -> None:
    text = "services: {a: {image: IMAGE, command: FOREVER, user: '12345', volumes: ['./key:/key:ro']}}"
    project = make_project(text)
    key = project.folder / "key"
    key.write_text("secret")
    key.chmod(0o600)
    (found,) = findings(await gather_facts(project.environment), "mounts")
    assert "its user 12345 may not read it" in found.finding
    key.chmod(0o644)
    assert findings(await gather_facts(project.environment), "mounts") == []


async def test_a_folder_its_user_may_not_write_into_is_found(make_project: Make) -> None:
    text = "services: {a: {image: IMAGE, command: FOREVER, user: '12345', volumes: ['./data:/data']}}"
    project = make_project(text)
    folder = project.folder / "data"
    folder.mkdir()
    folder.chmod(0o755)
    (found,) = findings(await gather_facts(project.environment), "mounts")
    assert "its user 12345 may not write into it" in found.finding
    folder.chmod(0o777)
    assert findings(await gather_facts(project.environment), "mounts") == []


async def test_an_empty_folder_in_the_place_of_a_file_is_found(make_project: Make) -> None:
    text = "services: {a: {image: IMAGE, command: FOREVER, volumes: ['./app.conf:/etc/app.conf:ro']}}"
    project = make_project(text)
    (project.folder / "app.conf").mkdir()
    (found,) = findings(await gather_facts(project.environment), "mounts")
    assert "/etc/app.conf looks like a file" in found.finding


async def test_a_broken_configuration_is_reported_without_the_line_that_may_hold_a_password(make_project: Make) -> None:
    text = "services: {a: {image: IMAGE, command: FOREVER, volumes: ['./app.yaml:/app.yaml:ro']}}"
    project = make_project(text)
    (project.folder / "app.yaml").write_text("user: me\nmail: it-is-hidden: [x\n")
    (found,) = findings(await gather_facts(project.environment), "mounted_configuration")
    assert "app.yaml does not parse" in found.finding
    assert "line 2" in found.finding
    assert "it-is-hidden" not in found.finding


async def test_a_fifo_a_device_and_a_link_to_nothing_among_configuration_are_passed_over(make_project: Make) -> None:
    text = "services: {a: {image: IMAGE, command: FOREVER, volumes: ['./conf:/conf:ro']}}"
    project = make_project(text)
    folder = project.folder / "conf"
    folder.mkdir()
    os.mkfifo(folder / "fifo.json")
    (folder / "zero.yaml").symlink_to("/dev/zero")
    (folder / "gone.toml").symlink_to(folder / "nothing")
    (folder / "deep.json").write_text("[" * 100_000)
    (found,) = findings(await gather_facts(project.environment), "mounted_configuration")
    assert "deep.json does not parse" in found.finding


async def test_the_kernel_s_most_open_files_are_known_and_compared(make_project: Make) -> None:
    limit = "ulimits: {nofile: 2000000000}"
    facts = await gather_facts(
        make_project(f"services: {{a: {{image: IMAGE, command: FOREVER, {limit}}}}}").environment
    )
    assert facts.host is not None
    assert facts.host.open_files_most == int(Path("/proc/sys/fs/nr_open").read_text())
    assert len(findings(facts, "open_files")) == 1


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_prometheus_judges_its_own_configuration(make_project: Make, tmp_path: Path) -> None:
    text = "services: {p: {image: 'prom/prometheus', pull_policy: never, volumes: ['./prometheus.yml:/p.yml:ro']}}"
    project = make_project(text)
    (tmp_path / "prometheus.yml").write_text("scrape_configs: [{job: x}]\n")
    (found,) = findings(await gather_facts(project.environment), "mounted_configuration")
    assert "field job not found" in found.finding
    assert found.severity == "critical"
    (tmp_path / "prometheus.yml").write_text("scrape_configs: [{job_name: x}]\n")
    assert findings(await gather_facts(project.environment), "mounted_configuration") == []


async def test_external_networks_and_volumes_that_are_not_there_are_found(make_project: Make) -> None:
    text = """\
services: {a: {image: IMAGE, command: FOREVER, networks: [outer], volumes: ["data:/d"]}}
networks: {outer: {external: true, name: roas-test-no-such-network}}
volumes: {data: {external: true, name: roas-test-no-such-volume}}
"""
    facts = await gather_facts(make_project(text).environment)
    assert len(findings(facts, "networks")) == 1
    assert len(findings(facts, "volumes")) == 1


async def test_who_holds_the_environment_is_passed_on(make_project: Make) -> None:
    project = make_project("services: {a: {image: IMAGE}}")
    facts = await gather_facts(project.environment, held_by="start 1 of somebody")
    assert "somebody" in findings(facts, "another_run")[0].finding
    assert findings(replace(facts, held_by=None), "another_run") == []


class _Guarded(BaseHTTPRequestHandler):
    """A proxy in front of the engine that allows little."""

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if not any(path.endswith(allowed) for allowed in ("/version", "/info", "/containers/json")):
            self._say(403, b"<html>Forbidden</html>")
            return
        with closing(UnixConnection("/var/run/docker.sock", seconds=10)) as engine:
            engine.request("GET", self.path)
            answer = engine.getresponse()
            self._say(answer.status, answer.read())

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


async def test_what_a_proxy_forbids_is_a_gap_and_no_error(make_project: Make) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Guarded)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        address = f"tcp://127.0.0.1:{server.server_port}"
        project = make_project("services: {a: {image: IMAGE, command: FOREVER}}", engine=address)
        facts = await gather_facts(project.environment)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert (facts.networks, facts.volumes, facts.images, facts.host) == (None, None, (), None)
    assert sum("forbids" in gap for gap in facts.gaps) == 3
    assert validate(facts, datetime.now(UTC)).passed
