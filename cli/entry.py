"""The script `roas`: run the command in the warm process, or else here, and leave a warm process for the next one.

It imports nothing of the program. `python -P -m cli.entry MODULE` runs another module of Python in the same way.
"""

from __future__ import annotations

import gc
import os
import sys

from adapters.host.warm_client import (
    RUN_MODULES,
    end_as,
    end_with_parent,
    is_switched_on,
    leave_warm_process,
    run_in_warm_process,
    run_program,
)

_MODULES = ("cli", "flows", "tasks", *RUN_MODULES)
_IDLE_SECONDS = 600.0
_OBJECTS_BETWEEN_COLLECTIONS = 50_000
_SERVICES = ("serve", "worker", "metrics", "mcp", "top")
"""They run as long as the machine, their client or their terminal does, which has to find them in this process."""

_OPTIONS_WITH_A_VALUE = ("--config",)
"""Options that may stand before the command."""

_PLUGIN = "docker-roas"
"""The name of a link to this script in ~/.docker/cli-plugins."""

_HOOK = "docker-cli-plugin-hooks"
_PLUGIN_ANSWERS = {
    "docker-cli-plugin-metadata": '{"SchemaVersion": "0.1.0", "Vendor": "ROAS Ops", '
    '"ShortDescription": "Start, prove, watch and repair Compose applications"}',
    _HOOK: '{"Type": 0, "Template": "`docker roas start` names the service that failed, and why"}',
}

_COMPLETION = "_ROAS_COMPLETE"
"""A shell asks for completions with this variable: pressing a key leaves no process behind."""


def main() -> None:
    """Run `roas` and exit with its code."""
    program = "cli.main:main"
    if os.path.basename(sys.argv[0]) == _PLUGIN:  # noqa: PTH119 - the import of pathlib would take longer
        _answer_docker()
    if command_of(sys.argv[1:]) in _SERVICES:
        run_program(program)
    else:
        _run(program)


def _answer_docker() -> None:
    """Be a plugin of the docker command: say what it asks of one, else leave the words of `docker roas …` as ours.

    Source: docker/cli, cli-plugins/metadata and cli-plugins/hooks.
    """
    if sys.argv[1:2] == ["roas"]:
        del sys.argv[1]
    words = sys.argv[1:]
    answer = _PLUGIN_ANSWERS.get(words[0] if words else "")
    if answer is not None:
        # Docker asks after a command that its configuration names; one that went well needs no advice.
        if words[0] != _HOOK or '"CommandError":""' not in "".join(words[1:]):
            print(answer)
        sys.exit()


def command_of(words: list[str]) -> str:
    """The command among the words of a command line, behind the options of `roas` itself; empty without one."""
    iterator = iter(words)
    for word in iterator:
        if not word.startswith("-"):
            return word
        if word in _OPTIONS_WITH_A_VALUE:
            next(iterator, None)
    return ""


def _run(program: str) -> None:
    status = run_in_warm_process(program)
    if status is not None:
        end_as(status)
    # Imports make hundreds of thousands of objects that live on, and no garbage: looking for it took a tenth of them.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    try:
        run_program(program)
    finally:
        if is_switched_on() and _COMPLETION not in os.environ:
            leave_warm_process(_MODULES, idle_seconds=_IDLE_SECONDS)


if __name__ == "__main__":
    del sys.argv[0]
    # A flow run whose runner was killed reports to no command, and the next runner begins its work a second time.
    end_with_parent(os.getppid())
    _run(sys.argv[0])
