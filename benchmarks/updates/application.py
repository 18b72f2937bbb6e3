"""Applications whose images come from a registry on loopback, and the commands that update them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.latency.commands import ROAS, warm_place
from benchmarks.measure import Stack, run_docker
from models.operations import Operation
from tests.support.registry import Registry, registry

_WARM_WITHIN_SECONDS = 120


@contextmanager
def place(folder: Path) -> Iterator[Registry]:
    """A registry, and folders of this process's own in which commands leave a server and a warm process."""
    os.environ |= {"ROAS_DATA_DIR": f"{folder}/data", "ROAS_ENVIRONMENTS_DIR": str(folder)}
    os.environ.pop("ROAS_WARM", None)
    with registry(folder / "registry") as images, warm_place(folder):
        yield images


def warm_up(folder: Path) -> None:
    """Wait until a warm process listens, which an earlier command has left."""
    deadline = time.monotonic() + _WARM_WITHIN_SECONDS
    while not list(folder.glob("roas/*.sock")):
        if time.monotonic() > deadline:
            raise TimeoutError("no warm process listens")
        time.sleep(0.1)


def roas(*words: str, codes: Sequence[int] = (0,)) -> tuple[int, str]:
    """Run a command as a user does: its exit code and what it printed.

    Raises:
        RuntimeError: It ended with another exit code than these.
    """
    done = subprocess.run([*ROAS, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    said = done.stdout + done.stderr
    if done.returncode not in codes:
        raise RuntimeError(f"roas {' '.join(words)} ended with exit code {done.returncode}:\n{said[-4000:]}")
    return done.returncode, said


def states(made: Stack) -> dict[str, str]:
    """Id, start and image of each running container, by service; of a service with several, one after the other."""
    label = "com.docker.compose"
    listed = run_docker("ps", "-q", "--no-trunc", "--filter", f"label={label}.project={made.project}").split()
    if not listed:
        return {}
    wanted = f'{{{{index .Config.Labels "{label}.service"}}}} {{{{.Id}}}} {{{{.State.StartedAt}}}} {{{{.Image}}}}'
    found: dict[str, str] = {}
    for line in sorted(run_docker("inspect", "-f", wanted, *listed).splitlines()):
        service, _, state = line.partition(" ")
        found[service] = f"{found[service]} {state}" if service in found else state
    return found


def last_operation(environment: str) -> Operation:
    """The operation that began last."""
    from tasks.runtime.stores import open_stores

    return open_stores().operations.history(environment=environment)[0]
