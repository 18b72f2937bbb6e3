"""Start the gallery of real failures and print how each was judged: python -m tests.e2e.gallery [--only NAME].

Each case is an application of real programs that is really broken, or noisy but healthy. It is started with the real
command, and the report to the user is compared with what a person said beforehand.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.e2e.gallery.case import GalleryCase, read_cases
from tests.e2e.gallery.judged import Judged, judge
from tests.support.prefect_server import server_variables, temporary_server
from tests.support.warm import begin_session, end_session

BUILD = Path(__file__).with_name("image") / "build.sh"
_LOG_LINES = 25


def main() -> int:
    """Judge every case that is asked for; 1 where something was not as a person says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a word of names; may be repeated")
    parser.add_argument("--beside", type=int, default=2, help="so many cases at once")
    parser.add_argument("--log", type=Path, help="a file for all that was said of each case")
    parser.add_argument("--examples", action="store_true", help="print what the broken programs wrote, not the table")
    asked = parser.parse_args()
    cases = [case for case in read_cases() if not asked.only or any(word in case.name for word in asked.only)]
    subprocess.run([BUILD], check=True, stdout=sys.stderr)
    begin_session()
    try:
        with tempfile.TemporaryDirectory(prefix="roas-gallery-") as folder, temporary_server():
            return asyncio.run(_judge_all(cases, Path(folder), asked))
    finally:
        end_session()


async def _judge_all(cases: Sequence[GalleryCase], folder: Path, asked: argparse.Namespace) -> int:
    places, variables, began = asyncio.Semaphore(asked.beside), server_variables(), time.monotonic()
    if not asked.examples:
        print("| case | start | blamed | cause | done (would be tried) | line shown in | seconds |")
        print("|---|---|---|---|---|---|---|", flush=True)

    async def one(case: GalleryCase) -> Judged | None:
        async with places:
            try:
                judged = await asyncio.to_thread(judge, case, folder / case.name, variables)
            except Exception as trouble:  # noqa: BLE001 - the others are to be seen all the same
                print(f"| {case.name} | | | | | | |\n  NOT JUDGED ({case.name}): {type(trouble).__name__}: {trouble}")
                return None
        _show_examples(judged) if asked.examples else _show(judged)
        if asked.log:
            _write(asked.log, judged)
        return judged

    # The first leaves the warm process that the others use; else each of those at once would begin cold.
    answers = [await one(case) for case in cases[:1]]
    answers += await asyncio.gather(*map(one, cases[1:]))
    found = [judged for judged in answers if judged is not None]
    if not asked.examples:
        print("\n".join(_figures(found, len(cases))))
        print(f"took {time.monotonic() - began:.0f} s, {asked.beside} at once")
    return 0 if len(found) == len(cases) and not any(judged.complaints() for judged in found) else 1


def _show(judged: Judged) -> None:
    cells = (
        judged.case.name,
        "started" if judged.started else "failed",
        judged.blamed or "",
        judged.cause,
        ", ".join([*judged.done, *(f"({one})" for one in judged.offered)]) or "nothing",
        ", ".join(judged.shown_in) if judged.case.expect.line else "",
        f"{judged.taken_seconds:.0f}",
    )
    print(f"| {' | '.join(cells)} |", flush=True)
    for complaint in judged.complaints():
        print(f"  NOT AS EXPECTED ({judged.case.name}): {complaint}", flush=True)


def _show_examples(judged: Judged) -> None:
    """Print what a really broken program wrote, as YAML for the examples of a pattern."""
    if judged.case.is_healthy:
        return
    print(f"# {judged.case.program}, {judged.case.name}: {judged.case.broken}")
    for line in judged.logs:
        print(f"- {line!r}", flush=True)


def _figures(found: Sequence[Judged], asked: int) -> Iterator[str]:
    broken = [one for one in found if not one.case.is_healthy]
    healthy = [one for one in found if one.case.is_healthy]
    yield f"{len(found)} of {asked} cases judged: {len(broken)} broken, {len(healthy)} noisy but healthy"
    yield f"verdict {sum(one.verdict_right for one in found)}/{len(found)}"
    for name, right in (
        ("blame", [one.blame_right for one in broken]),
        ("cause", [one.cause_right for one in broken]),
        *((f"line in {place}", [place in one.shown_in for one in broken]) for place in _PLACES),
    ):
        yield f"{name} {sum(right)}/{len(right)}"
    yield f"harmful {sum(len(one.harmful) for one in found)}"
    yield f"harmful if tried {sum(len(one.harmful_if_tried) for one in found)}"
    yield f"false alarms {sum(one.false_alarm for one in healthy)}/{len(healthy)}"


_PLACES = ("cause", "why", "output", "ticket")


def _write(log: Path, judged: Judged) -> None:
    """Append all that was said of a case to the log."""
    parts = {
        "not as expected": "\n".join(judged.complaints()) or "nothing",
        "output": judged.output,
        "why": judged.why,
        "ticket": judged.ticket,
        "logs": "\n".join(judged.logs[-_LOG_LINES:]),
    }
    with log.open("a") as file:
        file.write(f"\n=== {judged.case.name}: {judged.case.broken}\n")
        file.writelines(f"--- {name}\n{text}\n" for name, text in parts.items())


if __name__ == "__main__":
    logging.getLogger("prefect").setLevel(logging.CRITICAL)
    sys.exit(main())
