"""Recovery scripts: programs of one folder, run without a shell, with a time limit and as an unprivileged user."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from adapters.host.programs import ProgramRun, run_to_end
from models.failures import BadInputError, ScriptFailedError

_OUTPUT_CHARACTERS = 4000
_OUTPUT_BYTES = 64 * 1024
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
    program = ProgramRun(
        words=[str(script)],
        variables={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **variables},
        limit_seconds=limit.total_seconds(),
        most_bytes=_OUTPUT_BYTES,
        folder=script.parent,
        # Our own umask denies other users; a script may write files for a container.
        umask=0o022,
        writes_log=True,
        user=user if os.geteuid() == 0 else None,
    )
    try:
        result = run_to_end(program)
    except (OSError, ValueError, KeyError) as error:
        raise BadInputError(f"Recovery script {script.name} cannot be run: {error};") from error
    output = _tail(result.out)
    if result.code is None:
        raise ScriptFailedError(
            f"Recovery script {script.name} did not end within {limit.total_seconds():.0f} s: {output}"
        )
    if result.code:
        raise ScriptFailedError(f"Recovery script {script.name} {result.ending}: {output}")
    return output


def _tail(output: str) -> str:
    return output.strip()[-_OUTPUT_CHARACTERS:] or "no output"
