"""Secrets that a program prints, such as pass, vault, op or systemd-creds: kept in memory alone, for a minute."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from adapters.host.programs import ProgramRun, run_to_end
from core.errors.redact import Redactor, secrets_among

_LIMIT_SECONDS = 10.0
_KEPT_SECONDS = 60.0
"""An agent opens an environment each few seconds, and a vault is not to be asked so often."""
_MOST_BYTES = 256 * 1024

_kept: dict[tuple[str, ...], tuple[float, tuple[str, str]]] = {}


def printed_secret(command: tuple[str, ...], variables: Mapping[str, str]) -> tuple[str, str]:
    """The first line that a program prints, or an empty one and why there is none; no shell runs it."""
    at, answer = _kept.get(command, (0.0, ("", "")))
    if command not in _kept or time.monotonic() - at > _KEPT_SECONDS:
        answer = _ask(command, variables)
        _kept[command] = time.monotonic(), answer
    return answer


def _ask(command: tuple[str, ...], variables: Mapping[str, str]) -> tuple[str, str]:
    program = ProgramRun(
        words=command,
        variables={"PATH": os.defpath, **variables},
        limit_seconds=_LIMIT_SECONDS,
        most_bytes=_MOST_BYTES,
    )
    name = f"command {command[0]}"
    try:
        done = run_to_end(program)
    except (OSError, ValueError) as error:
        return "", f"{name} cannot be run: {getattr(error, 'strerror', None) or error}"
    if done.code is None:
        return "", f"{name} did not end within {_LIMIT_SECONDS:g} s"
    try:
        line = (done.output.splitlines() or [b""])[0].decode("utf-8")
    except UnicodeDecodeError:
        return "", f"{name} printed no UTF-8 text"
    if done.code == 0:
        return line, f"{name} printed nothing"
    # What it says may name what it has printed before it failed.
    redactor = Redactor({*secrets_among(variables.items()), *filter(None, [line])})
    said = next((text.strip() for text in done.err.splitlines() if text.strip()), "")
    return "", f"{name} {done.ending}" + (f": {redactor.text(said)[:200]}" if said else "")
