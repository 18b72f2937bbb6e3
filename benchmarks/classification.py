"""How often the shipped patterns name the right cause, with and without what is known of a program.

    python -m benchmarks.classification LABELLED.jsonl [LABELLED.jsonl ...]

Each line is {"id", "text", "category", "safe_recovery"} and, where known, {"program"}. Two figures:

- all: all shipped patterns;
- leave one program out: the rows of a program are judged without the file of that program, and without every pattern
  that decides rows of no other program. What is left was not written for it.

Prints the shares of right categories and strategies among errors, and of benign rows that raise no error, and what
10,000 single lines cost.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from adapters.pattern_files import compiled, described_patterns, shipped_set
from benchmarks.measure import report, seconds
from core.errors.classify import classify
from core.errors.match import PatternSet
from models.errors import Category, DescribedPattern, Verdict

LINES = 10_000


@dataclass(frozen=True, slots=True)
class Score:
    """Right answers and rows: categories and strategies of errors, and benign rows."""

    category: int
    strategy: int
    errors: int
    quiet: int
    benign: int


def main() -> None:
    """Run the measurement and print it."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("files", nargs="+", type=Path)
    rows = [row for file in arguments.parse_args().files for row in read(file)]
    known = shipped_set()
    answers = {place: classify(row["text"], known) for place, row in enumerate(rows)}
    show("all patterns", score(rows, answers))
    show("leave one program out", score(rows, without_own_program(rows, answers)))
    lines = [line for row in rows for line in row["text"].splitlines() if line.strip()]
    # Numbered, so that no line is read from a cache.
    many = [f"{number} {lines[number % len(lines)]}" for number in range(LINES)]
    report("10,000 lines", seconds(partial(judge_all, many, known)), "s")


def read(file: Path) -> list[dict[str, Any]]:
    """The labelled rows of a file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def judge_all(lines: Sequence[str], known: PatternSet) -> None:
    """Classify each line by itself."""
    for line in lines:
        classify(line, known)


def without_own_program(rows: Sequence[Mapping[str, Any]], answers: Mapping[int, Verdict]) -> dict[int, Verdict]:
    """Verdicts on the rows of each program by the patterns that are not its own.

    A pattern is a program's own if it is in the program's file, or if it decides rows of that program alone.
    """
    deciding: dict[str, set[str]] = defaultdict(set)
    for place, verdict in answers.items():
        if verdict.pattern_name is not None:
            deciding[verdict.pattern_name].add(_program(rows[place], place))
    left_out: dict[int, Verdict] = {}
    for program in {_program(row, place) for place, row in enumerate(rows)}:
        others = compiled([one.pattern for one in described_patterns() if not _is_own(one, program, deciding)])
        for place, row in enumerate(rows):
            if _program(row, place) == program:
                left_out[place] = classify(row["text"], others)
    return left_out


def score(rows: Sequence[Mapping[str, Any]], answers: Mapping[int, Verdict]) -> Score:
    """Count the right answers."""
    errors = [place for place, row in enumerate(rows) if row["category"] != Category.BENIGN]
    benign = [place for place, row in enumerate(rows) if row["category"] == Category.BENIGN]
    return Score(
        category=sum(answers[place].category == rows[place]["category"] for place in errors),
        strategy=sum(answers[place].strategy == rows[place]["safe_recovery"] for place in errors),
        errors=len(errors),
        quiet=sum(answers[place].category is Category.BENIGN for place in benign),
        benign=len(benign),
    )


def show(name: str, found: Score) -> None:
    """Print one score."""
    print(f"{name}: {found.errors} errors, {found.benign} benign rows")
    report("  category", found.category / max(1, found.errors))
    report("  strategy", found.strategy / max(1, found.errors))
    report("  benign", found.quiet / max(1, found.benign))


def _program(row: Mapping[str, Any], place: int) -> str:
    """The program of a row; a row without one is a program of its own."""
    return str(row.get("program") or f"row {place}")


def _is_own(one: DescribedPattern, program: str, deciding: Mapping[str, set[str]]) -> bool:
    return one.program.startswith(program) or deciding.get(one.pattern.name, set()) == {program}


if __name__ == "__main__":
    main()
