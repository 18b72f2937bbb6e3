"""The modules that a start, an update that fails and a healed death walk through, and how often they come back up.

    python -m benchmarks.walks [start update heal code] [--list]

An application of two small containers is started, updated to a version that ends at once, so that the update goes
back, and one of its containers is killed beside the agent of a host, which heals it; all in this process. `code` is
a table of the sizes of our functions, classes and modules. `--list` prints the modules in the order of the walk.

A walk enters a module when one of its functions is called; each function counts once, at its first call, as for
somebody who reads along. Each walk is counted three times:

- all: every function of ours.
- environment: functions that are given the loaded `Environment` itself as an argument.
- holder: functions that are given it, its name, or an argument (`self` too) that holds it, such as a `Project`.

Two figures say how often a walk comes back up, of which neither depends on how often something is repeated:

- returns: a function on a higher layer (cli, flows, tasks, adapters, core, models) than the one before it in the walk.
  A list of eight steps that each go down once has at least seven.
- anew: a module that was entered first by another one than the module before it, so the walk went back to that one.

- calls up: pairs of modules of which the lower calls the higher one, by a callback; decorators between are none.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from benchmarks.measure import Stack, checked, run_docker, stack
from flows.server.embedded import prefect_api, wait_for_api
from models.settings import Settings

ROOT = Path(__file__).parents[1]
LAYERS = ("cli", "flows", "tasks", "adapters", "core", "models")
NAME = "walked"
HEALS_WITHIN_SECONDS = 120
_LOOKED_AT = 50
"""So many calls of a function may show whether it is given the environment."""

Arguments = Sequence[Any]


def layer_of(module: str) -> int:
    """The layer's place, 0 on top."""
    return LAYERS.index(module.partition(".")[0])


@dataclass
class Walk:
    """The functions of ours that a walk enters, in the order of their first calls."""

    counts: Callable[[Arguments], bool]
    functions: dict[CodeType, str] = field(default_factory=dict)
    """The module of each function."""
    callers: dict[str, str] = field(default_factory=dict)
    """The module that called a module first; empty where none of the walk did."""
    up: set[tuple[str, str]] = field(default_factory=set)
    _calls: dict[CodeType, int] = field(default_factory=lambda: defaultdict(int))
    _last: ContextVar[str] = field(default_factory=lambda: ContextVar("last", default=""))

    def enter(self, frame: FrameType, module: str) -> None:
        """Take the call of a function."""
        code = frame.f_code
        if code in self.functions:
            self._last.set(module)
            return
        self._calls[code] += 1
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if self._calls[code] > _LOOKED_AT or not self.counts([frame.f_locals.get(name) for name in names]):
            return
        caller = self._caller(frame.f_back)
        self.functions[code] = module
        if module != caller:
            self.callers.setdefault(module, caller)
            if caller and layer_of(module) < layer_of(caller):
                self.up.add((caller, module))
        self._last.set(module)

    def leave(self, frame: FrameType) -> None:
        """Take the return of a function."""
        if frame.f_code in self.functions:
            self._last.set(self._caller(frame.f_back))

    def _caller(self, frame: FrameType | None) -> str:
        while frame is not None and frame.f_globals.get("__name__") != "asyncio.events":
            if frame.f_code in self.functions:
                return self.functions[frame.f_code]
            frame = frame.f_back
        # The stack of a thread or of a task of asyncio begins anew; its context is that of who began it.
        return self._last.get()

    @property
    def modules(self) -> list[str]:
        return list(dict.fromkeys(self.functions.values()))

    def figures(self) -> dict[str, int]:
        """What is printed of the walk."""
        anew = sum(self.callers.get(module, "") != before for before, module in pairwise(self.modules))
        returns = sum(layer_of(later) < layer_of(first) for first, later in pairwise(self.functions.values()))
        return {
            "modules": len(self.modules),
            "functions": len(self.functions),
            "returns": returns,
            "anew": anew,
            "calls up": len(self.up),
        }


def is_environment(value: object) -> bool:
    return type(value).__name__ == "Environment"


def holds_environment(value: object) -> bool:
    """Whether it is the environment, its name, or has it among its attributes."""
    if is_environment(value) or (isinstance(value, str) and value == NAME):
        return True
    names = [*getattr(type(value), "__slots__", ()), *getattr(value, "__dict__", ())]
    held = (getattr(value, name, None) for name in names if name in ("environment", "declared", "project"))
    return any(map(is_environment, held))


COUNTED: dict[str, Callable[[Arguments], bool]] = {
    "all": lambda _: True,
    "environment": lambda values: any(map(is_environment, values)),
    "holder": lambda values: any(map(holds_environment, values)),
}


class Tracer:
    """Follows what this process calls, while it is let."""

    def __init__(self) -> None:
        self.walks: dict[str, Walk] = {}
        self._modules: dict[CodeType, str] = {}
        threading.setprofile(self._see)
        sys.setprofile(self._see)

    @contextmanager
    def walking(self) -> Iterator[dict[str, Walk]]:
        """Follow a new walk until the body ends."""
        walks = {name: Walk(counts) for name, counts in COUNTED.items()}
        self.walks = walks
        yield walks
        self.walks = {}

    def _see(self, frame: FrameType, event: str, _argument: object) -> None:
        if not self.walks or event not in ("call", "return"):
            return
        code = frame.f_code
        module = self._modules.get(code)
        if module is None:
            module = self._modules[code] = _module_of(frame)
        if module:
            for walk in self.walks.values():
                walk.enter(frame, module) if event == "call" else walk.leave(frame)


def _module_of(frame: FrameType) -> str:
    """The module of a function of ours; empty for others, and for what is no function that somebody reads."""
    module, code = str(frame.f_globals.get("__name__", "")), frame.f_code
    ours = module.partition(".")[0] in LAYERS and code.co_filename != "<string>"
    return module if ours and not code.co_name.startswith("<") else ""


def run_command(*words: str, fails: bool = False) -> None:
    """Run a command in this process."""
    from cli.main import main

    sys.argv = ["roas", *words]
    try:
        main()
    except SystemExit as ended:
        if bool(ended.code) != fails:
            raise RuntimeError(f"roas {' '.join(words)} ended with {ended.code}") from ended


async def heal(container: str, tracer: Tracer) -> dict[str, dict[str, Walk]]:
    """Kill a container beside the agent, and follow what that does until it has restarted it, and recorded that."""
    from flows.agent.agent import Agent
    from tasks.runtime.stores import open_stores

    stop = asyncio.Event()
    agent = Agent()
    running = asyncio.create_task(agent.run(stop))
    watched = agent.environments
    await _until(lambda: NAME in watched and watched[NAME].watcher is not None)
    # Its first sweep is over by then, as it is when a failure comes at any time.
    await asyncio.sleep(3)
    begun = await asyncio.to_thread(_started_at, container)
    walks = {}
    with tracer.walking() as walks["a death until it is recorded as healed"]:
        await asyncio.to_thread(run_docker, "kill", container)
        await _until(lambda: _started_at(container) != begun)
        modules = {name: len(walk.modules) for name, walk in tracer.walks.items()}
        await _until(lambda: any(attempt.success for attempt in open_stores().recoveries.find(environment=NAME)))
    print("until it is restarted:", ", ".join(f"{count} modules of {name}" for name, count in modules.items()))
    stop.set()
    await running
    return walks


async def _until(holds: Callable[[], bool]) -> None:
    def wait() -> None:
        deadline = time.monotonic() + HEALS_WITHIN_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.02)

    await asyncio.to_thread(wait)


def _started_at(container: str) -> str:
    return run_docker("inspect", "-f", "{{.State.Running}} {{.State.StartedAt}}", container).strip()


def show(title: str, walks: dict[str, Walk], *, listed: bool) -> None:
    """Print the figures of a walk, and its modules in order."""
    print(f"\n{title}")
    for name, walk in walks.items():
        print(f"  {name:12}", "  ".join(f"{figure} {value:4}" for figure, value in walk.figures().items()))
    for name, walk in walks.items() if listed else ():
        for number, module in enumerate(walk.modules, start=1):
            print(f"  {name} {number:3} {module:40} called by {walk.callers.get(module) or 'none of these'}")


def show_code() -> None:
    """Print the sizes of functions, classes and modules by layer."""
    print(
        f"\n{'code':10} {'lines':>7} {'functions':>9} {'median':>6} {'90 %':>5}  most parameters, longest class, module"
    )
    for layers in (*((layer,) for layer in LAYERS), LAYERS):
        files = [file for layer in layers for file in sorted((ROOT / layer).rglob("*.py"))]
        nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        lengths = [_lines(node) for node in functions]
        parameters = max((_parameters(node), node.name) for node in functions)
        longest = max((_lines(node), node.name) for node in nodes if isinstance(node, ast.ClassDef))
        lines = {file: len(file.read_text().splitlines()) for file in files}
        module = max(lines, key=lines.__getitem__)
        print(
            f"{layers[0] if len(layers) == 1 else 'all':10} {sum(lines.values()):7,} {len(lengths):9,} "
            f"{statistics.median(lengths):6g} {statistics.quantiles(lengths, n=10)[-1]:5.0f}  "
            f"{parameters[0]} {parameters[1]}, {longest[0]} {longest[1]}, {lines[module]} {module.relative_to(ROOT)}"
        )


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def walk(made: Stack, scenes: Sequence[str], tracer: Tracer) -> Iterator[tuple[str, dict[str, Walk]]]:
    """Let the application live, and give each walk that is asked for with its title."""
    with tracer.walking() as walks:
        run_command("start", NAME, "--quiet")
    if "start" in scenes:
        yield "a start", walks
    if "update" in scenes:
        good = made.file.read_text()
        made.file.write_text(good.replace("exec sleep 3600", "exit 3", 1))
        with tracer.walking() as walks:
            run_command("update", NAME, "--quiet", fails=True)
        made.file.write_text(good)
        yield "an update that fails and goes back", walks
    if "heal" in scenes:
        yield from asyncio.run(heal(f"{made.project}-web-1", tracer)).items()


def main() -> None:
    """Print the walks and the table that are asked for."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("parts", nargs="*", choices=["start", "update", "heal", "code", []], help="by default all")
    arguments.add_argument("--list", action="store_true", help="also each module in order")
    chosen = arguments.parse_args()
    parts = chosen.parts or ["start", "update", "heal", "code"]
    if {"start", "update", "heal"} & set(parts):
        os.environ["ROAS_WARM"] = "0"
        services = {"web": checked(interval="2s"), "base": checked(interval="2s")}
        for service in services.values():
            # No registry has the image, which the update would pull.
            service["pull_policy"] = "never"
        services["web"]["depends_on"] = {"base": {"condition": "service_healthy"}}
        # The longest period: a collection is no part of these walks.
        declared = {"stabilisation_seconds": 0, "collect_every_seconds": 3600}
        with tempfile.TemporaryDirectory() as folder, stack(Path(folder), NAME, services, **declared) as made:
            tracer = Tracer()
            with prefect_api(Settings()):
                wait_for_api()
                for title, walks in walk(made, parts, tracer):
                    show(title, walks, listed=chosen.list)
    if "code" in parts:
        show_code()


if __name__ == "__main__":
    main()
