"""Measure what the tests prove: what they execute, and which changes of the code they notice.

    python -m benchmarks.proof coverage --into FOLDER tests/unit tests/golden --tier gate -n 2
    python -m benchmarks.proof mutants --from FOLDER --tree . --draw core,models=200 --draw tasks=80 --into FILE.jsonl

Both need an environment with the packages of the tests, the project and `coverage`; mutants also need root.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path


def main() -> int:
    """Run the subcommand that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proof", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    coverage = commands.add_parser("coverage", help="run pytest under coverage; other arguments go to pytest")
    coverage.add_argument("--into", type=Path, required=True, help="folder of the data; several runs may share it")
    mutants = commands.add_parser("mutants", help="change the code at random points, and see whether tests fail")
    mutants.add_argument("--from", dest="data", type=Path, required=True, help="folder of `coverage --into`")
    mutants.add_argument("--tree", type=Path, default=Path(), help="checkout whose copy is changed")
    mutants.add_argument("--seed", type=int, default=1)
    mutants.add_argument("--draw", action="append", required=True, metavar="PATH,PATH=NUMBER")
    mutants.add_argument("--seconds", type=float, default=120, help="limit for the tests of a mutant")
    mutants.add_argument("--into", type=Path, required=True, help="file of the results; mutants in it are skipped")
    mutants.add_argument("--tests-under", default="tests", metavar="PATH,PATH", help="tests that count")
    mutants.add_argument("--only-tier", choices=["gate", "campaigns"], help="tests that count")
    mutants.add_argument("--durations", type=Path, help='lines {"test":, "began":, "ended":}; else those of --from')
    arguments, rest = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if arguments.command == "coverage":
        from benchmarks.proof.measured import measure

        return measure(rest, arguments.into)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    from benchmarks.proof.judgement import MutantJudgement

    return MutantJudgement(arguments).run()


if __name__ == "__main__":
    sys.exit(main())
