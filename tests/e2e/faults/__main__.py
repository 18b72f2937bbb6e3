"""Print the fault campaign as a table: python -m tests.e2e.faults [words of the faults' names]."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.e2e.faults.endured import Endured, endure_twice
from tests.e2e.faults.faults import FAULTS
from tests.e2e.faults.scenes import Scene
from tests.support.prefect_server import temporary_server


def main(words: Iterable[str]) -> int:
    """Let every fault that is asked for happen; exit with 1 where an expectation failed."""
    asked = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    well = True
    print("| fault | before | verdict | first cause, as `roas why` tells it | a line that shows it | undone | s |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for fault in asked:
        with tempfile.TemporaryDirectory(prefix="roas-faults-") as folder:
            os.environ |= {"ROAS_DATA_DIR": f"{folder}/data", "ROAS_ENVIRONMENTS_DIR": folder}
            scenes = (
                Scene(environments=Path(folder), name="proven"),
                Scene(environments=Path(folder), name="fresh"),
            )
            try:
                for endured in asyncio.run(endure_twice(fault, scenes)):
                    print(f"| {' | '.join(_cells(endured))} |", flush=True)
                    for complaint in endured.complaints():
                        well = False
                        print(f"  NOT AS IT MUST BE: {complaint}", flush=True)
            finally:
                for scene in scenes:
                    scene.clean()
    return 0 if well else 1


def _cells(endured: Endured) -> Iterator[str]:
    reported = endured.explanation
    shown = reported.lines[-1].text if reported.lines else ""
    yield endured.fault.name
    yield "a proven release" if endured.proven else "nothing"
    yield f"{endured.operation.status}, {endured.errors[0].verdict.category if endured.errors else 'no error'}"
    yield from (text.replace("|", "/").replace("\n", " ") for text in (reported.headline, shown, endured.undone))
    yield f"{endured.took_seconds:.1f}"


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    with temporary_server():
        outcome = main(sys.argv[1:])
    sys.exit(outcome)
