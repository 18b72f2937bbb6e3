"""The door to the processes of this machine: who we are, and whether another one is still alive."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Mapping
from pathlib import Path

from models.audit import Actor
from models.operations import Runner

_PROC = Path("/proc")
_STATE, _STARTED = 0, 19
"""Places in /proc/PID/stat, counted from the state behind the command's name."""

_NEVER_LOGGED_IN = 2**32 - 1
"""What the kernel says of a process that no log-in began, such as a service."""

_LONGEST_CLAIM = 100


def this_process(flow_run_id: str = "") -> Runner:
    """This process, so that another one of this machine can tell later whether it is still there.

    Where the system has no /proc, `kernel` is empty: then nobody can tell.
    """
    known = (_PROC / "self" / "stat").exists()
    return Runner(
        host=socket.gethostname(),
        kernel=_kernel() if known else "",
        pid=os.getpid(),
        process_started=int(_stat(os.getpid())[_STARTED]) if known else 0,
        flow_run_id=flow_run_id,
    )


def this_user(environment: Mapping[str, str] = os.environ, claimed: str = "") -> Actor:
    """Who runs this process, by the kernel; what parameters and environment variables claim stands beside it."""
    uid, login = os.getuid(), _login_uid()
    sudo = " ".join(environment[name] for name in ("SUDO_USER", "SUDO_UID") if environment.get(name))
    name = claimed or environment.get("LOGNAME") or environment.get("USER") or ""
    return Actor(
        uid=uid,
        user=_user_name(uid),
        login_uid=login if login not in (None, uid) else None,
        claimed=as_claim(f"{name} (sudo by {sudo})" if sudo else name),
    )


def as_claim(text: str) -> str:
    """A name that somebody chose, fit for a record: one short line of what can be printed."""
    shown = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
    return shown if len(shown) <= _LONGEST_CLAIM else shown[: _LONGEST_CLAIM - 1] + "…"


def is_alive(runner: Runner) -> bool | None:
    """Whether a process still runs; None where that cannot be told from here.

    Another machine or another boot of this one, or a container with process ids of its own: none of them
    can be told. A process that ended and was not waited for (a zombie) is dead.
    """
    if not runner.kernel or runner.kernel != this_process().kernel:
        return None
    try:
        os.kill(runner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        stat = _stat(runner.pid)
    except FileNotFoundError:
        # Gone since, or hidden from this user (hidepid): asked again, the difference shows.
        return None if _exists(runner.pid) else False
    return int(stat[_STARTED]) == runner.process_started and stat[_STATE] not in ("Z", "X")


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _login_uid() -> int | None:
    """The user that logged in, which sudo and su leave as it is; None where nobody did, or the kernel keeps none."""
    try:
        known = int((_PROC / "self/loginuid").read_text())
    except (OSError, ValueError):
        return None
    return None if known == _NEVER_LOGGED_IN else known


def _kernel() -> str:
    """One boot of one machine, and the space of process ids that we see of it."""
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"


def _stat(pid: int) -> list[str]:
    # A command's name may hold spaces and brackets, so what follows its last bracket is split.
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
