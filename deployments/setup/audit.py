"""audit.py SECONDS: check the pinned packages for published advisories. Print one line and each advisory.

Exit 1 when one is known. Where no source of advisories answers within the time, the line says so and the exit is 0: a
machine without a way to one must be able to run the tests. ROAS_ADVISORIES_URL names a source that speaks OSV's API,
such as a company's own; without it pip-audit asks PyPI.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main(seconds: float) -> int:
    """Audit requirements.txt, which is what the images hold; the exit code."""
    command = [Path(sys.executable).with_name("pip-audit"), "--requirement", ROOT / "requirements.txt"]
    command += ["--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    if source := os.environ.get("ROAS_ADVISORIES_URL"):
        command += ["--vulnerability-service", "osv", "--osv-url", source]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        print(f"advisories: NOT CHECKED, no answer within {seconds:g} s")
        return 0
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        print("advisories: NOT CHECKED,", (done.stderr.strip().splitlines() or ["pip-audit printed nothing"])[-1])
        return 0
    checked = [package for package in packages if "vulns" in package]
    if not checked:
        print("advisories: NOT CHECKED, no advisory source answers")
        return 0
    advisories = [(package, advisory) for package in checked for advisory in package["vulns"]]
    unknown = len(packages) - len(checked)
    result = f"{len(advisories)} KNOWN" if advisories else "none known"
    print(f"advisories: checked {len(checked)} packages, {result}" + (f"; {unknown} not checked" if unknown else ""))
    for package, advisory in advisories:
        fixed = ", ".join(advisory["fix_versions"]) or "no version"
        print(f"  {package['name']} {package['version']}: {advisory['id']}, fixed in {fixed}")
    return 1 if advisories else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
