"""Processes of this machine: identity of this one, and whether another one is alive."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from models.audit import Actor
from models.operations import Runner

_PROC = Path("/proc")
_STATE, _STARTED = 0, 19
"""Fields of /proc/PID/stat, counted from the state after the command's name."""

_ENDED = ("Z", "X")
"""States of a process that has ended: a zombie, or dead."""

_NEVER_LOGGED_IN = 2**32 - 1
"""The kernel's login uid of a process without a login, such as a service."""

_LONGEST_CLAIM = 100

ASKED_BY = "ROAS_ASKED_BY"
"""Variable with the name of a program that asks for others, such as a CI job or an agent."""


def this_process(flow_run_id: str = "") -> Runner:
    """Identify this process, so that another one of this machine can check later whether it is alive.

    On systems without /proc, `kernel` is empty and `is_alive` returns None.
    """
    has_proc = (_PROC / "self" / "stat").exists()
    return Runner(
        host=socket.gethostname(),
        kernel=_kernel() if has_proc else "",
        pid=os.getpid(),
        process_started=int(_stat(os.getpid())[_STARTED]) if has_proc else 0,
        flow_run_id=flow_run_id,
    )


def boot_id() -> str:
    """Identify the boot of this machine; empty on systems without /proc."""
    file = _PROC / "sys/kernel/random/boot_id"
    return file.read_text().strip() if file.exists() else ""


def this_user(environment: Mapping[str, str] = os.environ, claimed: str = "") -> Actor:
    """The user of this process according to the kernel, and the name claimed by parameters or variables."""
    uid, login = os.getuid(), _login_uid()
    sudo = " ".join(environment[name] for name in ("SUDO_USER", "SUDO_UID") if environment.get(name))
    name = claimed or environment.get(ASKED_BY) or environment.get("LOGNAME") or environment.get("USER") or ""
    return Actor(
        uid=uid,
        user=_user_name(uid),
        login_uid=login if login not in (None, uid) else None,
        claimed=as_claim(f"{name} (sudo by {sudo})" if sudo else name),
    )


def as_claim(text: str) -> str:
    """Shorten a user-given name to one printable line for a record."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return shown if len(shown) <= _LONGEST_CLAIM else shown[: _LONGEST_CLAIM - 1] + "…"


def is_alive(runner: Runner) -> bool | None:
    """Whether a process still runs; None for one of another machine, boot or PID namespace. A zombie is dead."""
    if not runner.kernel or runner.kernel != this_process().kernel:
        return None
    if not _exists(runner.pid):
        return False
    try:
        stat = _stat(runner.pid)
    except FileNotFoundError:
        # It has ended since, or is hidden from this user (hidepid), which psutil takes for ended.
        return None if _exists(runner.pid) else False
    return int(stat[_STARTED]) == runner.process_started and stat[_STATE] not in _ENDED


def process_started(pid: int) -> int | None:
    """When a process of this machine started, in the kernel's ticks; None if it has ended or cannot be seen."""
    try:
        stat = _stat(pid)
    except OSError:
        return None
    return None if stat[_STATE] in _ENDED else int(stat[_STARTED])


def kill_marked(marks: Mapping[str, str]) -> int:
    """Kill the processes of this machine that were started with all these variables; the number of those killed.

    A process passes its variables on, so its children end with it. What belongs to another user is left.
    """
    entries = {f"{name}={value}".encode() for name, value in marks.items()}
    killed = 0
    for folder in _PROC.iterdir() if _PROC.is_dir() else ():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if entries <= set((folder / "environ").read_bytes().split(b"\0")):
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
        except OSError:
            # It has ended meanwhile, or is another user's.
            continue
    return killed


def process_age(pid: int) -> float:
    """The seconds since a process of this machine began, to a hundredth.

    Raises:
        OSError: There is no such process, or the system has no /proc.
    """
    began = int(_stat(pid)[_STARTED]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _login_uid() -> int | None:
    """The user that logged in, which sudo and su keep; None without a login, or if the kernel has none."""
    try:
        uid = int((_PROC / "self/loginuid").read_text())
    except (OSError, ValueError):
        return None
    return None if uid == _NEVER_LOGGED_IN else uid


def _kernel() -> str:
    """Identify the boot of this machine and our PID namespace."""
    return f"{boot_id()} {(_PROC / 'self/ns/pid').readlink()}"


def _stat(pid: int) -> list[str]:
    # A command's name may contain spaces and brackets, so split after the last bracket.
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
