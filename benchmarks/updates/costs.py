"""What an update costs beside Compose's own commands, and what clients see of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Stack, report, seconds, stack
from benchmarks.update_outage import application, start_first, stop_first
from benchmarks.updates.application import place, roas, states, warm_up
from tests.support.fronts import FRONTS, build_image
from tests.support.registry import Registry
from tests.support.versions import AppVersion, web

MOST_TIMES_COMPOSE = 1.1
MOST_OUTAGE_TIMES_COMPOSE = 1.0
_SERVICES = 10


def ten(folder: Path, rounds: int) -> bool:
    """Ten services, one of which changed: the time until it is replaced and healthy, and what happens to the others."""
    names = [f"s{number}" for number in range(_SERVICES)]
    taken: dict[str, list[float]] = {"ours": [], "compose": []}
    touched = 0
    with place(folder) as images, _twice(folder, images, names) as (ours, theirs):
        for turn in range(rounds):
            changed = names[turn % len(names)]
            for kind in _order(turn):
                made = ours if kind == "ours" else theirs
                _publish(images, kind, changed, f"{turn + 2}")
                before = states(made)
                update = _update(ours) if kind == "ours" else lambda: _compose_update(theirs)
                taken[kind].append(seconds(update))
                after = states(made)
                if before[changed] == after[changed]:
                    raise RuntimeError(f"{changed} of {kind} was not replaced")
                if kind == "ours":
                    touched += sum(before[name] != after[name] for name in names if name != changed)
    ratio = _print_ratio("update of one of ten services", taken)
    kept = report("  ours / compose", ratio, "x", most=MOST_TIMES_COMPOSE)
    return report("  containers of other services touched", touched, most=0) and kept


def outage(folder: Path, rounds: int) -> bool:
    """One of three services replaced stop-first: how long a client gets no answer, beside Compose's."""
    build_image()
    with application(folder) as made:
        return stop_first(made, rounds) <= MOST_OUTAGE_TIMES_COMPOSE


def proxies(folder: Path, requests: int) -> bool:
    """A service behind each kind of proxy replaced start-first: how many of so many requests fail."""
    build_image()
    failed = 0
    for front in FRONTS:
        (folder / front).mkdir()
        with application(folder / front) as made:
            failed += start_first(made, front, requests)
    return failed == 0


def _print_ratio(what: str, taken: dict[str, list[float]]) -> float:
    middle = {kind: statistics.median(times) for kind, times in taken.items()}
    for kind, times in taken.items():
        print(f"{what}, {kind:8} {middle[kind]:7.3f} s   {' '.join(f'{one:.3f}' for one in times)}", flush=True)
    return middle["ours"] / middle["compose"]


def _order(turn: int) -> tuple[str, str]:
    return ("ours", "compose") if turn % 2 == 0 else ("compose", "ours")


def _update(made: Stack) -> Callable[[], object]:
    return lambda: roas("update", made.name)


def _compose_update(made: Stack) -> None:
    made.compose("pull", "--quiet")
    made.compose("up", "--detach", "--wait")


def _publish(images: Registry, kind: str, service: str, version: str) -> None:
    # Of two images with the same content one pull would be none.
    images.publish(f"{kind}-{service}", f"ENV PART={kind}-{service}", *AppVersion(name=version).lines())


@contextmanager
def _twice(folder: Path, images: Registry, names: list[str]) -> Iterator[tuple[Stack, Stack]]:
    """The same application for each of the two, with images of its own; both run, and one update was done already."""
    declared = {}
    for kind in ("ours", "compose"):
        for name in names:
            _publish(images, kind, name, "0")
        declared[kind] = {name: web(images.image(f"{kind}-{name}")) for name in names}
    with (
        stack(folder, "ours", declared["ours"], stabilisation_seconds=0) as ours,
        stack(folder, "compose", declared["compose"]) as theirs,
    ):
        roas("start", ours.name)
        _compose_update(theirs)
        warm_up(folder)
        for kind in ("ours", "compose"):
            _publish(images, kind, names[-1], "1")
        roas("update", ours.name)
        _compose_update(theirs)
        yield ours, theirs
