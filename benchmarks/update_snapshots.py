"""How fast data is saved and put back, beside what the same programs reach alone.

    python -m benchmarks.update_snapshots [files stream postgresql] [--megabytes 1024] [--rounds 3]

Alone means the fastest way that a shell has to the same result, an encrypted repository of the same restic without its
cache: for files `restic backup` and `restic restore` of the volume's folder itself, for PostgreSQL
`docker exec pg_dump | restic backup --stdin` and `restic dump | docker exec psql --single-transaction` into a database
that was emptied first. `stream` saves files as where the volume's folder is not on this machine, through the engine's
copy. What `pg_dump` into a file and `psql` from one take is printed beside: neither encrypts, nor keeps an earlier one.

Each round measures both ways, which of them first in turns, with a new repository each time and nothing left to write
to the disk before; the figures are medians. The page cache is warm for both. The data is half random, half text. The
goal is a throughput of at least 0.8 of what the programs alone reach. CPU is the time of this process and its programs,
without the engine and the server. It takes the engine's socket, root (the volume's folder), and roas/gallery:local.
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from adapters.snapshots.containers import EngineCommands
from adapters.snapshots.own_pauses import OwnPauses
from adapters.snapshots.parts import PartClient
from adapters.snapshots.places import PartPlace
from adapters.snapshots.restic import ResticRepository
from adapters.snapshots.streams import Limit
from models.snapshots import FilesData, PostgresqlData, SavedData, SnapshotPart

IMAGE = "roas/gallery:local"
GOAL = 0.8
HERE = {"DOCKER_HOST": "unix:///var/run/docker.sock"}
"""The engine on this machine."""
_PASSWORD = "of-a-measurement"
_MIB = 1024 * 1024


def main() -> None:
    """Measure the requested kinds, and end with 1 where the goal is missed."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("kinds", nargs="*", choices=["files", "stream", "postgresql", []], help="by default all")
    arguments.add_argument("--megabytes", type=int, default=1024)
    arguments.add_argument("--rounds", type=int, default=3)
    chosen = arguments.parse_args()
    measures = {"files": measure_files, "stream": measure_stream, "postgresql": measure_postgresql}
    kept = True
    for kind in chosen.kinds or measures:
        with tempfile.TemporaryDirectory(prefix="roas-snapshots-") as folder:
            kept = measures[kind](Path(folder), chosen.megabytes, chosen.rounds) and kept
    sys.exit(not kept)


def measure_files(folder: Path, megabytes: int, rounds: int) -> bool:
    """Save and restore the files of a volume whose folder is on this machine."""
    return _measure_volume("files", folder, megabytes, rounds, HERE)


def measure_stream(folder: Path, megabytes: int, rounds: int) -> bool:
    """Save and restore the files of a volume through the engine's copy."""
    # Docker's command line finds the engine by itself, and ours does not know that it is on this machine.
    return _measure_volume("stream", folder, megabytes, rounds, {})


def _measure_volume(name: str, folder: Path, megabytes: int, rounds: int, engine: dict[str, str]) -> bool:
    volume = f"roas-bench-{secrets.token_hex(4)}"
    _docker("volume", "create", volume)
    try:
        where = Path(_docker("volume", "inspect", "-f", "{{.Mountpoint}}", volume))
        for number in range(32):
            _fill(where / f"{number}", megabytes * _MIB // 32)
        image = _docker("image", "inspect", "-f", "{{.Id}}", IMAGE)
        data = FilesData(kind="files", volume="files")
        place = PartPlace(container="", image=image, source=volume)

        def save(repository: Path) -> None:
            _restic(repository, "backup", "--quiet", str(where))

        def restore(repository: Path) -> None:
            _restic(repository, "restore", "--quiet", "latest", "--target", str(folder / "back"))

        return _compare(name, data, place, {"save": save, "restore": restore}, folder, rounds, engine)
    finally:
        _docker("volume", "rm", "-f", volume)


def measure_postgresql(folder: Path, megabytes: int, rounds: int) -> bool:
    """Save and restore a database."""
    with _database(megabytes) as container:
        image = _docker("inspect", "-f", "{{.Image}}", container)
        data = PostgresqlData(kind="postgresql", service="db", user="postgres", password_secret="SECRET")
        place = PartPlace(container=container, image=image, password=_PASSWORD)
        inside = f"docker exec -i -e PGPASSWORD={_PASSWORD} {container}"
        dump, load = (
            f"{inside} pg_dump -h127.0.0.1 -Upostgres",
            f"{inside} psql -q -o/dev/null -1 -h127.0.0.1 -Upostgres",
        )
        restic, file = "restic --no-cache", folder / "dump.sql"

        def emptied() -> None:
            _psql(container, "drop schema public cascade; create schema public")

        def save(repository: Path) -> None:
            _shell(repository, f"{dump} | {restic} backup --quiet --stdin --stdin-filename dump.sql")

        def restore(repository: Path) -> None:
            emptied()
            _shell(repository, f"{restic} dump latest dump.sql | {load}")

        def save_to_file(repository: Path) -> None:
            _shell(repository, f"{dump} > {file}")

        def load_from_file(repository: Path) -> None:
            emptied()
            _shell(repository, f"{load} < {file}")

        ways = {"save": save, "restore": restore, "save to a file": save_to_file, "load from a file": load_from_file}
        return _compare("postgresql", data, place, ways, folder, rounds, HERE)


@dataclass(frozen=True, slots=True)
class _Took:
    """Seconds that something took by the clock, and of the CPU."""

    clock: float
    cpu: float


def _compare(
    name: str,
    data: SavedData,
    place: PartPlace,
    alone: dict[str, Callable[[Path], None]],
    folder: Path,
    rounds: int,
    engine: dict[str, str],
) -> bool:
    """Measure in turns, print, and say whether the goal is met."""
    own: dict[str, list[_Took]] = {"save": [], "restore": []}
    other: dict[str, list[_Took]] = {way: [] for way in alone}
    size = 0

    def measure_alone() -> None:
        with _repository(folder) as repository:
            _restic(repository, "init", "--quiet")
            for way, doing in alone.items():
                other[way].append(_timed(partial(doing, repository)))
            shutil.rmtree(folder / "back", ignore_errors=True)

    def measure_ours() -> None:
        nonlocal size
        with _repository(folder) as repository:
            limit = Limit(3600)
            made = ResticRepository(str(repository), _PASSWORD, "bench", "one", {"PATH": os.environ["PATH"]})
            made.prepare(limit)
            variables = {"PATH": os.environ["PATH"], "HOME": str(Path.home()), **engine}
            client = PartClient(
                containers=EngineCommands(variables, "bench", limit),
                repository=made,
                limit=limit,
                folder=folder,
                pauses=OwnPauses(folder, "bench"),
            )
            parts: list[SnapshotPart] = []
            own["save"].append(_timed(lambda: parts.append(client.save(data, place, "bench"))))
            own["restore"].append(_timed(lambda: client.load(data, parts[0], place)))
            size = parts[0].bytes

    for number in range(rounds):
        order = (measure_alone, measure_ours)
        for measure in order if number % 2 == 0 else reversed(order):
            measure()
    kept = True
    for way, took in own.items():
        ratio = _median(other[way]).clock / _median(took).clock
        kept = kept and ratio >= GOAL
        print(
            f"{name} {way}: {_figures(size, took)}; alone {_figures(size, other[way])}: ratio {ratio:.2f} (goal {GOAL})"
        )
    for way in (way for way in other if way not in own):
        print(f"{name} {way}: {_figures(size, other[way])}")
    return kept


def _median(took: list[_Took]) -> _Took:
    return _Took(median(one.clock for one in took), median(one.cpu for one in took))


def _figures(size: int, took: list[_Took]) -> str:
    middle = _median(took)
    return f"{size / _MIB / middle.clock:.0f} MiB/s in {middle.clock:.1f} s, CPU {middle.cpu:.1f} s"


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


def _timed(doing: Callable[[], object]) -> _Took:
    # What was written before is not what is measured.
    os.sync()
    used, began = os.times(), time.monotonic()
    doing()
    took, now = time.monotonic() - began, os.times()
    return _Took(took, sum(now[:4]) - sum(used[:4]))


def _shell(repository: Path, script: str) -> None:
    subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], env=_variables(repository), check=True, capture_output=True
    )


def _variables(repository: Path) -> dict[str, str]:
    kept = {"PATH": os.environ["PATH"], "HOME": str(Path.home())}
    return {**kept, "RESTIC_REPOSITORY": str(repository), "RESTIC_PASSWORD": _PASSWORD}


def _restic(repository: Path, *words: str) -> None:
    subprocess.run(["restic", "--no-cache", *words], env=_variables(repository), check=True, capture_output=True)


def _psql(container: str, statement: str) -> None:
    psql = ["psql", "-q", "-h127.0.0.1", "-Upostgres", "-c", statement]
    _docker("exec", "-e", f"PGPASSWORD={_PASSWORD}", container, *psql)


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
