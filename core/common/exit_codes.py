"""Describe how a container ended."""

from __future__ import annotations

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
