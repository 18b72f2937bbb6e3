"""Run tests under coverage, combine what all their processes executed, and print it for each layer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from coverage import Coverage, CoverageData

from benchmarks.proof.contexts import FOLDER

LAYERS = ("cli", "flows", "tasks", "adapters", "core", "models")
DATA = "coverage.db"
_CONFIGURATION = Path(__file__).with_name("coverage.ini")
_OF_THE_USER = ("ROAS_", "PREFECT_API_", "PREFECT_PROFILE")


def measure(arguments: list[str], into: Path) -> int:
    """Run pytest with these arguments in the current folder; add what it executed to the data in `into`."""
    tree, into = Path.cwd(), into.resolve()
    _check_environment(tree)
    (into / "pieces").mkdir(parents=True, exist_ok=True)
    if (into / "processes").exists():
        (into / "processes").unlink()
    hashes = hashes_of(tree, python_files(tree))
    kept = Path(into, "tree.json")
    if kept.exists() and json.loads(kept.read_text()) != {"tree": str(tree), "files": hashes}:
        raise SystemExit(f"{into} holds the coverage of other files than those in {tree}. Use a new folder.")
    kept.write_text(json.dumps({"tree": str(tree), "files": hashes}))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "benchmarks.proof.recorder", *arguments],
        check=False,
        env=clean_variables()
        | {FOLDER: str(into), "COVERAGE_PROOF_TREE": str(tree), "COVERAGE_PROCESS_START": str(_CONFIGURATION)},
    )
    print(_processes_without_data(into))
    _combine(into)
    print_table(into)
    if changed := [file for file, now in hashes_of(tree, hashes).items() if now != hashes[file]]:
        print(f"Changed while the tests ran, so their figures are wrong: {', '.join(changed)}")
    return ended.returncode


def _check_environment(tree: Path) -> None:
    """Programs that tests start import the project that the environment has installed: it must be this one."""
    program = [sys.executable, "-P", "-c", "import cli; print(cli.__file__)"]
    found = subprocess.run(program, cwd="/", check=False, capture_output=True, text=True).stdout.strip()
    if not Path(found).is_relative_to(tree):
        raise SystemExit(f"{sys.prefix} has {found or 'no project'} installed. Run: uv pip install --no-deps -e {tree}")


def clean_variables() -> dict[str, str]:
    """The variables of this process without those that lead tests to servers or stores of the user."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_USER)}


def python_files(tree: Path, *folders: str) -> list[str]:
    """The Python files of these folders of a checkout, or of all layers; without those that git ignores."""
    command = ["git", "-C", tree, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"]
    listed = subprocess.run([*command, *(folders or LAYERS)], check=True, capture_output=True, text=True).stdout
    return sorted({file for file in listed.split("\0") if file.endswith(".py") and (tree / file).exists()})


def hashes_of(tree: Path, files: Iterable[str]) -> dict[str, str]:
    """The hash of each file that exists, by its path in the tree."""
    found = {}
    for file in files:
        with suppress(FileNotFoundError):
            found[file] = sha256((tree / file).read_bytes()).hexdigest()
    return found


def _processes_without_data(into: Path) -> str:
    events: dict[str, set[int]] = {"began": set(), "ended": set()}
    for line in (into / "processes").read_text().splitlines():
        event, process = line.split()
        events[event].add(int(process))
    saved = {int(file.name.split(".pid")[1].split(".")[0]) for file in (into / "pieces").glob(f"{DATA}.*.pid*")}
    lost = events["began"] - events["ended"] - saved
    return (
        f"{len(events['began'])} processes were measured; {len(lost)} of them left no data, because they were killed "
        "or became another program. What only these executed counts as not executed."
    )


def _combine(into: Path) -> None:
    combined = Coverage(data_file=str(into / DATA), config_file=str(_CONFIGURATION))
    if (into / DATA).exists():
        combined.load()
    combined.combine([str(into / "pieces")], strict=True)
    combined.save()


def print_table(into: Path) -> None:
    """Print the executed lines and branches of each layer and of all together."""
    totals: dict[str, Counter[str]] = {layer: Counter() for layer in (*LAYERS, "together")}
    for file, summary in _summaries(into).items():
        for name in (file.split("/")[0], "together"):
            totals[name].update({key: value for key, value in summary.items() if isinstance(value, int)})
    tests = {line["test"] for line in map(json.loads, (into / "durations.jsonl").read_text().splitlines())}
    print(f"\nExecuted by {len(tests)} tests, without what `if TYPE_CHECKING:`, `...` and `pragma: no cover` mark:")
    for name, of in totals.items():
        lines = _share(of["covered_lines"], of["num_statements"])
        print(f"  {name:9} lines {lines}   branches {_share(of['covered_branches'], of['num_branches'])}")


def _share(part: int, whole: int) -> str:
    return f"{part:6,} of {whole:6,} ({100 * part / max(1, whole):5.1f} %)"


def _summaries(into: Path) -> dict[str, dict[str, Any]]:
    """What coverage counts in each file of the layers, also in those that no process imported."""
    measured = json.loads((into / "tree.json").read_text())
    tree = Path(measured["tree"])
    with tempfile.TemporaryDirectory() as folder:
        data = CoverageData(str(Path(folder, DATA)))
        combined = CoverageData(str(into / DATA))
        combined.read()
        data.update(combined)
        data.touch_files([str(tree / file) for file in measured["files"]])
        data.close()
        reporting = Coverage(data_file=str(Path(folder, DATA)), config_file=str(_CONFIGURATION))
        reporting.load()
        reporting.json_report(outfile=f"{folder}/report.json")
        report = json.loads(Path(folder, "report.json").read_text())
    return {os.path.relpath(tree / file, tree): of["summary"] for file, of in report["files"].items()}
