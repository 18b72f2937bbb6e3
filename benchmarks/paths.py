"""The modules that an environment passes from `roas start` to its operation's record and to the start of a service.

    python -m benchmarks.paths [--entry cli.main]

`roas start` runs in this process on an application of one small container. A module is passed when one of its
functions is called with the environment: its name or the loaded `Environment` as an argument, or an argument (`self`
too) that holds the loaded `Environment`. A record that only says of which environment it is, such as an operation
or the result of a check, is not the environment; "with records" counts the modules that take one of these as well.

A return upward is a newly passed module that was not called by the module passed just before it, so the path went
back up to reach it. The caller is the nearest passed module on the stack; a decorator between is none. Both are
counted until each of the marks; "by name" counts the modules that are given the environment's name itself.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

ROOMS = ("cli", "flows", "tasks", "adapters", "core", "models")
NAME = "traced-environment"
MARKS = {"begin": "the operation is recorded", "start_in_order": "the start begins", "bring_up": "a service starts"}


@dataclass
class PassedModules:
    """The modules in the order in which they were passed first, and who called each."""

    holds: Callable[[Any], bool]
    modules: dict[str, str] = field(default_factory=dict)
    by_name: dict[str, None] = field(default_factory=dict)
    marks: dict[str, tuple[int, int]] = field(default_factory=dict)
    _last: ContextVar[str] = field(default_factory=lambda: ContextVar("passed_last", default=""))

    def see(self, frame: FrameType, event: str) -> None:
        """Take the call of a function of ours, or its return."""
        if event == "return":
            self._last.set(self._caller(frame.f_back))
            return
        code, module = frame.f_code, frame.f_globals["__name__"]
        arguments = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
        # The constructor of a dataclass has no file: a value that holds the name passes it nowhere.
        made = code.co_name.startswith("<") or code.co_filename == "<string>"
        # The environment's own methods pass it nowhere either.
        if not made and module != "models.environments" and any(map(self.holds, arguments)):
            if any(isinstance(value, str) and value == NAME for value in arguments):
                self.by_name.setdefault(module)
            caller = self._caller(frame.f_back)
            if module != caller:
                self.modules.setdefault(module, caller)
            self._last.set(module)
        if code.co_name in MARKS and any(map(_names_environment, arguments)):
            self.marks.setdefault(code.co_name, (len(self.modules), len(self.by_name)))

    def _caller(self, frame: FrameType | None) -> str:
        while frame is not None and frame.f_globals.get("__name__") != "asyncio.events":
            if frame.f_globals.get("__name__") in self.modules:
                return str(frame.f_globals["__name__"])
            frame = frame.f_back
        # The stack of a thread or of a task of asyncio begins anew; its context is that of who began it.
        return self._last.get()

    def returns(self, until: int) -> int:
        """How often the path went back up among the first modules."""
        order = list(self.modules)[:until]
        return sum(self.modules[module] != before for before, module in pairwise(order))


def _is_environment(value: Any) -> bool:
    return type(value).__name__ == "Environment" or (isinstance(value, str) and value == NAME)


def _attributes(value: Any) -> list[Any]:
    names = [*getattr(type(value), "__slots__", ()), *getattr(value, "__dict__", ())]
    return [getattr(value, name, None) for name in names if "environment" in name]


def _holds_environment(value: Any) -> bool:
    return _is_environment(value) or any(type(one).__name__ == "Environment" for one in _attributes(value))


def _names_environment(value: Any) -> bool:
    return _is_environment(value) or any(map(_is_environment, _attributes(value)))


def main() -> None:
    """Start an application once and print the path."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--entry", default="cli.main")
    entry = arguments.parse_args().entry
    passed, with_records = PassedModules(_holds_environment), PassedModules(_names_environment)

    def see(frame: FrameType, event: str, _argument: object) -> None:
        if event in ("call", "return") and frame.f_globals.get("__name__", "").partition(".")[0] in ROOMS:
            passed.see(frame, event)
            with_records.see(frame, event)

    with tempfile.TemporaryDirectory(prefix="roas-paths-") as folder:
        project = f"roas-paths-{os.getpid()}"
        os.environ |= {"ROAS_DATA_DIR": f"{folder}/data", "ROAS_ENVIRONMENTS_DIR": folder}
        service = {"image": "debian:trixie-slim", "init": True, "command": ["sleep", "600"]}
        Path(folder, "compose.json").write_text(json.dumps({"services": {"one": service}}))
        declared = {"name": NAME, "project": project, "compose_files": ["compose.json"], "stabilisation_seconds": 0}
        Path(folder, f"{NAME}.yaml").write_text(json.dumps(declared))
        main = importlib.import_module(entry).main
        threading.setprofile(see)
        sys.setprofile(see)
        try:
            sys.argv = ["roas", "start", NAME]
            main()
        except SystemExit as ended:
            print("exit code", ended.code)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
            os.system(f"docker compose -p {project} down --timeout 1 >/dev/null 2>&1")
    for number, (module, caller) in enumerate(passed.modules.items(), start=1):
        print(f"{number:3} {module:40} called by {caller or 'the user'}")
        for mark, (at, by_name) in passed.marks.items():
            if at == number:
                print(f"    -- {MARKS[mark]}: {at} modules, {passed.returns(at)} returns upward; {by_name} by name;")
                others = with_records.marks[mark][0]
                print(f"       with records: {others} modules, {with_records.returns(others)} returns upward")


if __name__ == "__main__":
    main()
