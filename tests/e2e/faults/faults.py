"""Faults that breaks.py and tests/e2e/flows/test_startup.py do not have, each with what must be told of it."""

from __future__ import annotations

import socket
import struct
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from models.errors import Category
from tests.e2e.faults.endured import InjectedFault
from tests.e2e.faults.scenes import HEALTH, IMAGE, WELL, Scene, Services, broken, says

FOREIGN_IMAGE = "roas-fault/foreign:local"


@contextmanager
def _listening(scene: Scene) -> Iterator[None]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", scene.port))
        taken.listen()
        yield


@contextmanager
def _stranger(scene: Scene, *options: str) -> Iterator[None]:
    """A container of somebody else, in a network of its own."""
    labels = ("--label", "com.docker.compose.project=stranger", "--label", "com.docker.compose.service=one")
    name = f"stranger-{scene.mark}"
    scene.docker("network", "create", name)
    try:
        run = ("run", "--detach", "--init", "--name", name, "--network", name)
        scene.docker(*run, *labels, *options, IMAGE, "sleep", "600")
        yield
    finally:
        scene.docker("rm", "--force", name)
        scene.docker("network", "rm", name)


@contextmanager
def _name_of_a_stranger(scene: Scene) -> Iterator[None]:
    with _stranger(scene):
        yield


@contextmanager
def _foreign_image(scene: Scene) -> Iterator[None]:
    """An image for a processor of another kind: its one program is a header that says so."""
    header = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9) + struct.pack("<HHI", 2, 183, 1) + bytes(40)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "image.tar")
        with tarfile.open(archive, "w") as tar:
            program = tarfile.TarInfo("serve")
            program.size, program.mode = len(header), 0o755
            tar.addfile(program, BytesIO(header))
        scene.docker("import", "--platform", "linux/arm64", str(archive), f"{FOREIGN_IMAGE}-{scene.mark}")
    try:
        yield
    finally:
        scene.docker("rmi", "--force", f"{FOREIGN_IMAGE}-{scene.mark}", check=False)


def _file(name: str, content: str, mode: int = 0o644) -> Callable[[Scene], None]:
    def write(scene: Scene) -> None:
        path = scene.folder / name
        path.write_text(content)
        path.chmod(mode)

    return write


def _gone_command(command: list[str]) -> Services:
    return broken("base", command=command, init=None)


FAULTS = (
    InjectedFault(
        name="image for another platform",
        services=lambda scene: broken("base", image=f"{FOREIGN_IMAGE}-{scene.mark}", command=["/serve"], init=None),
        meanwhile=_foreign_image,
        words="base .*exec format error",
        categories=(Category.EXEC_FORMAT_ENTRYPOINT,),
    ),
    InjectedFault(
        name="port taken after validation",
        services=lambda scene: broken("top", ports=[f"127.0.0.1:{scene.port}:80"]),
        once_found=_listening,
        words="top could not be started: .*(already in use|already allocated)",
        cause="top",
        categories=(Category.PORT_CONFLICT,),
    ),
    InjectedFault(
        name="variable filled in with nothing",
        services=broken("base", command=["sh", "-c", "cat '/etc/${ROAS_FAULT_FILE}/conf'"]),
        words="base ended with exit code 1.*/etc//conf",
        shown="/etc//conf: No such file",
        because="ROAS_FAULT_FILE is not set",
        categories=(Category.VOLUME_MOUNT, Category.CONTAINER_EXITED, Category.MISSING_ENV_SECRET),
    ),
    InjectedFault(
        name="command not found",
        services=_gone_command(["no-such-program"]),
        words="base could not be started.*no-such-program.*not found",
        categories=(Category.EXEC_FORMAT_ENTRYPOINT,),
    ),
    InjectedFault(
        name="exits while it is to hold its health",
        services=broken("base", command=says("touch /tmp/well /tmp/serves; sleep 2; echo lost my mind; exit 7")),
        fields={"stabilisation_seconds": 3},
        words="base ended with exit code 7",
        shown="lost my mind",
        categories=(Category.CONTAINER_EXITED,),
    ),
    InjectedFault(
        name="crashes again and again",
        services=broken("base", restart="always", command=says("echo FATAL: no schema; exit 4")),
        words="base keeps crashing, restarted .* times, last with exit code 4",
        shown="FATAL: no schema",
        categories=(Category.CONTAINER_EXITED,),
    ),
    InjectedFault(
        name="health check never passes",
        services=broken(
            "base",
            healthcheck={
                "test": ["CMD-SHELL", "echo queue is full; exit 1"],
                "interval": "300ms",
                "timeout": "1s",
                "retries": 3,
            },
        ),
        words="base fails its health check: exit code 1: queue is full",
        shown="queue is full",
        categories=(Category.HEALTHCHECK_FAILED,),
    ),
    InjectedFault(
        name="health check passes, then fails",
        services=broken(
            "base", command=says("touch /tmp/well /tmp/serves; sleep 1; rm /tmp/well; echo shut down; exec sleep 600")
        ),
        fields={"stabilisation_seconds": 4},
        words="base fails its health check",
        categories=(Category.HEALTHCHECK_FAILED,),
    ),
    InjectedFault(
        name="health check hangs",
        services=broken(
            "base",
            healthcheck={"test": ["CMD", "sleep", "60"], "interval": "300ms", "timeout": "1s", "retries": 2},
        ),
        words="base fails its health check.*(timed out|exceeded timeout)",
        shown="(timed out|exceeded timeout)",
        categories=(Category.HEALTHCHECK_FAILED, Category.TIMEOUT),
    ),
    InjectedFault(
        name="own probe fails, the health check passes",
        services=broken("base", command=says("touch /tmp/well; exec sleep 600")),
        fields={
            "services": {
                "base": {
                    "probe": {
                        "kind": "command",
                        "command": ["sh", "-c", "test -e /tmp/serves || { echo serves nobody; exit 1; }"],
                    },
                    "start_timeout_seconds": 4,
                }
            }
        },
        words="base runs but does not serve.*serves nobody",
        shown="serves nobody",
        categories=(Category.HEALTHCHECK_FAILED,),
    ),
    InjectedFault(
        name="dependency down",
        services=broken("base", command=says("echo disk quota of the mind exceeded; exec sleep 600")),
        fields={"services": {"base": {"required": False}}},
        words="base fails its health check",
        categories=(Category.HEALTHCHECK_FAILED, Category.DEPENDENCY_FAILED_START),
    ),
    InjectedFault(
        name="job before it fails",
        services=broken("job", command=says("echo migration 42 failed; exit 1"))
        | {"top": WELL["top"] | {"depends_on": {"job": {"condition": "service_completed_successfully"}}}},
        words="job ended with exit code 1",
        cause="job",
        shown="migration 42 failed",
        categories=(Category.CONTAINER_EXITED,),
    ),
    InjectedFault(
        name="mounted file that its user may not read",
        services=broken("base", user="1000", command=["cat", "/in"], volumes=["kept:/kept", "./key:/in:ro"]),
        prepare=_file("key", "a key", mode=0o600),
        words="base ended with exit code 1.*(Permission denied)",
        shown="Permission denied",
        categories=(Category.VOLUME_MOUNT, Category.CONTAINER_EXITED),
    ),
    InjectedFault(
        name="mounted configuration broken",
        services=broken(
            "base",
            command=says("cat /etc/shop.json; exit 78"),
            volumes=["kept:/kept", "./shop.json:/etc/shop.json:ro"],
        ),
        prepare=_file("shop.json", '{"open": tru'),
        words="base ended with exit code 78",
        shown='{"open": tru',
        because="shop.json",
        categories=(Category.CONTAINER_EXITED,),
    ),
    InjectedFault(
        name="Compose file with an unknown key",
        services=f"services:\n  base:\n    image: {IMAGE}\n    comand: [sleep, '600']\n",
        words="comand",
        cause=None,
        categories=(Category.COMPOSE_INVALID,),
        refused=True,
    ),
    InjectedFault(
        name="container name of somebody else",
        services=lambda scene: broken("base", container_name=f"stranger-{scene.mark}"),
        meanwhile=_name_of_a_stranger,
        words="Container name stranger-.* of base is taken by a container of project stranger",
        categories=(Category.NAME_CONFLICT,),
        refused=True,
    ),
    InjectedFault(
        name="time for the whole start is over",
        services=broken(
            "base",
            command=says("echo reading the archive; exec sleep 600"),
            healthcheck=HEALTH | {"start_period": "60s"},
        ),
        fields={"start_timeout_seconds": 5},
        words="base has not passed its health check",
        shown="reading the archive",
        categories=(Category.TIMEOUT,),
    ),
)
