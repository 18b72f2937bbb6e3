"""Count the tests of pytest's result files; exit 1 when a test failed or was skipped, or none ran."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree as ET


def main(files: list[Path]) -> int:
    """Print the count; a skipped test is named, and fails the whole."""
    cases = [case for file in files for case in ET.parse(file).iter("testcase")]  # noqa: S314 - ours
    skipped = [case for case in cases if _skipped(case)]
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    for case in skipped:
        print(f"skipped, which fails the run: {case.get('classname')}::{case.get('name')}")
    passed = len({_name(case) for case in cases} - {_name(case) for case in skipped + failed})
    print(f"tests: {passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return int(bool(failed or skipped) or passed == 0)


def _skipped(case: ET.Element) -> bool:
    """True for a skip; an expected failure is written the same way, with its own type."""
    found = case.find("skipped")
    return found is not None and found.get("type") != "pytest.xfail"


def _name(case: ET.Element) -> tuple[str | None, str | None]:
    return case.get("classname"), case.get("name")


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
