"""A plugin of coverage that works in every measured process: it names the test that started the process.

It also saves what a process executed before `os._exit` or `os.exec…` ends it, measures forks anew, and notes in
FOLDER/processes which processes began and ended. A process that was killed began, but did not end.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from coverage import Coverage, CoveragePlugin
from coverage.control import _after_fork_in_child
from coverage.plugin_support import Plugins
from coverage.types import TConfigurable

FOLDER = "COVERAGE_PROOF_FOLDER"
CURRENT = "COVERAGE_PROOF_TEST"
"""The variable that names the file with the node id of the test that runs now."""

_hooked = False


class ProcessContext(CoveragePlugin):
    """Records what a process executes for the test that runs when the process starts."""

    def configure(self, config: TConfigurable) -> None:
        global _hooked
        if FOLDER not in os.environ:
            return
        if CURRENT in os.environ:
            with suppress(OSError):
                config.set_option("run:context", Path(os.environ[CURRENT]).read_text())
        note("began")
        if not _hooked:
            _hooked = True
            atexit.register(note, "ended")
            os.register_at_fork(after_in_child=_after_fork_in_child)
            os._exit = _saving_first(os._exit)
            os.execv, os.execve = _saving_first(os.execv), _saving_first(os.execve)


def note(event: str) -> None:
    """Note the begin or the end of this process."""
    with suppress(KeyError, OSError), Path(os.environ[FOLDER], "processes").open("a") as lines:
        lines.write(f"{event} {os.getpid()}\n")


def _saving_first(end: Callable[..., Any]) -> Callable[..., Any]:
    def save_and_end(*arguments: Any, **options: Any) -> Any:
        with suppress(Exception):
            if (measuring := Coverage.current()) is not None:
                measuring.save()
            note("ended")
        return end(*arguments, **options)

    return save_and_end


def coverage_init(plugins: Plugins, options: dict[str, str]) -> None:
    """Register the plugin; coverage calls this."""
    plugins.add_configurer(ProcessContext())
