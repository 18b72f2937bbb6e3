"""The production control plane for a fleet: who may do what, what heals, and its upgrade while operations run."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests.e2e.browser.serving import browser
from tests.e2e.browser.test_the_page import Person
from tests.e2e.deployments.composed import ComposedPlane, composed_plane, is_healthy
from tests.e2e.deployments.later_version import VERSION, bring_later_version
from tests.e2e.fleet.conftest import LocalHost, made_host
from tests.support import patient_http
from tests.support.docker_command import docker_command

MAKE_BLOCK = "from prefect.blocks.system import Secret; Secret(value='x').save('encrypted-for-tests', overwrite=True)"

pytestmark = [pytest.mark.engine, pytest.mark.campaign(seconds=5)]


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposedPlane]:
    with composed_plane(tmp_path_factory.mktemp("checkout")) as plane:
        yield plane


@pytest.mark.campaign(seconds=120)
def test_the_server_answers_nobody_without_the_password(control_plane: ComposedPlane) -> None:
    url = f"http://127.0.0.1:{control_plane.ports['UI']}/api/admin/version"
    assert patient_http.get(url).status_code == 401
    assert patient_http.get(url, auth=("roas", "wrong")).status_code == 401


def test_the_server_refuses_other_origins_and_names_although_the_browser_adds_the_login(
    control_plane: ComposedPlane,
) -> None:
    port = control_plane.ports["UI"]
    url = f"http://127.0.0.1:{port}/api"
    user, _, password = control_plane.secret("prefect_auth").partition(":")
    with httpx.Client(auth=(user, password), timeout=300) as client:
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


def test_the_server_answers_its_own_page_by_each_of_its_addresses(control_plane: ComposedPlane) -> None:
    ui, tls = control_plane.ports["UI"], control_plane.ports["TLS"]
    user, _, password = control_plane.secret("prefect_auth").partition(":")
    # That the certificate is checked is a test of Caddy's.
    with httpx.Client(auth=(user, password), verify=False, timeout=300) as client:
        for origin in (f"http://127.0.0.1:{ui}", f"http://localhost:{ui}", f"https://localhost:{tls}"):
            token = client.get(f"{origin}/api/csrf-token", params={"client": "page"}).raise_for_status().json()["token"]
            headers = {"Origin": origin, "Prefect-Csrf-Client": "page", "Prefect-Csrf-Token": token}
            answer = client.post(f"{origin}/api/deployments/filter", json={}, headers=headers)
            assert (answer.status_code, type(answer.json())) == (200, list), origin
            page = client.get(f"{origin}/")
            assert (page.status_code, page.headers["x-frame-options"][:4]) == (200, "DENY"), origin
        inside = client.get(f"http://127.0.0.1:{ui}/api/admin/version", headers={"Host": "server:4200"})
        assert inside.status_code == 200


def test_the_exporter_does_not_reach_the_messages(control_plane: ComposedPlane) -> None:
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


def test_the_password_of_the_cache_is_refused_by_the_messages(control_plane: ComposedPlane) -> None:
    def ping(password: str) -> str:
        script = f"REDISCLI_AUTH={password} redis-cli --no-auth-warning ping"
        done = control_plane.compose("exec", "-T", "messaging", "sh", "-c", script)
        return done.stdout + done.stderr

    assert "WRONGPASS" in ping(control_plane.secret("cache_password"))
    assert "PONG" in ping(control_plane.secret("messaging_password"))


def test_the_key_of_encrypted_blocks_is_not_in_the_database(control_plane: ComposedPlane) -> None:
    control_plane.compose("exec", "-T", "worker", "with-secrets", "python", "-c", MAKE_BLOCK)
    question = (
        "SELECT (SELECT count(*) FROM block_document WHERE name = 'encrypted-for-tests'), "
        "(SELECT count(*) FROM configuration WHERE key = 'ENCRYPTION_KEY')"
    )
    asked = control_plane.compose(
        *("exec", "-T", "postgres", "psql", "-h", "/tmp", "-U", "prefect", "-At", "-c", question)
    )
    assert asked.stdout.strip() == "1|0", asked.stderr


def test_every_flow_of_every_environment_is_deployed(control_plane: ComposedPlane) -> None:
    deployed = {
        (deployment["name"], deployment["entrypoint"].rsplit(".", 1)[1]) for deployment in control_plane.deployments()
    }
    flows = {"startup", "stop", "restart", "health_check", "collection", "error_recovery", "lifecycle"}
    assert {(name, flow) for name in ("dev", "prod") for flow in flows} <= deployed


def test_a_run_asked_of_the_server_looks_at_the_engine_and_is_recorded(control_plane: ComposedPlane) -> None:
    done = control_plane.run("collection/prod")
    assert "Completed" in done.stdout, done.stdout + done.stderr
    metrics = control_plane.get("METRICS", "/metrics")
    assert 'roas_heartbeat_timestamp_seconds{environment="prod",name="collection"}' in metrics


def sign_in_path(control_plane: ComposedPlane) -> str:
    """What `roas open` prints in the worker, below the server's address."""
    asked = control_plane.compose("exec", "-T", "worker", "with-secrets", "roas", "open", "prod", "--json")
    address = json.loads(asked.stdout)["url"]
    assert address.startswith(f"{control_plane.address}/roas/sign-in/"), asked.stderr
    return str(address.removeprefix(control_plane.address))


def test_the_page_shows_what_the_worker_recorded_and_what_a_stop_would_stop(control_plane: ComposedPlane) -> None:
    done = control_plane.run("collection/prod")
    assert "Completed" in done.stdout, done.stdout + done.stderr
    path = sign_in_path(control_plane)

    with httpx.Client(base_url=f"http://127.0.0.1:{control_plane.ports['UI']}", timeout=300) as browser:
        assert browser.get("/roas/environments/prod").status_code == 401
        entered = browser.get(path)
        shown = browser.get(entered.headers["location"])
        stop = browser.get("/roas/do/stop/prod")

    assert (entered.headers["location"], shown.status_code) == ("/roas/environments/prod", 200)
    assert "prod" in shown.text
    assert stop.status_code == 200
    assert ">Stop</button>" in stop.text


@pytest.mark.campaign(seconds=30)
def test_the_page_shows_the_plan_that_the_worker_finds_out(control_plane: ComposedPlane) -> None:
    path = sign_in_path(control_plane)
    with httpx.Client(base_url=f"http://127.0.0.1:{control_plane.ports['UI']}", timeout=300) as browser:
        browser.get(path)
        shown = browser.get("/roas/do/start/prod", follow_redirects=True)
        # Its waiting is bounded by the page.
        while "refresh" in shown.headers:
            shown = browser.get(str(shown.url))

    assert re.search(r"Plan [0-9a-f]{8}", shown.text), shown.text
    assert 'name="preview"' in shown.text
    assert ">Start</button>" in shown.text


WITH_DATA = """
services:
  web:
    image: debian:trixie-slim
    pull_policy: never
    init: true
    network_mode: none
    environment: {{VERSION: "{version}"}}
    command: [sh, -c, 'touch /tmp/well; exec sleep 6000']
    volumes: ["things:/things"]
    healthcheck: {{test: [CMD, test, -e, /tmp/well], interval: 3s, start_period: 30s, start_interval: 200ms}}
volumes: {{things: {{}}}}
"""


@dataclass(frozen=True, slots=True)
class HostedShop:
    """An application with data on an enrolled host."""

    host: LocalHost
    name: str

    @classmethod
    def declared(cls, host: LocalHost) -> HostedShop:
        shop = cls(host, host.declare(data="{save: [{kind: files, volume: things}]}"))
        shop.write(1)
        return shop

    def write(self, version: int) -> None:
        (self.host.folder / self.name / "compose.yaml").write_text(WITH_DATA.format(version=version))

    def run(self, script: str) -> str:
        """What a script prints in the service."""
        return self.host.docker("exec", f"{self.name}-web-1", "sh", "-c", script)


@pytest.mark.campaign(seconds=90)
def test_the_page_shows_what_an_enrolled_host_would_do_and_exactly_that_is_done(
    control_plane: ComposedPlane, tmp_path: Path
) -> None:
    variables = {"ROAS_HOST_NAME": "host-p", "PREFECT_API_SSL_CERT_FILE": str(control_plane.authority())}
    with ExitStack() as at_end, made_host(tmp_path / "host", **variables) as host, browser() as page:
        shop = HostedShop.declared(host)
        at_end.callback(host.docker, "volume", "rm", f"{shop.name}_things", check=False)
        said = host.roas("join", control_plane.address, control_plane.invite("host-p"), "--no-service")
        assert "as host-p" in said, said
        agent, person, name = host.begin(), Person(page), shop.name
        base = f"http://127.0.0.1:{control_plane.ports['UI']}"
        page.goto(base + sign_in_path(control_plane))
        page.goto(f"{base}/roas/")

        # Nothing of it is on record but that the host watches it, and what it judges.
        expect(person.link(name)).to_be_visible()
        person.press(person.link(name))
        person.press(person.link("See the plan of its first start"))
        person.press(person.button("Start"))
        person.see_end("succeeded")
        shop.run("echo before > /things/file")

        shop.write(2)
        person.act(name, "Update", f"Update {name}")
        expect(page.get_by_role("row", name="web recreate")).to_be_visible()
        shop.write(3)
        person.press(person.button("Update"))
        person.see_end("Nothing that runs was touched")
        assert shop.run("echo $VERSION") == "1"
        person.press(person.link("See what it would do now"))
        person.press(person.button("Update"))
        person.see_end("succeeded")
        assert shop.run("echo $VERSION; echo after > /things/file") == "3"

        page.goto(f"{base}/roas/environments/{name}/snapshots")
        person.press(page.get_by_role("main").get_by_role("link", name="Restore").first)
        expect(page.get_by_role("heading", name="What would be lost")).to_be_visible()
        expect(page.get_by_text("Another release runs")).to_be_visible()
        person.write(page.get_by_label(f"Type {name} to confirm it"), name)
        person.press(person.button("Restore"))
        person.see_end("succeeded")
        assert shop.run("cat /things/file") == "before"

        person.act(name, "Roll back", f"Roll {name} back")
        expect(page.get_by_text("Undone, newest first")).to_be_visible()
        person.write(page.get_by_label(f"Type {name} to confirm it"), name)
        person.press(person.button("Roll back"))
        person.see_end("succeeded")
        assert shop.run("echo $VERSION") == "1"

        agent.terminate()
        assert agent.wait(timeout=300) == 0
        person.act(name, "Update", f"Update {name}")
        expect(page.get_by_role("status")).to_contain_text(re.compile("Host host-p .*(last|nothing was) heard of"))
        assert f"left {control_plane.address}" in host.roas("leave")
    asked = f"SELECT count(*) FROM errors.deployment_errors WHERE environment = '{name}'"
    assert control_plane.recorded(asked) == [(0,)]


def test_prometheus_reads_the_exporter_and_its_rules(control_plane: ComposedPlane) -> None:
    targets = json.loads(control_plane.get("PROMETHEUS", "/api/v1/targets"))["data"]["activeTargets"]
    assert {target["labels"]["job"] for target in targets} == {"roas", "prometheus", "alertmanager"}
    groups = json.loads(control_plane.get("PROMETHEUS", "/api/v1/rules"))["data"]["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
    assert groups


def test_nothing_runs_as_root_but_what_has_the_engine_s_socket(control_plane: ComposedPlane) -> None:
    listed = control_plane.compose("ps", "--format", "json").stdout
    for line in listed.splitlines():
        service = json.loads(line)["Service"]
        if service not in ("socket-proxy", "supervisor"):
            user = control_plane.compose("exec", "-T", service, "id", "-u").stdout.strip()
            assert user.isdigit(), service
            assert user != "0", service


def test_no_password_can_be_read_from_a_container_s_settings(control_plane: ComposedPlane) -> None:
    names = control_plane.compose("ps", "--all", "--quiet").stdout.split()
    inspected = docker_command("inspect", *names)
    for secret in (control_plane.checkout / ".secrets").iterdir():
        assert secret.read_text() not in inspected, secret.name


def test_a_worker_does_not_become_root_on_the_host(control_plane: ComposedPlane) -> None:
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
    *("postgres-1", "messaging-1", "stores-1", "cache-1", "server-1", "services-1", "caddy-1", "socket-proxy-1"),
    *("supervisor-1", "supervisor-2", "worker-1", "exporter-1", "prometheus-1", "alertmanager-1"),
)


@pytest.mark.campaign(seconds=8)
@pytest.mark.parametrize("name", HEALS)
def test_a_killed_service_is_started_again_and_becomes_healthy(control_plane: ComposedPlane, name: str) -> None:
    killed = control_plane.state(name)
    docker_command("kill", f"{control_plane.project}-{name}")
    control_plane.await_state(name, lambda state: state["StartedAt"] != killed["StartedAt"] and is_healthy(state))


@pytest.mark.campaign(seconds=40)
@pytest.mark.parametrize("missing", ["postgres-1", "messaging-1"])
def test_what_needs_a_stopped_service_calls_itself_unhealthy_and_comes_back_with_it(
    control_plane: ComposedPlane, missing: str
) -> None:
    needing = ("server-1", "services-1", "worker-1")
    docker_command("stop", f"{control_plane.project}-{missing}")
    try:
        for name in needing:
            control_plane.await_state(name, lambda state: state["Health"]["Status"] == "unhealthy")
        # Nothing starts what a person stopped.
        assert control_plane.state(missing)["Status"] == "exited"
    finally:
        again = control_plane.compose("start", missing.partition("-")[0])
    assert again.returncode == 0, again.stderr
    for name in needing:
        control_plane.await_state(name, is_healthy)
    assert "Completed" in control_plane.run("collection/prod").stdout


def test_the_worker_watches_prod_itself_and_leaves_dev_alone_beside_their_schedules(
    control_plane: ComposedPlane,
) -> None:
    flows = ("collection", "drift", "health_check", "lifecycle", "report")
    assert control_plane.scheduled() == {f"{flow}/{name}" for flow in flows for name in ("dev", "prod")}
    said = control_plane.compose("logs", "worker").stdout
    assert "watching prod" in said
    assert "watching dev" not in said


GATED = """
web:
  image: debian:trixie-slim
  pull_policy: never
  init: true
  network_mode: none
  stop_grace_period: 1800s
  environment: {{RELEASE: "{release}"}}
  command: [sh, -c, 'trap "until test -e /may/end; do sleep 0.2; done; exit 0" TERM; while true; do sleep 1; done']
  tmpfs: [/may]
  healthcheck: {{test: [CMD, test, -e, /may/serve], interval: 60s, start_period: 1800s, start_interval: 10s}}
"""
"""It becomes healthy, and ends, only once the test says so."""


@dataclass(frozen=True, slots=True)
class TenOperations:
    """Operations of a host of the fleet that wait for what the test says to their environments."""

    plane: ComposedPlane
    host: LocalHost
    flows: dict[str, str]

    @classmethod
    def declared(cls, plane: ComposedPlane, host: LocalHost) -> TenOperations:
        """Environments for four starts, three updates and three stops."""
        kinds = ["startup"] * 4 + ["update"] * 3 + ["stop"] * 3
        return cls(
            plane, host, {host.declare(GATED.format(release=1), start_timeout_seconds=1800): one for one in kinds}
        )

    def begin(self) -> dict[str, str]:
        """Begin one in each environment, and wait until all run; the flow run of each."""
        for name, flow in self.flows.items():
            if flow != "startup":
                self.host.docker("compose", "-p", name, "-f", str(self.host.folder / name / "compose.yaml"), "up", "-d")
            if flow == "update":
                self.host.compose(name, GATED.format(release=2))
                self.let_end(name)
        runs = {}
        for name, flow in self.flows.items():
            deployment = self.plane.ask_server("GET", f"/deployments/name/{flow}/{name}")["id"]
            runs[name] = self.plane.ask_server("POST", f"/deployments/{deployment}/create_flow_run")["id"]
        self.host.until(lambda: self.are("running"), seconds=900)
        self.host.until(lambda: all(self._waits(name) for name in self.flows), seconds=900)
        return runs

    def let_end(self, *names: str) -> None:
        for name in names:
            self.host.docker("exec", f"{name}-web-1", "touch", "/may/serve", "/may/end")

    def recorded(self) -> dict[str, list[str]]:
        """How the operations of each environment ended, as the control plane's stores have it."""
        found: dict[str, list[str]] = {}
        for environment, status in self.plane.recorded(
            "SELECT environment, status FROM deployment_logs.deployment_operations ORDER BY id"
        ):
            found.setdefault(environment, []).append(status)
        return {name: found[name] for name in self.flows if name in found}

    def are(self, status: str) -> bool:
        """Whether one operation of each environment is on record, with this status."""
        return self.recorded() == {name: [status] for name in self.flows}

    def _waits(self, name: str) -> bool:
        shown = "{{.State.Health.Status}} {{range .Config.Env}}{{.}} {{end}}"
        seen = self.host.docker("inspect", "--format", shown, f"{name}-web-1", check=False)
        return seen.startswith("starting") and (self.flows[name] != "update" or "RELEASE=2" in seen)


@pytest.mark.campaign(seconds=600)
@pytest.mark.timeout(3600)
def test_ten_operations_outlive_an_upgrade_of_the_control_plane_and_then_of_their_host(
    control_plane: ComposedPlane, tmp_path: Path
) -> None:
    variables = {
        "ROAS_HOST_NAME": "host-a",
        "PREFECT_API_SSL_CERT_FILE": str(control_plane.authority()),
        "PYTHONPATH": str(tmp_path / "before"),
        # Not from the folder of the tests.
        "PYTHONSAFEPATH": "1",
    }
    control_plane.install(tmp_path / "before")
    with made_host(tmp_path / "host", **variables) as host:
        ten = TenOperations.declared(control_plane, host)
        said = host.roas("join", control_plane.address, control_plane.invite("host-a"), "--no-service")
        assert f"enrolled at {control_plane.address} as host-a" in said, said
        agent = host.begin(PREFECT_WORKER_QUERY_SECONDS="1")
        runs = ten.begin()

        bring_later_version(control_plane.checkout)
        control_plane.make_prod()
        shown = control_plane.compose("exec", "-T", "server", "roas", "--version").stdout
        assert VERSION in shown
        assert ten.are("running"), ten.recorded()
        # What the later version schedules no longer is not scheduled any more.
        assert "drift/dev" in control_plane.scheduled()
        assert "drift/prod" not in control_plane.scheduled()

        # The host is older than the stores now: what runs there goes on, and a command is refused.
        first, rest = list(ten.flows)[::2], list(ten.flows)[1::2]
        ten.let_end(*first)
        host.until(lambda: all(ten.recorded()[name] == ["success"] for name in first), seconds=900)
        assert "is newer than this program" in host.roas("history", first[0])
        control_plane.install(tmp_path / "after")
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(timeout=300) == 0
        host.variables["PYTHONPATH"] = str(tmp_path / "after")
        host.begin(PREFECT_WORKER_QUERY_SECONDS="1")
        host.until(lambda: host.text().count("was interrupted, and continues") == len(rest), seconds=900)
        ten.let_end(*rest)

        host.until(lambda: ten.are("success"), seconds=900)
        states = {name: partial(control_plane.ask_server, "GET", f"/flow_runs/{run}") for name, run in runs.items()}
        host.until(lambda: all(ask()["state_name"] == "Completed" for ask in states.values()), seconds=900)
        for name, flow in ten.flows.items():
            assert host.runs(name) is (flow != "stop"), name
        assert VERSION in host.roas("fleet")
    user, _, password = control_plane.secret("prefect_auth").partition(":")
    page = patient_http.get(f"{control_plane.address}/", auth=(user, password), verify=False)
    assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
