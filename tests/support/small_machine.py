"""A machine of little memory: a control group with an engine, its containers, and all that is run in it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.engines import OwnEngine, engine_for_a_while
from tests.support.namespaces import inside, namespace

_ROOT = Path("/sys/fs/cgroup")
_ENDS_WITHIN_SECONDS = 300
_ENTER = 'echo $$ > "$0" && exec "$@"'


@dataclass(frozen=True, slots=True)
class SmallMachine:
    """Its engine, and the words before a command that run it there; with version 1 or 2 of control groups."""

    group: Path
    inside: tuple[str, ...]
    engine: OwnEngine

    def kills(self) -> int:
        """How many processes the kernel has killed in it because memory ran out."""
        file = next(path for path in _files(self.group, "memory.oom_control", "memory.events"))
        return int(next(line.split()[1] for line in file.read_text().splitlines() if line.startswith("oom_kill ")))

    def most_mib(self) -> int:
        """The most memory that it had in use, with what the kernel keeps of files."""
        return int(next(_files(self.group, "memory.max_usage_in_bytes", "memory.peak")).read_text()) >> 20


def _files(group: Path, *names: str) -> Iterator[Path]:
    return (group / name for name in names if (group / name).exists())


@contextmanager
def small_machine(mib: int, *images: str) -> Iterator[SmallMachine]:
    """A machine of so much memory, with these images beside the one that tests use."""
    version_1 = (_ROOT / "memory").is_dir()
    group = (_ROOT / "memory" if version_1 else _ROOT) / f"roas-{secrets.token_hex(4)}"
    own = group / "own"
    own.mkdir(parents=True)
    try:
        (group / ("memory.limit_in_bytes" if version_1 else "memory.max")).write_text(str(mib << 20))
        if not version_1:
            (group / "cgroup.subtree_control").write_text("+memory +cpu +pids")
        # All that ran in it ends with the namespace.
        with namespace() as name:
            words = ("sh", "-c", _ENTER, str(own / "cgroup.procs"), *inside(name))
            settings = {"cgroup-parent": f"/{group.name}/containers", "exec-opts": ["native.cgroupdriver=cgroupfs"]}
            with engine_for_a_while(*images, inside=words, settings=settings) as engine:
                yield SmallMachine(group, words, engine)
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    """Remove a control group, as soon as its last process has left it."""
    deadline = time.monotonic() + _ENDS_WITHIN_SECONDS
    for folder in (*sorted(group.rglob("*/"), reverse=True), group):
        while folder.exists():
            assert time.monotonic() < deadline, f"{folder} has processes: {(folder / 'cgroup.procs').read_text()}"
            with suppress(OSError):
                folder.rmdir()
            time.sleep(0.05)
