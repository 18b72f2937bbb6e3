"""Print the healing campaign as a table: python -m tests.e2e.healing [--beside N] [words of the harms' names].

Each harm happens to a running sample of its own, on the engine that `docker` talks to, while a watch looks after
it. A row tells the cause, what was done, and when after the harm it was detected, acted on and verified, in seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from tests.e2e.healing.endured import Harm, Survived, survive
from tests.e2e.healing.harms import HARMS
from tests.e2e.healing.scenes import IMAGES, Sample, Stranger
from tests.support.engines import engine_for_a_while
from tests.support.prefect_server import temporary_server


def main() -> int:
    """Let every harm that is asked for happen; 1 where something was not as expected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--beside", type=int, default=2, help="so many samples at once")
    parser.add_argument("--log", type=Path, help="a file for what the watches say")
    asked = parser.parse_args()
    _say_it_to(asked.log)
    harms = [harm for harm in HARMS if not asked.words or any(word in harm.name for word in asked.words)]
    print("| harm | cause | judged | done | end | detected | acted | verified | attempts | tickets |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="roas-healing-") as folder:
        scripts = Path(folder, "recovery")
        scripts.mkdir()
        # A script runs as a user who has no right to anything else here.
        scripts.chmod(0o755)
        Path(folder).chmod(0o711)
        os.environ |= {
            "ROAS_DATA_DIR": f"{folder}/data",
            "ROAS_ENVIRONMENTS_DIR": folder,
            "ROAS_RECOVERY_DIR": str(scripts),
        }
        return asyncio.run(_campaign(harms, Path(folder), asked.beside))


def _say_it_to(log: Path | None) -> None:
    """Write the log into a file, or nowhere: the screen is for the table."""
    roas = logging.getLogger("roas")
    roas.propagate = False
    roas.addHandler(logging.NullHandler() if log is None else logging.FileHandler(log))
    for handler in roas.handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))


async def _campaign(harms: list[Harm], folder: Path, beside: int) -> int:
    stranger = Stranger(f"stranger-{secrets.token_hex(4)}")
    stranger.begin()
    shown, places, wrong = stranger.shows(), asyncio.Semaphore(beside), 0

    async def one(harm: Harm, sample: Sample) -> bool:
        async with places:
            try:
                survived = await survive(harm, sample)
                complaints = survived.complaints()
                print(f"| {' | '.join(_cells(survived))} |", flush=True)
            except Exception as trouble:  # noqa: BLE001 - the others are to be seen all the same
                complaints = [f"{type(trouble).__name__}: {trouble}"]
                print(f"| {harm.name} | |", flush=True)
            finally:
                await asyncio.to_thread(sample.clean)
            for complaint in complaints:
                print(f"  NOT AS EXPECTED ({harm.name}): {complaint}", flush=True)
            return not complaints

    try:
        samples = [(harm, Sample(environments=folder, name=f"sample-{n}")) for n, harm in enumerate(harms)]
        well = await asyncio.gather(*(one(harm, sample) for harm, sample in samples if not harm.own_engine))
        if hurting := [one_of for one_of in samples if one_of[0].own_engine]:
            with engine_for_a_while(*IMAGES) as engine:
                for harm, sample in hurting:
                    well.append(await one(harm, replace(sample, engine=engine.address, known_engine=engine)))
        wrong = well.count(False)
        if stranger.shows() != shown:
            wrong += 1
            print(f"  NOT AS EXPECTED: the stranger was {shown}, is {stranger.shows()}")
    finally:
        stranger.end()
    print(f"{len(harms) - wrong} of {len(harms)} as expected")
    return 1 if wrong else 0


def _cells(survived: Survived) -> Iterator[str]:
    error = survived.blamed
    yield survived.harm.name
    yield error.service or "the host" if error else ""
    yield str(error.verdict.category) if error else ""
    yield ", ".join(dict.fromkeys(str(one.strategy) for one in survived.tries)) or "nothing"
    yield str(survived.harm.end)
    last = survived.tries[-1] if survived.tries else None
    yield _after(survived, error.first_seen if error else None)
    yield _after(survived, last.acted_at if last else None)
    yield _after(survived, last.verified_at if last else error.resolved_at if error else None)
    yield str(len(survived.tries))
    yield str(len(survived.open_tickets))


def _after(survived: Survived, moment: datetime | None) -> str:
    return "" if moment is None else f"{(moment - survived.began).total_seconds():.1f}"


if __name__ == "__main__":
    logging.getLogger("prefect").setLevel(logging.CRITICAL)
    with temporary_server():
        outcome = main()
    sys.exit(outcome)
