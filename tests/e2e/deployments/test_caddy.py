"""TLS and login in front of a real Prefect server, asked by real clients: curl, Prefect's own, a browser."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adapters.server.credentials import server_credentials
from adapters.server.host_keys import HostKeys
from flows.server.embedded import server_environment
from models.enrolment import Membership
from tests.e2e.deployments.test_compose_files import CONTROL_PLANE, rendered
from tests.support.browser import chromium, open_until_shown
from tests.support.docker_command import docker_command
from tests.support.ports import free_port

ROOT = Path(__file__).parents[3]
LOGIN = ("roas", "correct-horse")
AUTH = ":".join(LOGIN)
PORTS = {"localhost": free_port(), "ops.example": free_port()}
"""The port of the front of each name: the server behind it gets its origins when it starts."""

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign]


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    name = f"roas-test-caddy-{uuid.uuid4().hex[:8]}"
    folder = ROOT / "deployments/images/caddy"
    docker_command("build", "--quiet", "--tag", name, folder)
    yield name
    docker_command("image", "rm", name)


@pytest.fixture(scope="module")
def gateway() -> str:
    """The address of this machine in the engine's default network, which no other machine reaches."""
    template = "{{(index .IPAM.Config 0).Gateway}}"
    asked = subprocess.run(
        ["docker", "network", "inspect", "bridge", "--format", template], capture_output=True, text=True, check=True
    )
    return asked.stdout.strip()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="module")
def enrolling(home: Path, upstream: str) -> HostKeys:
    """The credentials of hosts of the server that runs."""
    return HostKeys(home)


@pytest.fixture(scope="module")
def upstream(home: Path, gateway: str) -> Iterator[str]:
    """A Prefect server that guards itself as the control plane's does, but on SQLite."""
    port = free_port()
    declared = rendered(CONTROL_PLANE)["services"]["server"]["environment"]
    same = {name: declared[name] for name in declared if "_UI_" in name or "_CSRF_" in name}
    environment = server_environment(server_credentials(home), port) | same
    environment |= {"PREFECT_SERVER_API_AUTH_STRING": AUTH, "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui")}
    origins = ",".join(f"https://{name}:{port}" for name, port in PORTS.items())
    environment |= {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins, "ROAS_SERVER_HOSTS": f"{gateway}:{port}"}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--factory", "flows.server.server_process:guarded_app",
             *("--host", gateway, "--port", str(port), "--log-level", "error")],
            env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while not _ready(f"http://{gateway}:{port}/api/ready"):
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.2)
        yield f"{gateway}:{port}"
    finally:
        process.kill()
        process.wait(30)


def _ready(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A running Caddy, and the authority that its certificate is checked with."""

    container: str
    name: str
    port: int
    authority: Path

    @property
    def url(self) -> str:
        return f"https://{self.name}:{self.port}"

    def curl(self, *arguments: str, url: str = "") -> tuple[int, str]:
        """Exit code and standard output of curl, which knows the name without a name server."""
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--max-time", "20", "--cacert", self.authority,
             *("--resolve", f"*:{self.port}:127.0.0.1"), "--write-out", "\n%{http_code}", *arguments, url or self.url],
            capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout if done.returncode == 0 else done.stderr

    def status(self, *arguments: str, url: str = "") -> int:
        code, output = self.curl(*arguments, url=url)
        assert code == 0, output
        return int(output.rsplit("\n", 1)[1])

    def health(self) -> tuple[int, str]:
        return _exec(self.container, "healthcheck")


def _exec(container: str, *words: str) -> tuple[int, str]:
    done = subprocess.run(["docker", "exec", container, *words], capture_output=True, text=True)
    return done.returncode, done.stdout


def _answers_tls(container: str) -> bool:
    code, words = _exec(container, "healthcheck")
    # Above 1 it is the engine that speaks: of a container that ends while it is asked, on standard output.
    return code in {0, 1} and bool(words) and "no TLS answer" not in words


@contextmanager
def front(image: str, upstream: str, folder: Path, *, name: str, own: Path | None = None) -> Iterator[Front]:
    """Caddy as docker-compose.yml confines it, with the certificate in a folder or one of its own authority."""
    auth = folder / "auth"
    auth.write_text(AUTH)
    container, port = f"roas-test-{uuid.uuid4().hex[:8]}", PORTS[name]
    nothing = ROOT / "deployments/images/caddy/no-file"
    certificate, key = (own / "certificate.pem", own / "key.pem") if own else (nothing, nothing)
    mounts = {"/run/auth": auth, "/run/certificate": certificate, "/run/key": key}
    variables = {"TLS_NAME": name, "TLS_PORT": str(port), "UPSTREAM": upstream, "PREFECT_AUTH_FILE": "/run/auth"}
    variables |= {"TLS_CERTIFICATE_FILE": "/run/certificate", "TLS_KEY_FILE": "/run/key"}
    subprocess.run(
        ["docker", "run", "--detach", "--name", container, "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL",
         *("--security-opt", "no-new-privileges:true", "--pids-limit", "64", "--memory", "256m"),
         *(word for target, source in mounts.items() for word in ("--volume", f"{source}:{target}:ro")),
         *(word for variable, value in variables.items() for word in ("--env", f"{variable}={value}")),
         *("--publish", f"127.0.0.1:{port}:8443", image)],
        check=True, capture_output=True,
    )  # fmt: skip
    try:
        authority = own / "certificate.pem" if own else folder / "root.crt"
        # An expired certificate makes it unhealthy, which is one of the tests, but it serves.
        while not _answers_tls(container):
            running = subprocess.run(
                ["docker", "inspect", "--format", "{{.State.Running}}", container], capture_output=True, text=True
            )
            assert running.stdout.strip() == "true", subprocess.run(
                ["docker", "logs", container], capture_output=True, text=True
            ).stderr
            time.sleep(0.2)
        if own is None:
            root = f"{container}:/data/caddy/pki/authorities/local/root.crt"
            docker_command("cp", root, authority)
        yield Front(container=container, name=name, port=port, authority=authority)
    finally:
        docker_command("rm", "--force", "--volumes", container)
        docker_command("rm", "--force", "--volumes", container)


@pytest.fixture(scope="module")
def caddy(image: str, upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with front(image, upstream, tmp_path_factory.mktemp("caddy"), name="localhost") as running:
        yield running


def make_certificate(folder: Path, name: str, *, ends: datetime) -> Path:
    """A self-signed certificate for a name, and its key, as files."""
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=90))
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder


def test_the_right_login_opens_ui_and_api_and_a_wrong_one_neither(caddy: Front) -> None:
    for path in ("/", "/ui-settings", "/api/ready", "/api/admin/version", "/docs", "/openapi.json"):
        url = f"{caddy.url}{path}"
        assert caddy.status(url=url) == 401, path
        assert caddy.status("--user", "roas:wrong", url=url) == 401, path
        assert caddy.status("--user", f"admin:{LOGIN[1]}", url=url) == 401, path
        assert caddy.status("--user", AUTH, "--location", url=url) == 200, path


def test_a_host_enrols_through_it_and_has_its_own_login(caddy: Front, enrolling: HostKeys) -> None:
    token = enrolling.invite("alpha", datetime.now(UTC), timedelta(hours=1)).token
    guessed = json.dumps({"token": "alpha.guessed", "host": "identity", "version": "1"})
    code, said = caddy.curl("--json", guessed, url=f"{caddy.url}/roas/enrol")
    assert (code, said.rsplit("\n", 1)[1]) == (0, "403")
    assert "The token is not known" in said
    code, said = caddy.curl("--json", guessed.replace("alpha.guessed", token), url=f"{caddy.url}/roas/enrol")
    assert (code, said.rsplit("\n", 1)[1]) == (0, "200")
    member = Membership.model_validate_json(said.rsplit("\n", 1)[0])
    pool = f"{caddy.url}/api/work_pools/{member.pool}"
    assert caddy.status("--user", member.auth_string, url=pool) == 200
    assert caddy.status("--user", f"{member.pool}:wrong", url=pool) == 401
    assert caddy.status("--user", member.auth_string, url=f"{caddy.url}/api/admin/settings") == 403
    # It has no page.
    assert caddy.status("--user", member.auth_string, url=caddy.url) == 403


def test_the_page_has_its_own_sign_in_and_a_cookie_for_this_host_and_tls_alone(caddy: Front) -> None:
    authority = ssl.create_default_context(cafile=str(caddy.authority))
    with httpx.Client(base_url=caddy.url, verify=authority, timeout=300) as browser:
        strange = browser.get("/roas/me")
        wrong = browser.post("/roas/sign-in", data={"password": "guess"}, headers={"origin": caddy.url})
        entered = browser.post("/roas/sign-in", data={"password": AUTH}, headers={"origin": caddy.url})
        traits = set(entered.headers["set-cookie"].split("; "))

        assert [strange.status_code, wrong.status_code, entered.status_code] == [401, 403, 303]
        assert entered.headers["set-cookie"].startswith("__Host-roas=")
        assert {"Secure", "HttpOnly", "SameSite=strict", "Path=/"} <= traits
        assert browser.get("/roas/me").status_code == 200
        # It opens nothing of Prefect's.
        assert [browser.get(path).status_code for path in ("/", "/api/admin/version")] == [401, 401]


def test_plain_http_is_refused_before_a_login_is_asked_for(caddy: Front) -> None:
    code, output = caddy.curl("--include", "--user", AUTH, url=f"http://localhost:{caddy.port}/")
    assert (code, output.splitlines()[0]) == (0, "HTTP/1.0 400 Bad Request")
    assert "WWW-Authenticate" not in output


def test_a_foreign_name_reaches_neither_login_nor_server(caddy: Front) -> None:
    assert caddy.status("--user", AUTH, "--header", "Host: evil.example") == 421
    code, error = caddy.curl("--insecure", "--user", AUTH, url=f"https://evil.example:{caddy.port}/")
    assert code == 35, error


def test_a_page_of_a_foreign_origin_is_refused_although_the_browser_adds_the_login(caddy: Front) -> None:
    url = f"{caddy.url}/api/admin/version"
    assert caddy.status("--user", AUTH, "--header", f"Origin: {caddy.url}", url=url) == 200
    for origin in ("https://evil.example", "null", f"http://localhost:{caddy.port}", "https://localhost"):
        assert caddy.status("--user", AUTH, "--header", f"Origin: {origin}", url=url) == 403, origin


def test_old_tls_is_refused(caddy: Front) -> None:
    def handshake(version: str) -> int:
        return subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{caddy.port}", "-servername", "localhost", version,
             *("-cipher", "DEFAULT@SECLEVEL=0")],
            stdin=subprocess.DEVNULL, capture_output=True,
        ).returncode  # fmt: skip

    assert [handshake(version) for version in ("-tls1", "-tls1_1")] == [1, 1]
    assert [handshake(version) for version in ("-tls1_2", "-tls1_3")] == [0, 0]


def test_a_body_without_end_is_refused(caddy: Front) -> None:
    authority = ssl.create_default_context(cafile=str(caddy.authority))
    with httpx.Client(base_url=f"{caddy.url}/api", auth=LOGIN, verify=authority, timeout=300) as client:
        token = client.get("/csrf-token", params={"client": "test"}).raise_for_status().json()["token"]
        headers = {"Prefect-Csrf-Client": "test", "Prefect-Csrf-Token": token}
        body = {"name": "large", "labels": {"filling": "x" * 17 * 2**20}}
        # Caddy 2.6 calls it 502.
        assert client.post("/flows/", json=body, headers=headers).status_code in {413, 502}
        assert client.post("/flows/", json={"name": "small"}, headers=headers).status_code == 201


def test_the_engine_s_command_line_and_its_sockets_work_through_tls(caddy: Front, tmp_path: Path) -> None:
    environment = os.environ | {
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_API_URL": f"{caddy.url}/api",
        "PREFECT_API_AUTH_STRING": AUTH,
        "PREFECT_API_SSL_CERT_FILE": str(caddy.authority),
    }

    def client(*words: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, env=environment | changed, cwd=tmp_path
        )

    made = client("-m", "prefect", "work-pool", "create", "by-tls", "--type", "process")
    assert "Created work pool" in made.stdout, made.stdout + made.stderr
    # An event goes in by one socket and comes out by another.
    echo = client("-c", ECHO_EVENT)
    assert echo.stdout.strip() == "roas.echo", echo.stderr
    refused = client("-c", ECHO_EVENT, PREFECT_API_AUTH_STRING="roas:wrong")
    assert refused.returncode != 0
    assert "roas.echo" not in refused.stdout


ECHO_EVENT = """
import asyncio
from prefect.events import Event, Resource
from prefect.events.clients import get_events_client, get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter

async def echo():
    only = EventFilter(event=EventNameFilter(name=["roas.echo"]))
    async with get_events_subscriber(filter=only, reconnection_attempts=0) as subscriber:
        async with get_events_client(reconnection_attempts=0) as client:
            await client.emit(Event(event="roas.echo", resource=Resource({"prefect.resource.id": "echo"})))
        async for event in subscriber:
            print(event.event)
            return

asyncio.run(asyncio.wait_for(echo(), 60))
"""


def test_the_ui_works_in_a_browser(caddy: Front) -> None:
    with chromium() as browser:
        # Chromium does not take an authority from a file; that the certificate is checked is curl's test.
        context = browser.new_context(
            ignore_https_errors=True, http_credentials={"username": LOGIN[0], "password": LOGIN[1]}
        )
        page = context.new_page()
        answers: list[tuple[int, str, str]] = []
        page.on("response", lambda answer: answers.append((answer.status, answer.request.method, answer.url)))
        # The browser sends the login along, so the UI does not ask for it a second time.
        open_until_shown(page, caddy.url, page.get_by_text("Run a task or flow to get started"))
        open_until_shown(page, f"{caddy.url}/work-pools", page.get_by_text("Work Pools").nth(1))
        assert [one for one in answers if one[0] not in (200, 304, 307)] == []
        assert (200, "POST") in [one[:2] for one in answers]


def test_a_certificate_of_one_s_own_is_served_and_its_end_is_reported_before(
    image: str, upstream: str, tmp_path: Path
) -> None:
    own = make_certificate(tmp_path / "own", "ops.example", ends=datetime.now(UTC) + timedelta(days=3))
    with front(image, upstream, tmp_path, name="ops.example", own=own) as running:
        assert running.status("--user", AUTH, url=f"{running.url}/api/ready") == 200
        assert "max-age=31536000" in running.curl("--head", "--user", AUTH)[1]
        code, output = running.health()
        assert (code, output[:36]) == (0, "WARNING: the certificate expires on ")


def test_an_expired_certificate_is_refused_by_clients_and_makes_the_container_unhealthy(
    image: str, upstream: str, tmp_path: Path
) -> None:
    own = make_certificate(tmp_path / "own", "ops.example", ends=datetime.now(UTC) - timedelta(days=1))
    with front(image, upstream, tmp_path, name="ops.example", own=own) as running:
        code, error = running.curl("--user", AUTH)
        assert code == 60
        assert "expired" in error
        code, output = running.health()
        assert (code, output[:27]) == (1, "the certificate has expired")


def test_a_certificate_for_another_name_is_refused_at_the_start(image: str, tmp_path: Path) -> None:
    own = make_certificate(tmp_path / "own", "other.example", ends=datetime.now(UTC) + timedelta(days=90))
    with (
        pytest.raises(AssertionError, match=r"the certificate is not for ops\.example"),
        front(image, "127.0.0.1:1", tmp_path, name="ops.example", own=own),
    ):
        pass


def test_the_control_plane_confines_it() -> None:
    service = rendered(CONTROL_PLANE)["services"]["caddy"]
    assert service["profiles"] == ["tls"]
    assert set(service["networks"]) == {"api"}
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
