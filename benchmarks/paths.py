"""The modules that an environment passes from `roas start` to its operation's record and to the start of a service.

    python -m benchmarks.paths [--entry cli.main]

`roas start` runs in this process on an application of one small container. A module counts as passed when one of
its functions is called with the environment: its name or the loaded `Environment`, as an argument, or as an
attribute of an argument (of `self`, for example). A return upward is a newly passed module that was not called by
the module passed just before it, so the path went back up to reach it. Both are counted until each of the marks;
"by name" counts the modules that are given the environment's name itself.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

ROOMS = ("cli", "flows", "tasks", "adapters", "core", "models")
NAME = "traced-environment"
MARKS = {"begin": "the operation is recorded", "start_in_order": "the start begins", "bring_up": "a service starts"}

_from: ContextVar[str] = ContextVar("calling_module", default="")


@dataclass
class PassedModules:
    """The modules in the order in which they were passed first, and who called each."""

    modules: dict[str, str] = field(default_factory=dict)
    by_name: dict[str, None] = field(default_factory=dict)
    marks: dict[str, tuple[int, int]] = field(default_factory=dict)

    def see(self, frame: FrameType, event: str, _argument: object) -> None:
        """Take one event of the interpreter; for `sys.setprofile`."""
        module = frame.f_globals.get("__name__", "")
        if event not in ("call", "return") or module.partition(".")[0] not in ROOMS:
            return
        code = frame.f_code
        if event == "return":
            _from.set(frame.f_back.f_globals.get("__name__", "") if _ours(frame.f_back) else _from.get())
            return
        # The constructor of a dataclass has no file: a value that holds the name passes it nowhere.
        if code.co_name.startswith("<") or code.co_filename == "<string>" or not _takes_environment(frame):
            return
        if any(isinstance(value, str) and value == NAME for value in _arguments(frame)):
            self.by_name.setdefault(module)
        if code.co_name in MARKS:
            self.marks.setdefault(code.co_name, (len(self.modules) + (module not in self.modules), len(self.by_name)))
        back = frame.f_back
        caller = back.f_globals["__name__"] if _ours(back) else _from.get()
        if module != caller:
            self.modules.setdefault(module, caller)
        _from.set(module)

    def returns(self, until: int) -> int:
        """How often the path went back up among the first modules."""
        order = list(self.modules)[:until]
        return sum(self.modules[module] != before for before, module in pairwise(order))


def _ours(frame: FrameType | None) -> bool:
    return frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in ROOMS


def _arguments(frame: FrameType) -> list[Any]:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return [frame.f_locals.get(name) for name in names]


def _takes_environment(frame: FrameType) -> bool:
    return any(_is_environment(value) for value in _arguments(frame))


def _is_environment(value: Any) -> bool:
    if _is_one(value):
        return True
    attributes = (getattr(type(value), "__slots__", ()), getattr(value, "__dict__", ()))
    return any(_is_one(getattr(value, name, None)) for names in attributes for name in names if "environment" in name)


def _is_one(value: Any) -> bool:
    return value == NAME if isinstance(value, str) else type(value).__name__ == "Environment"


def main() -> None:
    """Start an application once and print the path."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--entry", default="cli.main")
    entry = arguments.parse_args().entry
    passed = PassedModules()
    with tempfile.TemporaryDirectory(prefix="roas-paths-") as folder:
        project = f"roas-paths-{os.getpid()}"
        os.environ |= {"ROAS_DATA_DIR": f"{folder}/data", "ROAS_ENVIRONMENTS_DIR": folder}
        service = {"image": "debian:trixie-slim", "init": True, "command": ["sleep", "600"]}
        Path(folder, "compose.json").write_text(json.dumps({"services": {"one": service}}))
        declared = {"name": NAME, "project": project, "compose_files": ["compose.json"], "stabilisation_seconds": 0}
        Path(folder, f"{NAME}.yaml").write_text(json.dumps(declared))
        main = importlib.import_module(entry).main
        threading.setprofile(passed.see)
        sys.setprofile(passed.see)
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
                print(f"    -- {MARKS[mark]}: {at} modules, {passed.returns(at)} returns upward; {by_name} by name")


if __name__ == "__main__":
    main()
