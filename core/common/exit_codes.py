"""Describe how a container ended, or a program of this machine."""

from __future__ import annotations

import signal

from models.containers import ContainerState

_EXIT_CODES = {
    125: "the engine could not start it",
    126: "its command is not executable",
    127: "its command was not found",
    134: "it aborted (SIGABRT)",
    137: "killed: by a person, by the engine after its grace period, or by the kernel for memory",
    139: "it crashed with a segmentation fault",
    143: "terminated by SIGTERM, as a stop asks for",
}
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""The exit codes of a program that was killed: as Python has it, and as shells and the engine have it."""

MORE_MEMORY = "Give this machine more memory, or end what uses much of it, and try again."
"""What to do where the kernel killed a program because memory ran out."""

LEFT_THE_FOREGROUND = (
    "exit code 0, as a program does that goes into the background: a container ends with its main process"
)
"""Words for a service that is to stay up and ended without a failure."""


def describe_exit(container_state: ContainerState) -> str:
    """Describe the exit code of a container in words, with the engine's error if there is one."""
    code = container_state.exit_code
    words = f"exit code {code}"
    if container_state.oom_killed:
        words += ", killed for using too much memory"
    elif code in _EXIT_CODES:
        words += f", {_EXIT_CODES[code]}"
    return f"{words}: {container_state.error}" if container_state.error else words


def describe_end(code: int, *, memory_ran_out: bool) -> str:
    """How a program of this machine ended, as a clause; a negative code is the signal that ended it, as Python has it.

    `memory_ran_out`: the kernel killed a process meanwhile because memory ran out.
    """
    if memory_ran_out and code in KILLED:
        return "was killed by the kernel, since memory ran out"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
