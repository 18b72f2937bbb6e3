"""From a fresh machine to its first healed kill as a host of a control plane, by one pasted command.

    python -m benchmarks.fleet_enrolment

The machine is a fresh Debian of its own (mmdebstrap minbase, as deployments/setup makes it) in a privileged container:
own processes, network, files, and its own Docker engine inside. It gets Debian's packages, then the line that
`roas fleet invite` prints, which fetches the program from the control plane and its pinned requirements from the index
that pip is configured with on this machine. The control plane is the Prefect server behind TLS, with SQLite.

Not measured: building the wheel, the start of the control plane, and the download of the application's image, which
comes from this machine's engine. There is no systemd in it, so `roas worker` is started by hand.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import IMAGE, report
from tests.e2e.fleet.control_plane import ControlPlane
from tests.support.certificates import self_signed
from tests.support.ports import free_port
from tests.support.prefect_server import own_server

ROOT = Path(__file__).parents[1]
NAME = "ops.example.com"
_GOAL_SECONDS = 300.0
_PACKAGES = ("ca-certificates", "curl", "docker.io", "docker-cli", "docker-compose", "python3", "python3-venv")
_WITHIN_SECONDS = 600.0
_PIP = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_APPLICATION = {
    "services": {
        "web": {
            "image": IMAGE,
            "init": True,
            "command": ["sh", "-c", "touch /tmp/well; exec sleep infinity"],
            "healthcheck": {"test": ["CMD", "test", "-e", "/tmp/well"], "interval": "1s", "timeout": "1s"},
        }
    }
}


@dataclass
class EnrolledMachine:
    """A fresh Debian in a privileged container."""

    name: str
    taken: dict[str, float] = field(default_factory=dict)

    def __call__(self, script: str, *variables: str) -> str:
        given = [word for one in variables for word in ("--env", one)]
        done = subprocess.run(
            ["docker", "exec", *given, self.name, "bash", "-ec", script],
            capture_output=True, text=True, check=False, timeout=_WITHIN_SECONDS,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{script}\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
        return done.stdout + done.stderr

    def begin(self, script: str, log: str, *variables: str) -> None:
        """Start what goes on running."""
        given = [word for one in variables for word in ("--env", one)]
        command = ["docker", "exec", "--detach", *given, self.name, "bash", "-c", f"{script} >{log} 2>&1"]
        subprocess.run(command, check=True)

    def until(self, script: str, what: str) -> None:
        """Wait until a command succeeds."""
        deadline = time.monotonic() + _WITHIN_SECONDS
        while subprocess.run(["docker", "exec", self.name, "bash", "-c", script], capture_output=True).returncode != 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what}: {self('tail -n 30 /root/*.log')}")
            time.sleep(0.2)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.taken[name] = time.monotonic() - began
        report(name, self.taken[name], "s")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="roas-enrolment-") as name:
        folder = Path(name)
        with _control_plane(folder) as (plane, address), _machine(folder, address) as machine:
            _measure(machine, plane, address)
            whole = sum(machine.taken.values())
            packages = machine.taken["Debian's packages: Docker, Python, curl"]
            report("the one command, to the first healed kill", whole - packages, "s", most=_GOAL_SECONDS)
            return int(not report("fresh machine to the first healed kill", whole, "s", most=_GOAL_SECONDS))


def _measure(machine: EnrolledMachine, plane: ControlPlane, address: str) -> None:
    with machine.part("Debian's packages: Docker, Python, curl"):
        packages = " ".join(_PACKAGES)
        machine(
            f"apt-get update && apt-get install --yes --no-install-recommends {packages}",
            "DEBIAN_FRONTEND=noninteractive",
        )
    with machine.part("Docker's engine starts"):
        machine.begin("exec dockerd", "/root/dockerd.log")
        machine.until("docker info", "the engine does not start")
    with subprocess.Popen(["docker", "save", IMAGE], stdout=subprocess.PIPE) as saving:
        load = ["docker", "exec", "--interactive", machine.name, "docker", "load", "--quiet"]
        subprocess.run(load, stdin=saving.stdout, check=True, stdout=subprocess.DEVNULL)
    token = plane.invite("fresh")
    trust = ("PREFECT_API_SSL_CERT_FILE=/root/authority.pem",)
    with machine.part("the one command: fetch, install and enrol"):
        line = f'curl -fsS --cacert "$PREFECT_API_SSL_CERT_FILE" {address}/roas/install | sh -s -- {address} {token}'
        print(machine(f"cd /root/shop && {line} --no-service", *trust))
    with machine.part("the worker starts and watches"):
        machine.begin("exec roas worker", "/root/worker.log", *trust, "PREFECT_WORKER_QUERY_SECONDS=1")
        machine("cd /root/shop && roas init", *trust)
        machine.until('grep -q "watching shop" /root/worker.log', "it does not watch")
    with machine.part("the application starts by its deployment"):
        run = plane.begin("startup/shop")
        _until(lambda: plane.state(run) in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"), "the run does not end")
        if plane.state(run) != "COMPLETED":
            raise RuntimeError(machine("tail -n 40 /root/worker.log"))
    with machine.part("a killed container is healed"):
        machine("docker kill shop-web-1")
        state = "docker inspect --format '{{.State.Health.Status}} {{.State.Running}}' shop-web-1"
        machine.until(f"{state} | grep -qx 'healthy true'", "not healed")


@contextmanager
def _machine(folder: Path, address: str) -> Iterator[EnrolledMachine]:
    """The machine, with the application's files and what pip is configured with here, and nothing else."""
    shop = folder / "shop"
    shop.mkdir()
    (shop / "compose.yaml").write_text(json.dumps(_APPLICATION))
    name = f"roas-enrolment-{secrets.token_hex(4)}"
    gateway = address_of_bridge()
    given = [word for one in _configuration() for word in one]
    run = ["docker", "run", "--detach", "--privileged", "--init", "--name", name, "--hostname", "fresh", *given]
    run += [
        "--add-host",
        f"{NAME}:{gateway}",
        "--tmpfs",
        "/run",
        "--volume",
        "/var/lib/docker",
        IMAGE,
        "sleep",
        "infinity",
    ]
    subprocess.run(run, check=True, capture_output=True)
    try:
        subprocess.run(["docker", "cp", "--quiet", shop, f"{name}:/root/shop"], check=True)
        subprocess.run(["docker", "cp", "--quiet", folder / "authority.pem", f"{name}:/root/authority.pem"], check=True)
        yield EnrolledMachine(name)
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], check=False, capture_output=True)


def _configuration() -> Iterator[tuple[str, ...]]:
    """What a user of this network tells pip on a new machine: index, proxy and whom to trust."""
    for variable in os.environ:
        if variable in _PIP or variable.lower() in ("http_proxy", "https_proxy", "no_proxy"):
            yield "--env", variable
    yield "--volume", f"{_CERTIFICATES}:/etc/ssl/of-this-machine.crt:ro"
    yield "--env", "PIP_CERT=/etc/ssl/of-this-machine.crt"


def address_of_bridge() -> str:
    asked = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def _control_plane(folder: Path) -> Iterator[tuple[ControlPlane, str]]:
    """A Prefect server that hands out the program, behind TLS at the bridge's address."""
    program = folder / "program"
    program.mkdir()
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", program], cwd=ROOT, check=True)
    shutil.copy(ROOT / "requirements.txt", program)
    certificate = self_signed(folder, name=NAME, also_named=True)
    (folder / "authority.pem").write_text(certificate.read_text().partition("-----END PRIVATE KEY-----\n")[2])
    port = free_port()
    os.environ |= {"ROAS_INSTALL_DIR": str(program), "ROAS_SERVER_HOSTS": f"{NAME}:{port}"}
    with own_server(folder / "plane") as url, _behind_tls(address_of_bridge(), port, certificate, url):
        yield ControlPlane(url, folder / "plane"), f"https://{NAME}:{port}"


@contextmanager
def _behind_tls(host: str, port: int, certificate: Path, url: str) -> Iterator[None]:
    """Pass connections on to the server, as Caddy does on the control plane."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    there = int(url.removesuffix("/api").rpartition(":")[2])

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            from_server, to_server = await asyncio.open_connection("127.0.0.1", there)
            await asyncio.gather(_copy(reader, to_server), _copy(from_server, writer))

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(asyncio.start_server(pass_on, host, port, ssl=context), loop).result(30)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


def _until(seen: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _WITHIN_SECONDS
    while not seen():
        if time.monotonic() > deadline:
            raise RuntimeError(what)
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
