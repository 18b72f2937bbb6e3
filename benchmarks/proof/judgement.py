"""Draw mutants, run the tests that execute them, and say which ones no test noticed."""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from math import sqrt
from pathlib import Path
from typing import Any

from benchmarks.proof.measured import hashes_of, python_files
from benchmarks.proof.mutations import Mutant, mutants_of, valid
from benchmarks.proof.sandbox import Sandbox, SandboxRun, sandbox
from benchmarks.proof.selection import Selection

_BATCHES = (10, 100)
"""The first tests run by themselves: mostly one of them fails, and the files of the others need not be imported."""
_HANGS_SECONDS = 10.0
_HANGS_TIMES = 10.0
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantVerdict:
    """What the tests say of a mutant, and how they came to it.

    killed: a test failed. timeout: a test took much longer than without the change; this counts as killed. survived:
    every test passed. unfinished: the tests that ran in the time passed. unexecuted: no test executes the statement.
    """

    verdict: str
    test: str = ""
    why: str = ""
    ran: int = 0
    skipped: int = 0
    tests: int = 0
    executed: int = 0
    seconds: float = 0.0
    first_tests: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    """Tests that fail in the copy without a change, too, so they say nothing."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How the tests of a mutant ended, and the test that decided it."""

    verdict: str
    runs: list[SandboxRun]
    test: str = ""
    why: str = ""


class MutantJudgement:
    """The subcommand `mutants`."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._tree: Path = arguments.tree.resolve()
        self._into: Path = arguments.into
        self._seconds: float = arguments.seconds
        self._seed: int = arguments.seed
        draws = (draw.partition("=") for draw in arguments.draw)
        self._draws = [(paths.split(","), int(number)) for paths, _, number in draws]
        named = arguments.tests_under.split(",")
        under = tuple(name if name.endswith(".py") else f"{name.rstrip('/')}/" for name in named)
        self._selection = Selection(arguments.data, self._tree, under, arguments.only_tier, arguments.durations)
        self._measured: dict[str, str] = json.loads((arguments.data / "tree.json").read_text())["files"]
        self._trusted: set[str] = set()
        self._untrusted: set[str] = set()

    def run(self) -> int:
        """Judge what is not judged yet; print a line for each mutant, then the shares and the survivors."""
        drawn = [(path, mutant) for paths, number in self._draws for path, mutant in self._draw(paths, number)]
        judged = self._judged()
        missing = {mutant.id: mutant for _, mutant in drawn if mutant.id not in judged}
        print(f"{len(drawn)} mutants, {len(missing)} not judged yet", flush=True)
        if missing:
            with sandbox(self._tree) as box, self._into.open("a", buffering=1) as lines:
                self._check_copy(box, {mutant.file for mutant in missing.values()})
                for mutant in missing.values():
                    verdict = self._judge(box, mutant)
                    source = self._measured[mutant.file]
                    judged[mutant.id] = {"id": mutant.id, "source": source, **asdict(mutant), **asdict(verdict)}
                    lines.write(json.dumps(judged[mutant.id]) + "\n")
                    print(_line(judged[mutant.id]), flush=True)
        _print_shares([(path, judged[mutant.id]["verdict"]) for path, mutant in drawn])
        _print_survivors([judged[one] for one in dict.fromkeys(mutant.id for _, mutant in drawn)])
        return 0

    def _draw(self, paths: list[str], number: int) -> Iterator[tuple[str, Mutant]]:
        files = python_files(self._tree, *paths)
        now = hashes_of(self._tree, files)
        if changed := [file for file in files if now[file] != self._measured.get(file)]:
            raise SystemExit(f"These files are not those that coverage measured: {', '.join(changed)}")
        sources = {file: (self._tree / file).read_bytes() for file in files}
        mutants = [mutant for file in files for mutant in mutants_of(file, sources[file])]
        random.Random(f"{self._seed} {','.join(paths)}").shuffle(mutants)
        print(f"{','.join(paths)}: {len(mutants)} possible mutants in {len(files)} files", flush=True)
        for mutant in islice(valid(mutants, sources.__getitem__), number):
            yield next(path for path in paths if mutant.file.startswith(path)), mutant

    def _judged(self) -> dict[str, dict[str, Any]]:
        lines = self._into.read_text().splitlines() if self._into.exists() else []
        return {one["id"]: one for one in map(json.loads, lines) if one["source"] == self._measured.get(one["file"])}

    def _check_copy(self, box: Sandbox, files: set[str]) -> None:
        if changed := [file for file, now in hashes_of(box.tree, files).items() if now != self._measured[file]]:
            raise SystemExit(f"Changed since coverage measured them: {', '.join(changed)}")

    def _judge(self, box: Sandbox, mutant: Mutant) -> MutantVerdict:
        tests, executed = self._selection.tests_of(mutant)
        if not tests:
            return MutantVerdict(verdict="unexecuted")
        began = time.monotonic()
        while True:
            wanted = [test for test in tests if test not in self._untrusted]
            with box.changed(mutant):
                outcome = self._run(box, wanted)
            if outcome.verdict == "timeout" and not self._is_quick(box, outcome):
                outcome = replace(outcome, verdict="unfinished")
            # A test that fails without the change, too, has not noticed the change.
            if outcome.verdict != "killed" or self._is_trusted(box, wanted, outcome.test):
                break
        excluded = tuple(test for test in tests if test in self._untrusted)
        return MutantVerdict(
            verdict=outcome.verdict if wanted else "unexecuted",
            test=outcome.test,
            why=outcome.why,
            ran=sum(len(run.passed) for run in outcome.runs) + (outcome.verdict in ("killed", "timeout")),
            skipped=sum(run.skipped for run in outcome.runs),
            tests=len(tests),
            executed=executed,
            seconds=round(time.monotonic() - began, 2),
            first_tests=tuple(tests[:_NAMED]),
            excluded=excluded,
        )

    def _run(self, box: Sandbox, tests: list[str]) -> _Outcome:
        """Run the tests in batches until one fails or the time is over."""
        left, runs, done = self._seconds, list[SandboxRun](), 0
        for size in (*_BATCHES, len(tests)):
            batch = tests[done : done + size]
            if not batch:
                break
            if left <= 0:
                return _Outcome("unfinished", runs)
            run = box.run(batch, left)
            runs.append(run)
            left, done = left - run.seconds, done + len(batch)
            test = run.running or batch[0]
            if run.failed is not None:
                return _Outcome("killed", runs, run.failed, run.why)
            if run.timed_out:
                usual = self._selection.seconds.get(test, 0.0) if run.running else 0.0
                hangs = run.running_seconds > _HANGS_SECONDS + _HANGS_TIMES * usual and (run.running or len(runs) == 1)
                return _Outcome("timeout" if hangs else "unfinished", runs, test, f"{run.running_seconds:.0f} s")
            if not run.ended_normally:
                return _Outcome("killed", runs, test, "the process of the tests ended")
        return _Outcome("survived", runs)

    def _is_quick(self, box: Sandbox, outcome: _Outcome) -> bool:
        """Report whether the test that ran out of time takes at most half of it without the change."""
        run = box.run([outcome.test], self._seconds)
        return run.failed is None and not run.timed_out and run.seconds < outcome.runs[-1].running_seconds / 2

    def _is_trusted(self, box: Sandbox, tests: list[str], test: str) -> bool:
        """Run a test in the copy without a change, unless it has passed there already."""
        if test in self._trusted:
            return True
        # A module that cannot be imported stands for its tests, a function for one with changed parameters.
        named = [one for one in tests if one == test or one.startswith(f"{test}::")]
        wanted = named or [one for one in tests if one.partition("[")[0] == test.partition("[")[0]] or tests
        run = box.run(wanted, self._seconds)
        self._trusted |= set(run.passed)
        if run.failed is None and not run.timed_out and run.ended_normally:
            self._trusted.add(test)
            return True
        bad = {run.failed, run.running} & set(tests) or set(wanted)
        self._untrusted |= bad
        why = f"took over {self._seconds:g} s" if run.timed_out else run.why
        print(f"  fails without a change, too, so it does not count: {', '.join(sorted(bad))}: {why}", flush=True)
        return False


def _line(one: dict[str, Any]) -> str:
    before, after = (" ".join(one[key].split())[:60] for key in ("before", "after"))
    change = f"{one['kind']}: {before} -> {after or 'nothing'}"
    by = f" by {one['test']}: {one['why'][:100]}" if one["test"] else ""
    excluded = f", {len(one['excluded'])} do not count" if one["excluded"] else ""
    counts = f"{one['ran']} of {one['tests']} tests, {one['executed']} executed it{excluded}, {one['seconds']:.1f} s"
    return f"{one['verdict']:10} {one['file']}:{one['line']} {change} ({counts}){by}"


def _print_shares(verdicts: list[tuple[str, str]]) -> None:
    names = ("killed", "timeout", "survived", "unfinished", "unexecuted")
    print("\nKilled, with the 95 % interval for all possible mutants of a path:")
    for path in [*dict.fromkeys(path for path, _ in verdicts), "together"]:
        counts = Counter(verdict for of, verdict in verdicts if path in (of, "together"))
        killed, total = counts["killed"] + counts["timeout"], counts.total()
        low, high = _interval(killed, total)
        share = f"{100 * killed / max(1, total):5.1f} %"
        share += f" ({100 * low:.0f} to {100 * high:.0f})" if path != "together" else ""
        print(f"  {path:16} {killed} of {total}: {share}; {', '.join(f'{counts[name]} {name}' for name in names)}")


def _interval(part: int, whole: int) -> tuple[float, float]:
    """The interval of Wilson for a share."""
    if not whole:
        return 0.0, 1.0
    z, share = 1.96, part / whole
    middle = share + z * z / (2 * whole)
    spread = z * sqrt(share * (1 - share) / whole + z * z / (4 * whole * whole))
    return (middle - spread) / (1 + z * z / whole), (middle + spread) / (1 + z * z / whole)


def _print_survivors(results: list[dict[str, Any]]) -> None:
    for verdict in ("survived", "unfinished", "unexecuted"):
        if found := [one for one in results if one["verdict"] == verdict]:
            print(f"\n{verdict}:")
        for one in sorted(found, key=lambda one: (one["file"], one["line"])):
            before, after = (" ".join(one[key].split())[:160] for key in ("before", "after"))
            print(f"  {one['file']}:{one['line']}  {before}  ->  {after or 'nothing'}")
            if one["tests"]:
                print(f"      {one['executed']} tests executed it, {one['ran']} of {one['tests']} ran:")
                print("".join(f"        {test}\n" for test in one["first_tests"]), end="")
