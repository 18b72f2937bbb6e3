"""The tests of a mutant, by what coverage says that they executed, the nearest and cheapest first."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.proof.measured import DATA, LAYERS, python_files
from benchmarks.proof.mutations import Mutant
from benchmarks.proof.uses import Function, Uses

_ORDER = ("tests/unit/", "tests/golden/", "tests/integration/", "tests/simulation/", "tests/e2e/")
_FAR = 100
"""The distance of a test that executed a statement by an import, and mentions nothing that it defines."""


class Selection:
    """Reads the folder of `coverage --into`, and counts the tests that the caller wants to count."""

    def __init__(
        self, folder: Path, tree: Path, under: tuple[str, ...], tier: str | None, durations: Path | None
    ) -> None:
        self._measured_tree = json.loads((folder / "tree.json").read_text())["tree"]
        self._data = sqlite3.connect(f"file:{folder / DATA}?mode=ro", uri=True)
        self._contexts = dict(self._data.execute("SELECT id, context FROM context"))
        self._executed: dict[str, dict[int, int]] = {}
        """For each line of a file the contexts that executed it: a bit each."""
        recorded = _lines(folder / "durations.jsonl")
        other = _lines(durations) if durations else []
        self._tests = {
            line["test"] for line in recorded if line["test"].startswith(under) and (not tier or line["tier"] == tier)
        }
        set_up = {line["test"]: line["set_up"] for line in recorded}
        self.seconds = {
            line["test"]: line["ended"] - line["began"] + set_up.get(line["test"], 0.0) for line in recorded + other
        }
        """What each test takes alone, with what it shares with others."""
        self._by_function: dict[tuple[str, str], list[str]] = defaultdict(list)
        for test in self._tests:
            file, *_, function = test.partition("[")[0].split("::")
            self._by_function[file, function].append(test)
        self._uses = Uses(tree, python_files(tree, *LAYERS, "tests"))

    def tests_of(self, mutant: Mutant) -> tuple[list[str], int]:
        """The tests to run, in order, and how many of them executed a line of the statement.

        The others use what the statement defines: an import executes it for all tests of a process.
        """
        scope = mutant.scope
        contexts = self._of_lines(mutant.file, scope.first, scope.last)
        executed = contexts & self._tests
        # What an import executes, coverage names for the first test of a process alone.
        distances = dict.fromkeys(executed, _FAR if scope.at_import else 0)
        if scope.at_import or "" in contexts:
            for depth, function in self._uses.of(mutant.file, scope.names):
                for test in self._tests_of(function):
                    distances[test] = min(distances.get(test, _FAR), depth + 1)
        return sorted(distances, key=lambda test: self._order(test, distances[test])), len(executed)

    def _tests_of(self, function: Function) -> Iterable[str]:
        if function.file.startswith("tests/"):
            return self._by_function.get((function.file, function.name), ())
        return self._of_lines(function.file, function.first, function.last) & self._tests

    def _of_lines(self, file: str, first: int, last: int) -> set[str]:
        if file not in self._executed:
            lines: dict[int, int] = defaultdict(int)
            for context, before, after in self._data.execute(
                "SELECT context_id, fromno, tono FROM arc JOIN file ON file.id = file_id WHERE path = ?",
                (f"{self._measured_tree}/{file}",),
            ):
                lines[before] |= 1 << context
                lines[after] |= 1 << context
            self._executed[file] = lines
        bits = 0
        for line in range(first, last + 1):
            bits |= self._executed[file].get(line, 0)
        return {self._contexts[number] for number, bit in enumerate(reversed(bin(bits))) if bit == "1"}

    def _order(self, test: str, distance: int) -> tuple[bool, float, int, str]:
        """Those that executed the statement first, then the cheap and near ones."""
        kind = next((number for number, folder in enumerate(_ORDER) if test.startswith(folder)), len(_ORDER))
        return distance > 0, self.seconds.get(test, 0.0) * distance, kind, test


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
