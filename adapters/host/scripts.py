"""Recovery scripts: programs of one folder, run without a shell, with a time limit and as an unprivileged user."""

from __future__ import annotations

import os
import pwd
import signal
import stat
import subprocess
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from models.failures import BadInputError, ScriptFailedError

_OUTPUT_CHARACTERS = 4000
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def find_script(folder: Path, name: str) -> Path:
    """The script of that name inside the folder.

    Raises:
        BadInputError: It is not there, not a program, lies outside of the folder, or others may change it.
    """
    home = folder.resolve()
    script = (home / name).resolve()
    if not script.is_relative_to(home) or script == home:
        raise BadInputError(
            f"Recovery script {name} lies outside of {folder};", advice="only scripts in there are run."
        )
    if not script.is_file() or not os.access(script, os.X_OK):
        raise BadInputError(
            f"Recovery script {name} is not a program in {folder};", advice="is it there, and chmod +x?"
        )
    for path in (script, *(parent for parent in script.parents if parent.is_relative_to(home))):
        if path.stat().st_mode & _WRITABLE_BY_OTHERS:
            raise BadInputError(f"{path} may be changed by other users;", advice="chmod go-w, then it may be run.")
    return script


def run_script(script: Path, variables: Mapping[str, str], *, limit: timedelta, user: str) -> str:
    """Run a script to its end; the last 4000 characters of both outputs.

    It gets the given variables and a default PATH. If this process is root, the script runs as the given user.

    Raises:
        ScriptFailedError: It exited with a code other than 0, or did not end in time and was killed with its children.
        BadInputError: It cannot be run at all.
    """
    root = os.geteuid() == 0
    try:
        process = subprocess.Popen(
            [str(script)],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **variables},
            cwd=script.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            # Our own umask denies other users; a script may write files for a container.
            umask=0o022,
            user=user if root else None,
            group=pwd.getpwnam(user).pw_gid if root else None,
            extra_groups=[] if root else None,
        )
    except (OSError, ValueError, KeyError) as error:
        raise BadInputError(f"Recovery script {script.name} cannot be run: {error};") from error
    try:
        output, _ = process.communicate(timeout=limit.total_seconds())
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, signal.SIGKILL)
        output = _rest_of(process)
        raise ScriptFailedError(
            f"Recovery script {script.name} did not end within {limit.total_seconds():.0f} s: {_tail(output)}"
        ) from error
    if process.returncode:
        raise ScriptFailedError(f"Recovery script {script.name} ended with code {process.returncode}: {_tail(output)}")
    return _tail(output)


def _rest_of(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=5)[0]
    except subprocess.TimeoutExpired:
        # A child has left its process group and keeps the output open.
        return ""


def _tail(output: str) -> str:
    return output.strip()[-_OUTPUT_CHARACTERS:] or "no output"
