from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[3]
MAKE_BLOCK = "from prefect.blocks.system import Secret; Secret(value='x').save('encrypted-for-tests', overwrite=True)"
# Other tests may run beside these.
WITHIN_SECONDS = 150
PORTS = ("UI", "METRICS", "CACHE", "PROMETHEUS", "WORKER", "TLS")

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class ControlPlane:
    """The production control plane under a project name of its own, on free ports."""

    project: str
    ports: dict[str, int]

    def compose(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "compose", "--project-name", self.project, *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ
            | {"PWD": str(ROOT), "COMPOSE_PROFILES": "tls"}
            | {f"ROAS_{name}_PORT": str(port) for name, port in self.ports.items()},
        )

    def state(self, name: str) -> dict[str, Any]:
        """State of a container, as the engine has it."""
        command = ["docker", "inspect", "--format", "{{json .State}}", f"{self.project}-{name}"]
        state: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return state

    def run(self, deployment: str) -> subprocess.CompletedProcess[str]:
        return self.compose(
            *("exec", "-T", "worker", "with-secrets", "prefect", "deployment", "run", deployment, "--watch")
        )

    def get(self, port: str, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def ask_server(self, path: str) -> Any:
        """Filter the server's objects of one kind, logged in."""
        user, _, password = (ROOT / ".secrets/prefect_auth").read_text().partition(":")
        api = f"http://127.0.0.1:{self.ports['UI']}/api"
        with httpx.Client(base_url=api, auth=(user, password), timeout=60) as client:
            token = client.get("/csrf-token", params={"client": "test"}).raise_for_status().json()["token"]
            headers = {"Prefect-Csrf-Client": "test", "Prefect-Csrf-Token": token}
            return client.post(path, json={}, headers=headers).raise_for_status().json()


def is_healthy(state: dict[str, Any]) -> bool:
    return bool(state["Running"] and state["Health"]["Status"] == "healthy")


def await_state(plane: ControlPlane, name: str, reached: Callable[[dict[str, Any]], bool]) -> None:
    """Wait for a container's state. The engine's events of the past are few, and others fill them."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while not reached(state := plane.state(name)):
        assert time.monotonic() < deadline, (name, state)
        time.sleep(0.2)


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    with ExitStack() as held:
        sockets = {name: held.enter_context(socket.socket()) for name in PORTS}
        for one in sockets.values():
            one.bind(("127.0.0.1", 0))
        ports = {name: one.getsockname()[1] for name, one in sockets.items()}
    plane = ControlPlane(f"roas-test-{uuid.uuid4().hex[:8]}", ports)
    try:
        # Under the file's own project name: Compose writes it into the images, and another one would make new
        # images of the same content, for which a running control plane would be recreated.
        built = ControlPlane("roas-ops", ports).compose("--progress", "plain", "build")
        assert built.returncode == 0, built.stderr
        started = plane.compose("up", "--detach", "--wait")
        assert started.returncode == 0, started.stderr + plane.compose("logs", "--tail", "20").stdout
        yield plane
    finally:
        assert plane.compose("down", "--volumes", "--timeout", "5").returncode == 0


def test_the_server_answers_nobody_without_the_password(control_plane: ControlPlane) -> None:
    url = f"http://127.0.0.1:{control_plane.ports['UI']}/api/admin/version"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, auth=("roas", "wrong")).status_code == 401


def test_the_server_refuses_other_origins_and_names_although_the_browser_adds_the_login(
    control_plane: ControlPlane,
) -> None:
    port = control_plane.ports["UI"]
    url = f"http://127.0.0.1:{port}/api"
    user, _, password = (ROOT / ".secrets/prefect_auth").read_text().partition(":")
    with httpx.Client(auth=(user, password), timeout=60) as client:
        for named in (
            {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": f"http://127.0.0.1:{port + 1}"},
            {"Host": "evil.example"}, {"Host": f"evil.example:{port}"}, {"Host": "127.0.0.1"}, {"Host": ""},
        ):  # fmt: skip
            answers = [client.get(f"{url}/admin/version", headers=named)]
            answers.append(client.post(f"{url}/deployments/filter", json={}, headers=named))
            assert [answer.status_code for answer in answers] == [403, 403], named
            assert answers[0].text.startswith("This server answers "), named
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        assert "access-control-allow-origin" not in client.options(f"{url}/deployments/filter", headers=asked).headers
        # Without a token of its own page, nothing is changed either.
        bare = client.post(f"{url}/deployments/filter", json={})
        assert (bare.status_code, bare.json()) == (403, {"detail": "Missing CSRF token."})


def test_the_server_answers_its_own_page_by_each_of_its_addresses(control_plane: ControlPlane) -> None:
    ui, tls = control_plane.ports["UI"], control_plane.ports["TLS"]
    user, _, password = (ROOT / ".secrets/prefect_auth").read_text().partition(":")
    # That the certificate is checked is a test of Caddy's.
    with httpx.Client(auth=(user, password), verify=False, timeout=60) as client:
        for origin in (f"http://127.0.0.1:{ui}", f"http://localhost:{ui}", f"https://localhost:{tls}"):
            token = client.get(f"{origin}/api/csrf-token", params={"client": "page"}).raise_for_status().json()["token"]
            headers = {"Origin": origin, "Prefect-Csrf-Client": "page", "Prefect-Csrf-Token": token}
            answer = client.post(f"{origin}/api/deployments/filter", json={}, headers=headers)
            assert (answer.status_code, type(answer.json())) == (200, list), origin
            page = client.get(f"{origin}/")
            assert (page.status_code, page.headers["x-frame-options"][:4]) == (200, "DENY"), origin
        inside = client.get(f"http://127.0.0.1:{ui}/api/admin/version", headers={"Host": "server:4200"})
        assert inside.status_code == 200


def test_the_exporter_does_not_reach_the_messages(control_plane: ControlPlane) -> None:
    script = "import socket, sys; socket.create_connection((sys.argv[1], 6379), 3)"

    def reach(service: str, host: str) -> subprocess.CompletedProcess[str]:
        return control_plane.compose("exec", "-T", service, "/opt/roas/bin/python", "-c", script, host)

    assert reach("server", "messaging").returncode == 0
    assert reach("exporter", "cache").returncode == 0
    by_name = reach("exporter", "messaging")
    assert "gaierror" in by_name.stderr
    container = control_plane.compose("ps", "--quiet", "messaging").stdout.strip()
    address = subprocess.run(
        ["docker", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert reach("exporter", address).returncode != 0


def test_the_password_of_the_cache_is_refused_by_the_messages(control_plane: ControlPlane) -> None:
    def ping(password: str) -> str:
        script = f"REDISCLI_AUTH={password} redis-cli --no-auth-warning ping"
        done = control_plane.compose("exec", "-T", "messaging", "sh", "-c", script)
        return done.stdout + done.stderr

    assert "WRONGPASS" in ping((ROOT / ".secrets/cache_password").read_text())
    assert "PONG" in ping((ROOT / ".secrets/messaging_password").read_text())


def test_the_key_of_encrypted_blocks_is_not_in_the_database(control_plane: ControlPlane) -> None:
    control_plane.compose("exec", "-T", "worker", "with-secrets", "python", "-c", MAKE_BLOCK)
    question = (
        "SELECT (SELECT count(*) FROM block_document WHERE name = 'encrypted-for-tests'), "
        "(SELECT count(*) FROM configuration WHERE key = 'ENCRYPTION_KEY')"
    )
    asked = control_plane.compose(
        *("exec", "-T", "postgres", "psql", "-h", "/tmp", "-U", "prefect", "-At", "-c", question)
    )
    assert asked.stdout.strip() == "1|0", asked.stderr


def test_every_flow_of_every_environment_is_deployed(control_plane: ControlPlane) -> None:
    deployed = {
        (deployment["name"], deployment["entrypoint"].rsplit(".", 1)[1])
        for deployment in control_plane.ask_server("/deployments/filter")
    }
    flows = {"startup", "stop", "restart", "health_check", "collection", "error_recovery", "lifecycle"}
    assert {(name, flow) for name in ("dev", "prod") for flow in flows} <= deployed


def test_a_run_asked_of_the_server_looks_at_the_engine_and_is_recorded(control_plane: ControlPlane) -> None:
    done = control_plane.run("collection/prod")
    assert "Completed" in done.stdout, done.stdout + done.stderr
    metrics = control_plane.get("METRICS", "/metrics")
    assert 'roas_heartbeat_timestamp_seconds{environment="prod",name="collection"}' in metrics


def test_prometheus_reads_the_exporter_and_its_rules(control_plane: ControlPlane) -> None:
    targets = json.loads(control_plane.get("PROMETHEUS", "/api/v1/targets"))["data"]["activeTargets"]
    assert {target["labels"]["job"] for target in targets} == {"roas", "prometheus", "alertmanager"}
    groups = json.loads(control_plane.get("PROMETHEUS", "/api/v1/rules"))["data"]["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
    assert groups


def test_nothing_runs_as_root_but_what_has_the_engine_s_socket(control_plane: ControlPlane) -> None:
    listed = control_plane.compose("ps", "--format", "json").stdout
    for line in listed.splitlines():
        service = json.loads(line)["Service"]
        if service not in ("socket-proxy", "supervisor"):
            user = control_plane.compose("exec", "-T", service, "id", "-u").stdout.strip()
            assert user.isdigit(), service
            assert user != "0", service


def test_no_password_can_be_read_from_a_container_s_settings(control_plane: ControlPlane) -> None:
    names = control_plane.compose("ps", "--all", "--quiet").stdout.split()
    inspected = subprocess.run(["docker", "inspect", *names], capture_output=True, text=True, check=True).stdout
    for secret in (ROOT / ".secrets").iterdir():
        assert secret.read_text() not in inspected, secret.name


def test_a_worker_does_not_become_root_on_the_host(control_plane: ControlPlane) -> None:
    label = ("--label", "com.docker.compose.project=roas-sample-prod")
    proxy, server = (f"{control_plane.project}-{service}-1" for service in ("socket-proxy", "server"))
    for attack in (
        ("run", "--privileged", "--volume", "/:/host", *label, "debian:trixie-slim", "true"),
        ("create", "--volume", "/:/host", "debian:trixie-slim", "true"),
        ("create", *label, "--volume", "/var/run/docker.sock:/s", "debian:trixie-slim", "true"),
        ("create", *label, "--volume", f"{control_plane.project}_data:/d", "debian:trixie-slim", "true"),
        ("create", *label, "--network", f"{control_plane.project}_api", "debian:trixie-slim", "true"),
        ("exec", proxy, "id"),
        ("exec", server, "id"),
        ("rm", "--force", server),
        ("image", "rm", "--force", "roas/ops:local"),
    ):
        done = control_plane.compose("exec", "-T", "worker", "docker", *attack)
        assert done.returncode != 0, attack
        assert "engine broker:" in done.stderr, done.stderr
    seen = control_plane.compose("exec", "-T", "worker", "docker", "inspect", server)
    assert seen.returncode == 0
    assert "Env" not in json.loads(seen.stdout)[0]["Config"]


HEALS = (
    *("postgres-1", "messaging-1", "cache-1", "server-1", "services-1", "caddy-1", "socket-proxy-1"),
    *("supervisor-1", "supervisor-2", "worker-1", "exporter-1", "prometheus-1", "alertmanager-1"),
)


@pytest.mark.parametrize("name", HEALS)
def test_a_killed_service_is_started_again_and_becomes_healthy(control_plane: ControlPlane, name: str) -> None:
    killed = control_plane.state(name)
    subprocess.run(["docker", "kill", f"{control_plane.project}-{name}"], check=True, capture_output=True)
    await_state(control_plane, name, lambda state: state["StartedAt"] != killed["StartedAt"] and is_healthy(state))


@pytest.mark.parametrize("missing", ["postgres-1", "messaging-1"])
def test_what_needs_a_stopped_service_calls_itself_unhealthy_and_comes_back_with_it(
    control_plane: ControlPlane, missing: str
) -> None:
    needing = ("server-1", "services-1", "worker-1")
    subprocess.run(["docker", "stop", f"{control_plane.project}-{missing}"], check=True, capture_output=True)
    try:
        for name in needing:
            await_state(control_plane, name, lambda state: state["Health"]["Status"] == "unhealthy")
        # Nothing starts what a person stopped.
        assert control_plane.state(missing)["Status"] == "exited"
    finally:
        again = control_plane.compose("start", missing.partition("-")[0])
    assert again.returncode == 0, again.stderr
    for name in needing:
        await_state(control_plane, name, is_healthy)
    assert "Completed" in control_plane.run("collection/prod").stdout


def test_the_worker_watches_each_environment_itself_and_nothing_is_scheduled_to(control_plane: ControlPlane) -> None:
    scheduled = {
        deployment["entrypoint"].rsplit(".", 1)[1]
        for deployment in control_plane.ask_server("/deployments/filter")
        if deployment["schedules"]
    }
    assert scheduled == {"drift", "report", "lifecycle"}
    said = control_plane.compose("logs", "worker").stdout
    assert all(f"watching {name}" in said for name in ("dev", "prod"))
