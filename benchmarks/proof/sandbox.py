"""A copy of a checkout with an environment of its own, in which changed code runs and can harm nothing else.

The tests run in namespaces of their own: they reach no process outside, and can write only to the copy and to temporary
folders. They do reach the Docker engine and the network. Needs root, git and the packages in uv's cache or an index.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.proof.measured import clean_variables
from benchmarks.proof.mutations import Mutant

_REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "requirements-build.txt")
_MOUNTS = """
set -e
mount --bind "$1" "$1"
mount -t tmpfs tmpfs /tmp
mount -o remount,bind,ro /
cd "$1/tree"
exec "$1/tree/.venv/bin/python" "$2" "$1"
"""
_LATER_SECONDS = 10**6
"""Each changed file gets a time of its own, so that no bytecode of another change fits it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRun:
    """How a run of tests ended. `running` is the test that ran when its time was over, with its seconds so far."""

    passed: tuple[str, ...]
    skipped: int
    failed: str | None
    why: str
    timed_out: bool
    running: str | None
    running_seconds: float
    ended_normally: bool
    seconds: float


class Sandbox:
    """Changes files of the copy and runs tests there, one run at a time."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder
        self.tree = folder / "tree"
        self._changes = 0
        _copy(source, self.tree)
        _make_environment(self.tree)
        (folder / "home").mkdir()
        variables = clean_variables() | {
            "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "PYTHONHASHSEED": "0",
            "PATH": f"{self.tree}/.venv/bin:{os.environ['PATH']}",
        }  # fmt: skip
        self._log = (folder / "server.log").open("w")
        self._server = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--propagation", "private",
             "sh", "-c", _MOUNTS, "sh", folder, Path(__file__).with_name("fork_server.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=variables,
        )  # fmt: skip
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError(f"The fork server ended: {Path(self._log.name).read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the server and all that runs in its namespace."""
        self._server.kill()
        self._server.communicate()
        self._log.close()

    def run(self, tests: list[str], seconds: float) -> SandboxRun:
        """Run these tests in this order until one fails, or the time is over."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"tests": tests, "seconds": seconds}) + "\n")
        self._server.stdin.flush()
        answer = self._read()
        events = answer["events"]
        failed = next((event for event in events if "failed" in event), None)
        begun = next((event for event in reversed(events) if "began" in event), None)
        code = next((event["code"] for event in events if "code" in event), None)
        if failed is None and code:
            # Not even the fixtures of all tests can be imported.
            failed = {"failed": tests[0], "why": f"pytest ended with code {code}"}
        return SandboxRun(
            passed=tuple(event["passed"] for event in events if "passed" in event),
            skipped=sum("skipped" in event for event in events),
            failed=failed["failed"] if failed else None,
            why=failed["why"] if failed else "",
            timed_out=answer["timed_out"],
            running=begun["began"] if begun else None,
            running_seconds=answer["ended"] - (begun["at"] if begun else answer["began"]),
            ended_normally=code is not None,
            seconds=answer["ended"] - answer["began"],
        )

    @contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        """Apply a mutant to the copy, and put everything back afterwards, whatever the tests have changed."""
        file = self.tree / mutant.file
        original, times = file.read_bytes(), file.stat()
        self._changes += 1
        file.write_bytes(mutant.applied(original))
        later = times.st_mtime + _LATER_SECONDS + self._changes
        os.utime(file, (later, later))
        try:
            yield
        finally:
            file.write_bytes(original)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
            if _git(self.tree, "status", "--porcelain"):
                _git(self.tree, "reset", "--quiet", "--hard")
                _git(self.tree, "clean", "--quiet", "-d", "--force")


@contextmanager
def sandbox(source: Path) -> Iterator[Sandbox]:
    """Make a copy of a checkout as it is now, also of what is not committed; it ends with the caller."""
    # Not in /tmp, which is empty for the tests; a short path, because addresses of sockets are.
    folder = Path(tempfile.mkdtemp(prefix="m-", dir="/var/tmp"))
    try:
        made = Sandbox(source.resolve(), folder)
        try:
            yield made
        finally:
            made.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(source: Path, tree: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", "--shared", "--no-checkout", source, tree], check=True)
    listed = _git(source, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if os.path.lexists(source / name):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, tree / name, follow_symlinks=False)
    _git(tree, "add", "--all")
    _git(tree, "-c", "user.name=proof", "-c", "user.email=proof@localhost", "commit", "--quiet", "--allow-empty",
         "--no-verify", "--message", "The tree as it was measured")  # fmt: skip


def _make_environment(tree: Path) -> None:
    uv, python = Path(sys.prefix, "bin", "uv"), tree / ".venv" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tree / ".venv"], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", python, "--no-deps"]
    requirements = [word for name in _REQUIREMENTS for word in ("--requirement", tree / name)]
    subprocess.run([*install, *requirements], check=True)
    subprocess.run([*install, "--no-build-isolation", "--editable", tree], check=True)


def _git(tree: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", tree, *words], check=True, capture_output=True, text=True).stdout
