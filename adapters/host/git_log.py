"""Subjects of the commits between two revisions of a git repository on this machine; nothing is fetched."""

from __future__ import annotations

import os
from pathlib import Path

from adapters.host.programs import ProgramRun, run_to_end

_SECONDS = 5.0
_MOST = 10_000
_MOST_BYTES = 64 * 2**20

# What a repository's own settings could run or fetch is switched off.
_SETTINGS = ("log.showSignature=false", "core.fsmonitor=false", "protocol.allow=never", "core.hooksPath=/dev/null")
_VARIABLES = {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"}


def subjects_between(folder: Path, before: str, after: str) -> tuple[str, ...]:
    """The subjects of the commits after one revision up to another, newest first, at most 10,000.

    It is empty where the folder is in no repository that knows both, and where git is missing or does not answer.
    `before` and `after` must be hexadecimal digits.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    arguments = ["log", f"--max-count={_MOST}", "--format=%s", "--no-show-signature", f"{before}..{after}", "--"]
    program = ProgramRun(
        words=["git", *settings, "-C", str(folder), "--no-pager", *arguments],
        variables=environ | _VARIABLES,
        limit_seconds=_SECONDS,
        most_bytes=_MOST_BYTES,
    )
    try:
        result = run_to_end(program)
    except (OSError, ValueError):
        return ()
    return tuple(line for line in result.out.split("\n") if line) if result.code == 0 else ()
