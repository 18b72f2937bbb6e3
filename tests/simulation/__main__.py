"""`python -m tests.simulation SEED HOURS`: run or repeat a simulation; exit 1 where a sentence does not hold."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.fault import Fault

_FIXED_HASHES = "0"
"""The order of sets of words follows from it, and with it the order in which the product does things."""


def main() -> int:
    """Run simulations as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seeds", nargs="?", default="1", help="a seed, or FIRST-LAST")
    parser.add_argument("hours", type=float, nargs="?", default=2.0, help="simulated hours of each seed")
    parser.add_argument("--fault", help="put this deliberate fault into the product; exit 0 where it is found")
    parser.add_argument(
        "--faults", choices=("in", "out"), help="let happen what shows deliberate faults, with them or without"
    )
    parser.add_argument("--share", default="1/1", help="of the deliberate faults: NUMBER/COUNT")
    parser.add_argument("--data", action="store_true", help="of an application whose data is saved and put back")
    parser.add_argument("--quiet", action="store_true", help="print no timeline, and do not shrink")
    chosen = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != _FIXED_HASHES:
        os.environ |= {"PYTHONHASHSEED": _FIXED_HASHES, "PREFECT_PROFILES_PATH": os.devnull}
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    from tests.simulation import installed

    installed.import_product()
    with tempfile.TemporaryDirectory(prefix="roas-simulation-") as folder:
        template = Path(folder, "data")
        installed.make_template(template)
        gc.freeze()
        if chosen.faults:
            number, _, count = chosen.share.partition("/")
            faults = [fault for fault in _faults(chosen) if chosen.fault in (None, fault.name)]
            return _show_faults(faults[int(number) - 1 :: int(count)], template, with_them=chosen.faults == "in")
        return _run(chosen, template)


def _faults(chosen: argparse.Namespace) -> Sequence[Fault]:
    from tests.simulation.data_faults import DATA_FAULTS
    from tests.simulation.deliberate_faults import FAULTS

    return DATA_FAULTS if chosen.data else FAULTS


def _show_faults(faults: Sequence[Fault], template: Path, *, with_them: bool) -> int:
    """Whether the events that show each deliberate fault do so; without it they must break no sentence."""
    from tests.simulation.forks import in_fork

    wrong = 0
    for fault in faults:
        report = in_fork(fault.seed, fault.shown_by, template, fault.put if with_them else _change_nothing)
        is_shown = report.sentence in {sentence.name for sentence in fault.breaks}
        wrong += not (is_shown if with_them else report.holds)
        print(f"{fault.name}: {report.what or 'all holds'}", flush=True)
    return int(wrong > 0)


def _run(chosen: argparse.Namespace, template: Path) -> int:
    from tests.simulation.actions import draw_actions
    from tests.simulation.data_actors import draw_data_actions
    from tests.simulation.forks import in_fork
    from tests.simulation.shrink import shrink

    fault = next(fault for fault in _faults(chosen) if fault.name == chosen.fault) if chosen.fault else None
    first, _, last = chosen.seeds.partition("-")
    hours = seconds = 0.0
    for seed in range(int(first), int(last or first) + 1):
        actions = (draw_data_actions if chosen.data else draw_actions)(seed, chosen.hours)
        change = fault.put if fault is not None else _change_nothing
        report = in_fork(seed, actions, template, change)
        hours, seconds = hours + report.hours, seconds + report.processor_seconds
        how = f"{report.hours:.1f} h, {report.operations} operations, timeline {report.digest}"
        print(f"seed {seed}: {how}: {report.what or 'all holds'}", flush=True)
        if fault is not None and report.sentence not in {sentence.name for sentence in fault.breaks}:
            continue
        if not chosen.quiet and (first == chosen.seeds or not report.holds):
            if not report.holds:
                actions, report = shrink(actions, lambda fewer: in_fork(seed, fewer, template, change), report)  # noqa: B023 - called here
                print("with the fewest events:", *(f"{action.at:.0f} s {action}" for action in actions), sep="\n")
            print("\n".join(report.timeline))
        if fault is not None:
            print(f"found after {hours:.1f} h")
            return 0
        if not report.holds:
            again = f"make simulate SEED={seed} HOURS={chosen.hours:g}{' DATA=1' if chosen.data else ''}"
            print(f"seed {seed}: {report.what}\nagain: {again}")
            return 1
    print(f"{hours:.1f} h simulated in {seconds:.1f} s of processor: {hours / seconds:.2f} h a second")
    return 0 if fault is None else 1


def _change_nothing() -> None:
    """The product as it is."""


if __name__ == "__main__":
    sys.exit(main())
