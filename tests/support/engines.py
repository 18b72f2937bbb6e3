"""A Docker engine of the tests' own, which can be stopped, killed and started without disturbing another."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

IMAGE = "debian:trixie-slim"

_STARTS_WITHIN_SECONDS = 300
_STOPS_WITHIN_SECONDS = 300
# Beside whatever the machine's own engine gives out.
_ADDRESSES = "base=10.213.0.0/16,size=24"
_BRIDGE_ADDRESS = "10.214.0.1/24"


class OwnEngine:
    """One dockerd with its own data, containers and socket, which no other process uses.

    Beside the machine's own engine its containers reach each other and can publish ports, but not the world: the
    machine's packet filter forwards between its own addresses alone. `inside` are the words before a command that run
    it in a network namespace, where the engine is alone and has bridge, addresses and packet filter as on any machine.
    Every method returns once what it asked for is true.
    """

    def __init__(
        self,
        folder: Path,
        addresses: str = _ADDRESSES,
        inside: tuple[str, ...] = (),
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.folder = folder
        self._settings = settings or {}
        self._addresses = addresses
        self._inside = inside
        self.address = f"unix://{folder}/engine.sock"
        self._process: subprocess.Popen[bytes] | None = None
        # Told to use none, an engine removes docker0, which is the machine's own engine's.
        self._bridge = f"roas-{secrets.token_hex(4)}"

    @property
    def network(self) -> str:
        """The addresses of all its containers."""
        return self._addresses.removeprefix("base=").partition(",")[0]

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it answers; one that runs is left alone."""
        if self.running:
            return
        # A killed engine leaves both behind; the number in the one may be another process by now.
        for left in ("engine.sock", "engine.pid"):
            (self.folder / left).unlink(missing_ok=True)
        (self.folder / "daemon.json").write_text(json.dumps(self._settings))
        if self._inside:
            self._begin()
            self._wait_until_it_answers()
            return
        if not _has_link(self._bridge):
            subprocess.run(["ip", "link", "add", self._bridge, "type", "bridge"], check=True)
            subprocess.run(["ip", "address", "add", _BRIDGE_ADDRESS, "dev", self._bridge], check=True)
        with _bridge_of_the_machine_kept():
            self._begin(
                *("--default-address-pool", self._addresses, "--bridge", self._bridge),
                *("--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
            )
            self._wait_until_it_answers()

    def _begin(self, *beside_another: str) -> None:
        with (self.folder / "engine.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(*self._inside, "dockerd", "--config-file", f"{self.folder}/daemon.json", "--host", self.address),
                    *("--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"),
                    *("--pidfile", f"{self.folder}/engine.pid", "--log-level", "warn", *beside_another),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Stop it as a person would (SIGTERM): it stops its containers first."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it (SIGKILL), as a crash would: what ran in its containers runs on until it is started again."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it hang: its socket takes connections and nothing answers."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def docker(self, *arguments: str) -> str:
        """What the docker command prints, talking to this engine."""
        done = subprocess.run(
            ["docker", "--host", self.address, *arguments], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def load(self, image: str) -> None:
        """Take an image from the machine's own engine."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
            subprocess.run(
                ["docker", "--host", self.address, "load", "--quiet"], stdin=saving.stdout, check=True, timeout=300,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
        assert saving.returncode == 0, f"there is no image {image}"

    def clear(self) -> None:
        """Remove every container, network and named volume; images stay."""
        self.thaw_if_frozen()
        self.start()
        if containers := self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", "--volumes", *containers)
        self.docker("network", "prune", "--force")
        self.docker("volume", "prune", "--force", "--all")

    def thaw_if_frozen(self) -> None:
        """End what `freeze` began, where a test did not."""
        if self.running:
            self.thaw()

    def remove_bridge(self) -> None:
        """Take away the one thing outside its folder that it leaves behind."""
        if _has_link(self._bridge):
            subprocess.run(["ip", "link", "delete", self._bridge], check=True)

    def log(self) -> str:
        """What it said of itself."""
        return (self.folder / "engine.log").read_text(errors="replace")

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        assert process is not None, "it was never started"
        if process.poll() is None:
            self.thaw()
            process.send_signal(how)
        process.wait(_STOPS_WITHIN_SECONDS)
        self._wait_until_containerd_has_ended()

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _STARTS_WITHIN_SECONDS
        while not self._answers():
            assert self._process.poll() is None, f"the engine ended at once:\n{self.log()[-2000:]}"
            assert time.monotonic() < deadline, f"the engine does not answer:\n{self.log()[-2000:]}"
            time.sleep(0.05)

    def _wait_until_containerd_has_ended(self) -> None:
        """The engine's helper ends with it, a little later; a new one in the same folder would meet it."""
        pid = self.folder / "exec" / "containerd" / "containerd.pid"
        deadline = time.monotonic() + _STOPS_WITHIN_SECONDS
        while pid.exists() and Path("/proc", pid.read_text().strip(), "fd").exists():
            assert time.monotonic() < deadline, "its containerd did not end"
            time.sleep(0.05)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(2)
            try:
                asking.connect(self.address.removeprefix("unix://"))
                asking.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in asking.recv(64)
            except OSError:
                return False


def _has_link(name: str) -> bool:
    # Not by /sys: the mount there may show the links of another network namespace.
    return not subprocess.run(["ip", "link", "show", "dev", name], capture_output=True, check=False).returncode


@contextmanager
def _bridge_of_the_machine_kept() -> Iterator[None]:
    """An engine that starts again on its old data removes docker0, which is the machine's own engine's.

    It is made anew at once, because another test may start a container there. One engine starts at a time: what a
    worker saw of the bridge while another's engine had removed it would be wrong.
    """
    with Path(tempfile.gettempdir(), "roas-tests-docker0.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _has_link("docker0"):
            yield
            return
        again = _words_that_make_docker0()
        with subprocess.Popen(["ip", "-oneline", "monitor", "link"], stdout=subprocess.PIPE, text=True) as monitor:
            watching = threading.Thread(target=_make_anew_where_deleted, args=(monitor, again), daemon=True)
            watching.start()
            try:
                yield
            finally:
                monitor.terminate()
                watching.join()
                if not _has_link("docker0"):
                    _ip(again)


def _words_that_make_docker0() -> list[str]:
    """Arguments of `ip` that make the bridge as it is now, with its addresses and what is connected to it."""
    (bridge,) = json.loads(_ip_json("address", "show", "docker0"))
    connected = json.loads(_ip_json("link", "show", "master", "docker0"))
    places = (f"{one['local']}/{one['prefixlen']}" for one in bridge["addr_info"] if one["family"] == "inet")
    return [
        "link add docker0 type bridge",
        *(f"address add {place} dev docker0" for place in places),
        "link set docker0 up",
        *(f"link set {one['ifname']} master docker0" for one in connected),
    ]


def _make_anew_where_deleted(monitor: subprocess.Popen[str], again: Sequence[str]) -> None:
    assert monitor.stdout is not None
    for line in monitor.stdout:
        if line.startswith("Deleted") and ": docker0:" in line:
            _ip(again)


def _ip(commands: Sequence[str]) -> None:
    # A container that was connected may have ended meanwhile.
    subprocess.run(["ip", "-force", "-batch", "-"], input="\n".join(commands), text=True, check=False)


def _ip_json(*words: str) -> str:
    return subprocess.run(["ip", "-json", *words], capture_output=True, text=True, check=True).stdout


@contextmanager
def _forwarded(network: str) -> Iterator[None]:
    """Let packets pass between these addresses.

    The machine's own engine drops what it does not forward itself, and a kernel that filters bridges asks it about
    packets within one bridge, too.
    """
    filters = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not filters.exists() or filters.read_text().strip() != "1":
        yield
        return
    rule = ["FORWARD", "--source", network, "--destination", network, "--jump", "ACCEPT"]
    subprocess.run(["iptables", "--wait", "--insert", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "--wait", "--delete", *rule], check=True)


@pytest.fixture(scope="session")
def engine_of_the_session() -> Iterator[OwnEngine]:
    """One engine for all tests of the session that need their own, with the image they use."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a Docker engine of its own needs root and dockerd")
    with engine_for_a_while() as engine:
        yield engine


@contextmanager
def engine_for_a_while(
    *images: str, inside: tuple[str, ...] = (), settings: Mapping[str, object] | None = None
) -> Iterator[OwnEngine]:
    """A running engine with the image that tests use and these, and nothing left of it afterwards.

    With `inside` it runs in a network namespace; `settings` are for its daemon.json. Needs root and dockerd.
    """
    # Not pytest's folder: a socket's path may be 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="roas-engine-"))
    engine = OwnEngine(folder, inside=inside, settings=settings)
    try:
        with nullcontext() if inside else _forwarded(engine.network):
            engine.start()
            for image in (IMAGE, *images):
                engine.load(image)
            try:
                yield engine
            finally:
                engine.clear()
                engine.stop()
    finally:
        if engine.running:
            engine.kill()
        engine.remove_bridge()
        _unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_engine(engine_of_the_session: OwnEngine) -> Iterator[OwnEngine]:
    """A running engine without containers, which the test may stop, kill, freeze and start as it likes."""
    engine_of_the_session.clear()
    yield engine_of_the_session
    engine_of_the_session.clear()


def _unmount_below(folder: Path) -> None:
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((one for one in mounted if one.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)
