"""How fast many patterns are matched, and whether hostile lines can hang the matcher.

    python -m benchmarks.matching [--lines 100000] [--sample 2000]

- 250 patterns against many log lines, all at once, and each with `re` on a sample of the lines, scaled up.
- 20 patterns on which backtracking engines take exponential or quadratic time, all shipped patterns and the whole
  classification, on lines of up to 1 MB: the time per byte must not grow.
- What a process pays before its first verdict.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial

from adapters.pattern_files import harmless_lines, shipped_patterns, shipped_set
from benchmarks.measure import report, seconds
from core.errors.classify import classify as classify_by
from core.errors.match import PatternSet
from models.errors import Category, Pattern, Severity, Strategy

classify = partial(classify_by, patterns=shipped_set())

PATTERNS = 250
LENGTHS = (10_000, 100_000, 1_000_000)

# Each with a line it is slow on: the part that repeats, and the end that makes the match fail.
HOSTILE = (
    (r"(a+)+$", "a", "!"),
    (r"(a*)*b", "a", "c"),
    (r"(a|a)*b", "a", "c"),
    (r"(a|aa)+$", "a", "!"),
    (r"(.*a){12}b", "a", "c"),
    (r"([a-z]+)*=", "a", "!"),
    (r"^(\w+\s?)*$", "word ", "!"),
    (r"(x+x+)+y", "x", "z"),
    (r"(\d+)*:\d", "1", "x"),
    (r"^(([a-z])+.)+[A-Z]([a-z])+$", "a", "!"),
    (r"(\s*a\s*)*b", " a ", "c"),
    (r"([^/]+/)*[^/]+\.py$", "a/", "!"),
    (r"(.*)(.*)(.*)(.*)x$", "a", "y"),
    (r"error.*failed.*error.*failed.*done", "error failed ", "!"),
    (r"(\w+)@(\w+\.)+com", "a@a.", "!"),
    (r"(0|00|000)*1$", "0", "2"),
    (r"\"(\\.|[^\"\\])*\"x", '"\\a', "!"),
    (r"(.+)+ refused", "a", "!"),
    (r"((ab)*|(a|b)*)*c", "ab", "d"),
    (r"(?:(?:\d{1,3}\.){3}\d{1,3},?)*end", "1.2.3.4,", "!"),
)


def main() -> None:
    """Run the measurements and print what they show."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--lines", type=int, default=100_000)
    arguments.add_argument("--sample", type=int, default=2_000)
    chosen = arguments.parse_args()
    compare_with_one_by_one(chosen.lines, chosen.sample)
    print("20 hostile patterns, ms on lines of " + ", ".join(f"{length:,}" for length in LENGTHS) + " characters,")
    print("and how the time per byte grows over the last tenfold: the pattern alone, then the whole verdict")
    for regex, part, end in HOSTILE:
        show_growth(regex, part, end, PatternSet([_pattern("hostile", regex)]).find)
        show_growth("", part, end, classify)
    show_first_verdict()


def compare_with_one_by_one(count: int, sample: int) -> None:
    """All patterns at once against each of them with `re`."""
    patterns, lines = some_patterns(), some_lines(count)
    together = PatternSet(patterns)
    compiled = [re.compile(pattern.regex, re.IGNORECASE) for pattern in patterns]
    took = seconds(lambda: [together.find(line) for line in lines]) / count
    alone = seconds(lambda: [regex.search(line) for line in lines[:sample] for regex in compiled]) / sample
    report(f"{len(patterns)} patterns at once", 1e6 * took, "us/line")
    report("one by one", 1e6 * alone, "us/line")
    report("times as fast", alone / took)


def show_growth(name: str, part: str, end: str, find: Callable[[str], object]) -> None:
    """Time on lines made to hang a backtracking engine."""
    times = []
    for length in LENGTHS:
        line = part * (length // len(part)) + end
        times.append(seconds(partial(find, line)))
    growth = times[-1] / times[-2] * LENGTHS[-2] / LENGTHS[-1]
    print(f"  {name:42} " + " ".join(f"{1000 * taken:9.2f}" for taken in times) + f"   x {growth:.1f}")


def show_first_verdict(rounds: int = 7) -> None:
    """What one `roas classify` costs, in processor time, as medians."""
    asked = "bind: address already in use"
    steps = {
        "python alone": [""],
        "and import": ["import core.errors.classify"],
        "and compile the set": ["from adapters.pattern_files import shipped_set; shipped_set()"],
        "and one verdict": [f"{_FIRST}; classify({asked!r}, shipped_set())"],
        "roas classify, one line": ["from cli.main import main; main()", "classify", asked],
    }
    for name, code in steps.items():
        command = [sys.executable, "-c", *code]
        run = partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)
        taken = [seconds(run, _of_children) for _ in range(rounds)]
        report(name, 1000 * statistics.median(taken), "ms CPU")


_FIRST = "from adapters.pattern_files import shipped_set; from core.errors.classify import classify"


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def some_patterns() -> list[Pattern]:
    """The shipped patterns, and a person's own until there are 250."""
    own = (_pattern(f"own_{number}", rf"subsystem {number} reports fault \d+") for number in itertools.count())
    return [*shipped_patterns(), *itertools.islice(own, max(0, PATTERNS - len(shipped_patterns())))][:PATTERNS]


def some_lines(count: int) -> list[str]:
    """Log lines, mostly harmless, every twentieth with a cause; the same in each run."""
    draw = random.Random(7)
    causes = (
        "dial tcp 10.0.0.{n}:6379: connect: connection refused",
        "write /data/{n}: no space left on device",
        "KeyError: 'TOKEN_{n}'",
        "subsystem {n} reports fault 17",
    )
    lines = []
    for number in range(count):
        text = draw.choice(causes) if number % 20 == 0 else draw.choice(harmless_lines())
        stamp = f"2026-03-02T10:{number // 60 % 60:02}:{number % 60:02}Z"
        lines.append(f"{stamp} service-{draw.randrange(30)} {text.replace('{n}', str(draw.randrange(250)))}")
    return lines


def _pattern(name: str, regex: str) -> Pattern:
    return Pattern(
        name=name,
        regex=regex,
        category=Category.UNKNOWN,
        severity=Severity.MEDIUM,
        strategy=Strategy.INVESTIGATE,
    )


if __name__ == "__main__":
    main()
