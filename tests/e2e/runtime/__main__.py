"""End and kill commands at random moments, and open a new data folder by three commands at once.

    python -m tests.e2e.runtime [--ends 20] [--watches 12] [--opens 3] [--kills 60]

Prints what each left, and ends with 1 where one did not end in time, left a process or failed.
"""

from __future__ import annotations

import argparse
import signal
import sys

from tests.e2e.runtime.ends import (
    ENDS_WITHIN_SECONDS,
    ProcessEnd,
    end_serve,
    end_serve_with_runs,
    folder,
    kill_watch,
    open_at_once,
    random_moments,
)
from tests.e2e.runtime.kills import VICTIMS, Kills, ProcessKill

_LATEST_MOMENT = 15.0
_LATEST_WITH_RUNS = 3.0
_WITH_RUNS_EVERY = 4


def main() -> int:
    """Do so many of each, and print a table; 1 where one is not as expected."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--ends", type=int, default=20, help="of roas serve")
    arguments.add_argument("--watches", type=int, default=12, help="kills of roas watch, of each kind")
    arguments.add_argument("--opens", type=int, default=3, help="new data folders")
    arguments.add_argument("--kills", type=int, default=60, help="of operations: client, fork or warm process")
    chosen = arguments.parse_args()
    right = _ends(chosen.ends)
    right &= _watches(chosen.watches, warm=True)
    right &= _watches(chosen.watches, warm=False)
    right &= _opens(chosen.opens)
    right &= _kills(chosen.kills)
    return 0 if right else 1


def _ends(count: int) -> bool:
    found = []
    with folder() as place:
        place.declare("test")
        for turn, moment in enumerate(random_moments(count, _LATEST_MOMENT)):
            number = (signal.SIGTERM, signal.SIGINT)[turn % 2]
            # Neither always the same signal.
            if turn % _WITH_RUNS_EVERY == (turn // _WITH_RUNS_EVERY) % 2:
                shown = end_serve_with_runs(place, moment * _LATEST_WITH_RUNS / _LATEST_MOMENT, number)
            else:
                shown = end_serve(place, moment, number)
            found.append(_shown(shown))
    return _sum(f"ends of roas serve within {ENDS_WITHIN_SECONDS:g} s that left nothing", found)


def _watches(count: int, *, warm: bool) -> bool:
    found = []
    with folder() as place:
        place.declare("test")
        found = [_shown(kill_watch(place, moment, warm=warm)) for moment in random_moments(count, _LATEST_MOMENT)]
    return _sum(f"kills of roas watch that left nothing, {'warm' if warm else 'ROAS_WARM=0'}", found)


def _opens(count: int) -> bool:
    found = []
    for _ in range(count):
        with folder() as place:
            codes = open_at_once(place)
            found.append(set(codes.values()) == {0})
            print("three starts at once, exit codes:", *codes.values(), flush=True)
            if not found[-1]:
                print((place.path / "log").read_text(errors="replace")[-4000:])
    return _sum("new data folders that three starts opened", found)


def _kills(count: int) -> bool:
    with folder() as place:
        kills = Kills(place, seed=count)
        try:
            kills.prepare()
            found = [_shown_kill(kills.kill(VICTIMS[turn % len(VICTIMS)])) for turn in range(count)]
            operations, runs = kills.settle()
        finally:
            kills.end()
    print(f"kills that met a running command: {sum(bool(one.victim) for one in found)} of {count}")
    print(f"operations left running: {len(operations)}, flow runs: {len(runs)}", *runs, sep="\n    ")
    return _sum("kills after which no success was told that is not recorded", [one.is_true for one in found]) and not (
        operations or runs
    )


def _shown_kill(one: ProcessKill) -> ProcessKill:
    print(
        f"{one.command:8} {one.victim or 'ended before':12} killed after {one.moment:5.2f} s: "
        f"exit code {one.code}, recorded {one.recorded or 'nothing'}{'' if one.is_true else ': NOT RIGHT'}",
        flush=True,
    )
    return one


def _shown(one: ProcessEnd) -> bool:
    print(
        f"{one.what:40} at {one.moment:5.1f} s: ended after {one.ended_after:5.2f} s, "
        f"left {len(one.left)}{'' if one.is_right else f': NOT RIGHT {one.problem}'}",
        *one.left,
        sep="\n    ",
        flush=True,
    )
    return one.is_right


def _sum(what: str, found: list[bool]) -> bool:
    print(f"{what}: {sum(found)} of {len(found)}", flush=True)
    return all(found)


if __name__ == "__main__":
    sys.exit(main())
