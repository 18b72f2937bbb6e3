"""What the benchmarks share: measuring in turns, reporting against goals, and small applications to measure with."""

from __future__ import annotations

import json
import os
import secrets
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMAGE = "debian:trixie-slim"
Clock = Callable[[], float]


def seconds(work: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    began = clock()
    work()
    return clock() - began


def in_turns(
    rounds: int,
    works: Mapping[str, Callable[..., object]],
    prepare: Callable[[], tuple[Any, ...]] = tuple,
    clocks: Sequence[Clock] = (time.perf_counter,),
) -> dict[str, list[tuple[float, ...]]]:
    """What each work took in each round, by each clock, given what `prepare` returns anew every time.

    Each goes first as often as the others, since what is written grows and machines change their pace.
    """
    taken: dict[str, list[tuple[float, ...]]] = {name: [] for name in works}
    for turn in range(rounds):
        first = turn % len(works)
        for name in [*works][first:] + [*works][:first]:
            given = prepare()
            began = [clock() for clock in clocks]
            works[name](*given)
            taken[name].append(tuple(clock() - start for clock, start in zip(clocks, began, strict=True)))
    return taken


def medians(taken: Mapping[str, Sequence[tuple[float, ...]]], clock: int = 0) -> dict[str, float]:
    return {name: statistics.median(times[clock] for times in rounds) for name, rounds in taken.items()}


def report(name: str, value: float, unit: str = "", *, least: float | None = None, most: float | None = None) -> bool:
    """Print a figure beside its goal; False if it misses it."""
    kept = (least is None or value >= least) and (most is None or value <= most)
    goals = [f"at {word} {goal:,g}" for word, goal in (("least", least), ("most", most)) if goal is not None]
    print(f"{name:64} {value:12,.3f} {unit:8} {', '.join(goals)}{'' if kept else ': MISSED'}".rstrip(), flush=True)
    return kept


def run_docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A Compose application with an environment of the same name."""

    name: str
    project: str
    file: Path

    def compose(self, *arguments: str) -> str:
        return run_docker("compose", "--project-name", self.project, "--file", str(self.file), *arguments)

    def down(self) -> None:
        # Killed first: Compose stops one after the other, in reverse order.
        self.compose("kill")
        self.compose("down", "--timeout", "1")


def checked(**timing: str | int) -> dict[str, Any]:
    """A small service that is healthy while /tmp/well exists."""
    check = {"test": ["CMD", "test", "-e", "/tmp/well"], "start_interval": "200ms", **timing}
    return {"command": ["sh", "-c", "touch /tmp/well; exec sleep 3600"], "healthcheck": check}


@contextmanager
def stack(folder: Path, name: str, services: Mapping[str, dict[str, Any]], /, **declared: object) -> Iterator[Stack]:
    """Write an application of these services and its environment, and remove its containers at the end.

    `declared` goes into the environment.

    The environment and the data folder of this process lie in `folder` from then on.
    """
    os.environ |= {"ROAS_DATA_DIR": f"{folder}/data", "ROAS_ENVIRONMENTS_DIR": str(folder)}
    made = Stack(name=name, project=f"roas-bench-{secrets.token_hex(4)}", file=folder / f"{name}.compose.json")
    made.file.write_text(
        json.dumps({"services": {one: {"image": IMAGE, "init": True, **body} for one, body in services.items()}})
    )
    environment = {"name": name, "project": made.project, "compose_files": [made.file.name], **declared}
    (folder / f"{name}.yaml").write_text(json.dumps(environment))
    try:
        yield made
    finally:
        made.down()
