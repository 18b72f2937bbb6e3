"""`python -m tests.simulation.real_simulated NUMBER ...`: run scenarios in the simulated world, print their records.

Without numbers it reads them from standard input. The records of each are a line of JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path


def main() -> int:
    """Run each scenario in a fork: nothing undoes a simulated world."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.real_simulated", description=__doc__)
    parser.add_argument("numbers", type=int, nargs="*")
    parser.add_argument("--chance", type=int, default=0, help="decides how long all takes; the records do not change")
    parser.add_argument("--timeline", action="store_true", help="print what happened instead")
    chosen = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ |= {"PYTHONHASHSEED": "0", "PREFECT_PROFILES_PATH": os.devnull}
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation.real_simulated", *sys.argv[1:]])
    from tests.simulation import installed

    # Before any other module of ours: some keep functions of the clock.
    installed.import_product()
    from tests.simulation.forks import MEMORY, SELDOM
    from tests.simulation.real_scenarios import scenario_of
    from tests.simulation.simulated_scenario import SimulatedScenario

    def play(number: int, folder: Path) -> str:
        simulated = SimulatedScenario(scenario_of(number), folder, chosen.chance)
        records = simulated.run()
        return "\n".join(simulated.timeline) if chosen.timeline else json.dumps(records)

    with tempfile.TemporaryDirectory(prefix="roas-simulation-", dir=MEMORY) as name:
        installed.make_template(Path(name, "template"))
        gc.freeze()
        gc.set_threshold(*SELDOM)
        return max((_in_fork(play, number, Path(name)) for number in chosen.numbers or _asked()), default=0)


def _asked() -> Iterable[int]:
    for line in sys.stdin:
        yield int(line)


def _in_fork(play: Callable[[int, Path], str], number: int, folder: Path) -> int:
    """Print what a scenario gives, or why it broke off; the code with which a process of its own ends."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 0
        try:
            own = folder / str(os.getpid())
            shutil.copytree(folder / "template", own / "data")
            print(play(number, own), flush=True)
        except BaseException:  # noqa: BLE001 - this process ends here
            print(json.dumps({"failed": [{"why": traceback.format_exc()}]}), flush=True)
            code = 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
