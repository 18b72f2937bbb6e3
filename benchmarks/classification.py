"""How often the shipped patterns name the right cause, with and without what is known of a program.

    python -m benchmarks.classification [--classes] LABELLED.jsonl [LABELLED.jsonl ...]

Each line is {"id", "text", "category", "safe_recovery"} and, where known, {"program"} and a second category that can be
defended {"also_ok"}. Two figures:

- all: all shipped patterns;
- leave one program out: the rows of a program are judged without the file of that program, and without every pattern
  that decides rows of no other program. What is left was not written for it.

Prints the shares of right categories and strategies among errors, of benign rows that raise no error, how many rows
are offered an automatic strategy although a person must decide, and what 10,000 single lines cost. `--classes` adds,
for each category, what its rows were taken for; it prints no text, so that a kept-back file stays unseen.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from adapters.pattern_files import compile_patterns, described_patterns, shipped_set
from benchmarks.measure import report, seconds
from core.errors.classify import classify
from core.errors.match import PatternSet
from models.errors import Category, DescribedPattern, Strategy, Verdict

LINES = 10_000


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Right answers and rows: categories and strategies of errors, benign rows; offers that a person must decide."""

    category: int
    defensible: int
    strategy: int
    errors: int
    quiet: int
    benign: int
    offered: int


def main() -> None:
    """Run the measurement and print it."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--classes", action="store_true", help="What each category was taken for.")
    arguments.add_argument("files", nargs="+", type=Path)
    asked = arguments.parse_args()
    rows = [row for file in asked.files for row in read(file)]
    known = shipped_set()
    answers = {place: classify(row["text"], known) for place, row in enumerate(rows)}
    show("all patterns", score(rows, answers))
    if asked.classes:
        show_classes(rows, answers)
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
    """Verdicts on the rows of each program by the patterns that are not its own."""
    deciding = decided_programs(rows, answers)
    left_out: dict[int, Verdict] = {}
    for program in {program_of(row, place) for place, row in enumerate(rows)}:
        others = compile_patterns([one.pattern for one in described_patterns() if not is_own(one, program, deciding)])
        for place, row in enumerate(rows):
            if program_of(row, place) == program:
                left_out[place] = classify(row["text"], others)
    return left_out


def decided_programs(rows: Sequence[Mapping[str, Any]], answers: Mapping[int, Verdict]) -> dict[str, set[str]]:
    """The programs whose rows each pattern decides, by the pattern's name."""
    deciding: dict[str, set[str]] = defaultdict(set)
    for place, verdict in answers.items():
        if verdict.pattern_name is not None:
            deciding[verdict.pattern_name].add(program_of(rows[place], place))
    return deciding


def program_of(row: Mapping[str, Any], place: int) -> str:
    """The program of a row; a row without one is a program of its own."""
    return str(row.get("program") or f"row {place}")


def is_own(one: DescribedPattern, program: str, deciding: Mapping[str, set[str]]) -> bool:
    """Whether a pattern is in the program's file or decides rows of that program alone."""
    return one.program.startswith(program) or deciding.get(one.pattern.name, set()) == {program}


def score(rows: Sequence[Mapping[str, Any]], answers: Mapping[int, Verdict]) -> ClassScore:
    """Count the right answers."""
    errors = [place for place, row in enumerate(rows) if row["category"] != Category.BENIGN]
    benign = [place for place, row in enumerate(rows) if row["category"] == Category.BENIGN]
    return ClassScore(
        category=sum(answers[place].category == rows[place]["category"] for place in errors),
        defensible=sum(
            answers[place].category in (rows[place]["category"], rows[place].get("also_ok")) for place in errors
        ),
        strategy=sum(answers[place].strategy == rows[place]["safe_recovery"] for place in errors),
        errors=len(errors),
        quiet=sum(answers[place].category is Category.BENIGN for place in benign),
        benign=len(benign),
        offered=sum(
            answers[place].strategy.automatic and not Strategy(row["safe_recovery"]).automatic
            for place, row in enumerate(rows)
        ),
    )


def show(name: str, found: ClassScore) -> None:
    """Print one score."""
    print(f"{name}: {found.errors} errors, {found.benign} benign rows")
    report("  category", found.category / max(1, found.errors))
    report("  category, or the other that can be defended", found.defensible / max(1, found.errors))
    report("  strategy", found.strategy / max(1, found.errors))
    report("  benign", found.quiet / max(1, found.benign))
    report("  offered although a person must decide", found.offered, "rows")


def show_classes(rows: Sequence[Mapping[str, Any]], answers: Mapping[int, Verdict]) -> None:
    """Print for each category how many rows are right, and what the others were taken for; most wrong first."""
    taken: dict[str, Counter[str]] = defaultdict(Counter)
    for place, row in enumerate(rows):
        taken[row["category"]][answers[place].category.value] += 1
    for category, found in sorted(taken.items(), key=lambda one: one[1][one[0]] - one[1].total()):
        wrong = ", ".join(f"{count} {name}" for name, count in found.most_common() if name != category)
        print(f"  {category:28} {found[category]:3} of {found.total():3}  {wrong}".rstrip())


if __name__ == "__main__":
    main()
