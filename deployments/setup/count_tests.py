"""Count the tests of pytest's result files; exit 1 when a test failed or was skipped, or none ran.

With --line: the counts of these files alone, on one line. Without: also the slowest tests, what a test of each part
took as median beside what CONTRIBUTING.md allows, and last which tests failed, and why. Times fail nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from xml.etree import ElementTree as ET

SECONDS_OF_A_TEST = {"unit": 0.01, "golden": 0.5, "integration": 0.5, "simulation": 20.0, "e2e": 5.0}
_NAMED = 10
_REASON_LENGTH = 500


def main(arguments: list[str]) -> int:
    """Print the count; a skipped test is named, and fails the whole."""
    in_a_line = arguments[:1] == ["--line"]
    files = [Path(name) for name in arguments[in_a_line:]]
    together = [case for file in files for case in ET.parse(file).iter("testcase")]  # noqa: S314 - ours
    skipped = [case for case in together if _skipped(case)]
    failed = [case for case in together if case.find("failure") is not None or case.find("error") is not None]
    passed = len({_name(case) for case in together} - {_name(case) for case in skipped + failed})
    counts = f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped"
    if in_a_line:
        print(counts)
        return 0
    for case in skipped:
        print(f"skipped, which fails the run: {case.get('classname')}::{case.get('name')}")
    _print_times(together)
    for case in failed:
        print(f"failed: {case.get('classname')}::{case.get('name')}: {_reason(case)}")
    print(f"tests: {counts}")
    return int(bool(failed or skipped) or passed == 0)


def _print_times(cases: list[ET.Element]) -> None:
    print("slowest tests, with their set-up:")
    for case in sorted(cases, key=_seconds, reverse=True)[:_NAMED]:
        print(f"  {_seconds(case):6.1f} s  {case.get('classname')}::{case.get('name')}")
    for part, allowed in SECONDS_OF_A_TEST.items():
        of = [_seconds(case) for case in cases if case.get("classname", "").startswith(f"tests.{part}.")]
        if of:
            print(f"median of {part}: {median(of):.3f} s (at most {allowed:g} s on a quiet machine)")


def _reason(case: ET.Element) -> str:
    """The first words of what pytest says of a failure: the whole stands in the log of its part."""
    message = " ".join(result.get("message", "") for result in case if result.tag in ("failure", "error"))
    return " ".join(message.split())[:_REASON_LENGTH]


def _seconds(case: ET.Element) -> float:
    return float(case.get("time", 0))


def _skipped(case: ET.Element) -> bool:
    """True for a skip; an expected failure is written the same way, with its own type."""
    skip = case.find("skipped")
    return skip is not None and skip.get("type") != "pytest.xfail"


def _name(case: ET.Element) -> tuple[str | None, str | None]:
    return case.get("classname"), case.get("name")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
