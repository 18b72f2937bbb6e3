"""What runs always for one environment: the memory of each process, with the warm process and without."""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path

import psutil

from benchmarks.latency.commands import COLD
from benchmarks.latency.serving import SERVE, served
from benchmarks.measure import checked, report, stack

_RUNS_FOR_SECONDS = 30
_MOST = 0.6
_NAMES = {
    "flows.server.server_process": "Prefect server",
    "warm_process": "warm process",
    "agent_process": "agent",
    "serve": "roas serve",
}


def memory(folder: Path, chosen: argparse.Namespace) -> None:
    """`roas serve` with its agent, in turns with the warm process and without."""
    service = checked(interval="5s", timeout="3s", retries=3)
    ways: dict[str, tuple[tuple[str, ...], Mapping[str, str]]] = {"warm": (SERVE, {}), "cold": (SERVE, COLD)}
    if chosen.earlier:
        ways["earlier"] = (_serve_of(chosen.earlier), {"PYTHONPATH": str(chosen.earlier.resolve())})
    sums = {}
    for name, (command, variables) in ways.items():
        # A folder for each, so that none finds the records of another.
        own = folder / name
        own.mkdir()
        with stack(own, "latency", {"one": service, "two": service}) as made:
            made.compose("up", "--detach", "--wait")
            with served(own, 1, variables, command) as (_, process):
                time.sleep(_RUNS_FOR_SECONDS)
                sums[name] = _measured(name, psutil.Process(process.pid))
    for name in [one for one in ways if one != "warm"]:
        report(f"memory of all, warm, of that {name}", sums["warm"] / sums[name], "x", most=_MOST)


def _serve_of(checkout: Path) -> tuple[str, ...]:
    """`roas serve` by the entry point that the checkout declares."""
    scripts = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["roas"].partition(":")
    return (sys.executable, "-P", "-c", f"from {module} import {name}; {name}()", "serve")


def _measured(way: str, serving: psutil.Process) -> float:
    """MiB of a process and all that it started: each process's share of the pages that it has."""
    whole = 0.0
    for process in (serving, *serving.children(recursive=True)):
        rolled = dict(
            line.split()[:2] for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().split("\n")[1:-1]
        )
        share, private = int(rolled["Pss:"]) / 1024, int(rolled["Private_Dirty:"]) / 1024
        whole += share
        report(f"{way}: {_name(process)}, {private:.0f} MiB of it written by it alone", share, "MiB")
    report(f"{way}: all", whole, "MiB")
    return whole


def _name(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    name = next((name for word, name in _NAMES.items() if word in words), words[:40] or process.name())
    parent = process.parent()
    if name == "warm process" and parent is not None and "warm_process" in " ".join(parent.cmdline()):
        return "agent forked from the warm process"
    if name == "agent" and process.memory_info().rss < 30 * 2**20:
        return "client of the forked agent"
    return name
