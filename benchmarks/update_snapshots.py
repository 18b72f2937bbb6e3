"""How fast data is saved and put back, beside restic on the folder itself, and pg_dump and psql alone.

    python -m benchmarks.update_snapshots [files postgresql] [--megabytes 1024] [--rounds 3]

Each round measures both ways in turns, with a new repository each time; the figures are medians. The data is half
random, half text. The goal is a throughput of at least 0.8 of what the programs alone reach. It takes the engine's
socket, root (restic alone reads the volume's folder), and the image roas/gallery:local.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from adapters.snapshots.containers import Containers
from adapters.snapshots.parts import PartClient, PartPlace
from adapters.snapshots.restic import Repository
from adapters.snapshots.streams import Limit
from models.snapshots import FilesData, PostgresqlData, SavedData, SnapshotPart

IMAGE = "roas/gallery:local"
GOAL = 0.8
_PASSWORD = "of-a-measurement"
_MIB = 1024 * 1024


def main() -> None:
    """Measure the requested kinds, and end with 1 where the goal is missed."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("kinds", nargs="*", choices=["files", "postgresql", []], help="by default both")
    arguments.add_argument("--megabytes", type=int, default=1024)
    arguments.add_argument("--rounds", type=int, default=3)
    chosen = arguments.parse_args()
    measures = {"files": measure_files, "postgresql": measure_postgresql}
    kept = True
    for kind in chosen.kinds or measures:
        with tempfile.TemporaryDirectory(prefix="roas-snapshots-") as folder:
            kept = measures[kind](Path(folder), chosen.megabytes, chosen.rounds) and kept
    sys.exit(not kept)


def measure_files(folder: Path, megabytes: int, rounds: int) -> bool:
    """Save and restore the files of a volume."""
    volume = f"roas-bench-{secrets.token_hex(4)}"
    _docker("volume", "create", volume)
    try:
        where = Path(_docker("volume", "inspect", "-f", "{{.Mountpoint}}", volume))
        for number in range(32):
            _fill(where / f"{number}", megabytes * _MIB // 32)
        image = _docker("image", "inspect", "-f", "{{.Id}}", IMAGE)
        data = FilesData(kind="files", volume="files")
        place = PartPlace(container="", image=image, source=volume)

        def alone(repository: Path) -> tuple[float, float]:
            saving = _timed(lambda: _restic(repository, "backup", "--quiet", str(where)))
            return saving, _timed(lambda: _restic(repository, "restore", "latest", "--target", str(folder / "back")))

        return _compare("files", data, place, alone, folder, rounds)
    finally:
        _docker("volume", "rm", "-f", volume)


def measure_postgresql(folder: Path, megabytes: int, rounds: int) -> bool:
    """Save and restore a database."""
    with _database(megabytes) as container:
        image = _docker("inspect", "-f", "{{.Image}}", container)
        data = PostgresqlData(kind="postgresql", service="db", user="postgres", password_secret="SECRET")
        place = PartPlace(container=container, image=image, password=_PASSWORD)
        command = ["docker", "exec", "-i", "-e", f"PGPASSWORD={_PASSWORD}", container]

        def alone(_repository: Path) -> tuple[float, float]:
            dump = folder / "dump.sql"

            def save() -> None:
                with dump.open("wb") as file:
                    subprocess.run([*command, "pg_dump", "-h127.0.0.1", "-Upostgres"], stdout=file, check=True)

            def load() -> None:
                _psql(container, "drop schema public cascade; create schema public")
                with dump.open("rb") as file:
                    psql = ["psql", "-q", "-o/dev/null", "-1", "-h127.0.0.1", "-Upostgres"]
                    subprocess.run([*command, *psql], stdin=file, check=True)

            return _timed(save), _timed(load)

        return _compare("postgresql", data, place, alone, folder, rounds)


def _compare(
    name: str,
    data: SavedData,
    place: PartPlace,
    alone: Callable[[Path], tuple[float, float]],
    folder: Path,
    rounds: int,
) -> bool:
    """Measure in turns, print, and say whether the goal is met."""
    seconds: dict[str, list[float]] = {"save": [], "save alone": [], "restore": [], "restore alone": []}
    part: SnapshotPart | None = None
    for _ in range(rounds):
        with _repository(folder) as repository:
            _restic(repository, "init", "--quiet")
            saved, restored = alone(repository)
            seconds["save alone"].append(saved)
            seconds["restore alone"].append(restored)
            shutil.rmtree(folder / "back", ignore_errors=True)
        with _repository(folder) as repository:
            limit = Limit(3600)
            made = Repository(str(repository), _PASSWORD, "bench", {"PATH": os.environ["PATH"]})
            made.prepare(limit)
            variables = {"PATH": os.environ["PATH"], "HOME": str(Path.home())}
            client = PartClient(
                containers=Containers(variables, "bench", limit), repository=made, limit=limit, folder=folder
            )
            began = time.monotonic()
            part = client.save(data, place, "bench")
            seconds["save"].append(time.monotonic() - began)
            began = time.monotonic()
            client.load(data, part, place)
            seconds["restore"].append(time.monotonic() - began)
    kept = True
    for what in ("save", "restore"):
        own, other = median(seconds[what]), median(seconds[f"{what} alone"])
        size = (part.bytes if part else 0) / _MIB
        kept = kept and other / own >= GOAL
        print(
            f"{name} {what}: {size / own:.0f} MiB/s in {own:.1f} s, alone {size / other:.0f} MiB/s in {other:.1f} s: "
            f"ratio {other / own:.2f} (goal {GOAL})"
        )
    return kept


@contextmanager
def _repository(folder: Path) -> Iterator[Path]:
    made = folder / secrets.token_hex(4)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _database(megabytes: int) -> Iterator[str]:
    variables = ("-e", f"POSTGRES_PASSWORD={_PASSWORD}")
    container = _docker("run", "-d", "--network", "none", *variables, IMAGE, "start-postgres")
    try:
        while subprocess.run(
            ["docker", "exec", container, "pg_isready", "-q", "-h127.0.0.1"], check=False, capture_output=True
        ).returncode:
            time.sleep(0.2)
        rows = megabytes * 1024
        _psql(
            container,
            "create extension pgcrypto; "
            "create table rows as select id, encode(gen_random_bytes(256), 'hex') as random, "
            f"repeat('text ' || id, 50) as text from generate_series(1, {rows}) as id; "
            "alter table rows add primary key (id)",
        )
        yield container
    finally:
        _docker("rm", "-f", "-v", container)


def _fill(file: Path, size: int) -> None:
    with file.open("wb") as out:
        for number in range(size // (2 * 65_536)):
            out.write(os.urandom(65_536))
            out.write((f"a line of text, number {number}\n".encode() * 4096)[:65_536])


def _timed(doing: Callable[[], object]) -> float:
    began = time.monotonic()
    doing()
    return time.monotonic() - began


def _restic(repository: Path, *words: str) -> None:
    variables = {"PATH": os.environ["PATH"], "RESTIC_REPOSITORY": str(repository), "RESTIC_PASSWORD": _PASSWORD}
    subprocess.run(["restic", "--no-cache", *words], env=variables, check=True, capture_output=True)


def _psql(container: str, statement: str) -> None:
    psql = ["psql", "-q", "-h127.0.0.1", "-Upostgres", "-c", statement]
    _docker("exec", "-e", f"PGPASSWORD={_PASSWORD}", container, *psql)


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
