"""Updates that spoil data: whether a rollback with data brings release and data back, also where it is killed."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.latency.commands import ROAS
from benchmarks.measure import Stack, report, run_docker, stack
from benchmarks.updates.application import last_operation, place, roas, states, warm_up
from benchmarks.updates.killed import UpdateKill, begun_since, kill_process, steps_of, wait_for
from models.snapshots import SnapshotState
from tests.support.registry import Registry
from tests.support.versions import AppVersion, Behaviour, web

_DATABASE_IMAGE = "roas/gallery:local"
_ROWS = 2000
_NEXT = ("resume", "rollback")
"""What a user does after the kill: take it up, or ask for the same again."""
_KINDS = (Behaviour.GOOD, Behaviour.CRASH, Behaviour.UNHEALTHY)
"""Versions that spoil the data: one that is proven and regretted, and some that fail."""


@dataclass(slots=True)
class DataApplication:
    """A PostgreSQL server, and a service with a volume of files that new images replace."""

    made: Stack
    images: Registry
    number: int = 0

    def publish(self, behaviour: Behaviour = Behaviour.GOOD) -> None:
        """The next version of the service."""
        self.number += 1
        self.images.publish("web", *AppVersion(name=f"{self.number}", behaviour=behaviour).lines())

    def write(self, value: str) -> None:
        """Let database and volume hold a value and nothing else."""
        self._psql(
            "drop table if exists goods; create table goods as "
            f"select id, '{value}' as value from generate_series(1, {_ROWS}) as id; "
            f"drop table if exists only_{value}; create table only_{value} (id int)"
        )
        self._inside(
            "web", "sh", "-c", f"rm -rf /srv/files/*; printf {value} > /srv/files/goods; touch /srv/files/{value}"
        )

    def held(self) -> str:
        """What database and volume hold."""
        tables = "select string_agg(relname, ',' order by relname) from pg_stat_user_tables"
        rows = self._psql(f"select min(value), max(value), count(*) from goods; {tables}")
        # It may be stopped, so its volume is read.
        volume = f"{self.made.project}_files:/srv/files:ro"
        listing = "cd /srv/files && ls -A && cat goods"
        files = run_docker("run", "--rm", "--network", "none", "-v", volume, "debian:trixie-slim", "sh", "-c", listing)
        return f"{rows} {files}".replace("\n", " ").strip()

    def running(self) -> str:
        """The image of the service's running container; empty where none runs."""
        return (states(self.made).get("web", "").split() or [""])[-1]

    def problems(self, before: str, after: str, old: str, new: str) -> list[str]:
        """What is neither as before the update, nor as it was when the rollback began, or is left beside."""
        from tasks.runtime.stores import open_stores

        name = self.made.name
        held = self.held()
        listed = run_docker(
            "ps",
            "-a",
            "--filter",
            f"label=com.docker.compose.project={self.made.project}",
            "--format",
            "{{.Names}} {{.Status}}",
        ).splitlines()
        stores = open_stores()
        snapshots = stores.snapshots.list_for(name)
        whole = {one.snapshot_id for one in snapshots if one.state is SnapshotState.WHOLE}
        kept = {part for one in snapshots if one.snapshot_id in whole for part in (p.restic_id for p in one.parts)}
        mountpoint = Path(
            run_docker("volume", "inspect", "-f", "{{.Mountpoint}}", f"{self.made.project}_files").strip()
        )
        found = {
            f"data is {held}": (held, self.running()) not in ((before, old), (after, new)),
            f"containers are {sorted(listed)}": len(listed) != 2 or not all("(healthy)" in one for one in listed),
            "a helper container is left": bool(run_docker("ps", "-aq", "--filter", "label=com.roas.snapshot").split()),
            "files lie beside": [one.name for one in mountpoint.parent.iterdir()] != [mountpoint.name],
            "the data counts as half restored": stores.snapshots.find_restoring(name) is not None,
            "a whole snapshot is not in the repository": not kept <= self._known(),
            "an operation still counts as running": bool(stores.operations.list_running()),
        }
        return [what for what, so in found.items() if so]

    def strays(self) -> list[str]:
        """What the repository has of no whole snapshot; asked once a new one was taken, which forgets the others."""
        from tasks.runtime.stores import open_stores

        whole = [one for one in open_stores().snapshots.list_for(self.made.name) if one.state is SnapshotState.WHOLE]
        return sorted(self._known() - {part.restic_id for one in whole for part in one.parts})

    def _known(self) -> set[str]:
        from models.settings import current_settings

        folder = current_settings().data_dir / "snapshots"
        command = [
            "restic",
            "--no-cache",
            "--json",
            "--repo",
            str(folder / self.made.name),
            "--no-lock",
            "--password-file",
            str(folder / f"{self.made.name}.password"),
            "snapshots",
        ]
        listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return {one["id"] for one in listed if "manifest" not in one["tags"]}

    def _psql(self, statement: str) -> str:
        return self._inside("db", "psql", "-h127.0.0.1", "-Upostgres", "-qAt", "-vON_ERROR_STOP=1", "-c", statement)

    def _inside(self, service: str, *command: str) -> str:
        variables = ("-e", "PGPASSWORD=of-a-measurement")
        return run_docker("exec", *variables, f"{self.made.project}-{service}-1", *command).strip()


def spoilt(folder: Path, rounds: int) -> bool:
    """So many updates to each kind of version that spoils data; how each is back with its data."""
    kinds, right = [kind for kind in _KINDS for _ in range(rounds)], 0
    with _running(folder) as application:
        name = application.made.name
        for number, kind in enumerate(kinds):
            old = application.running()
            application.write(f"before{number}")
            before = application.held()
            application.publish(kind)
            roas("update", name, codes=(0,) if kind is Behaviour.GOOD else (1,))
            application.write(f"spoilt{number}")
            release = _release_before(name, kind)
            began = time.monotonic()
            code, said = roas("rollback", name, release, "--with-data", "--yes", codes=range(256))
            took = time.monotonic() - began
            problems = application.problems(before, before, old, old) + application.strays()
            problems += [f"exit code {code}: {said[-400:]}"] if code else []
            right += not problems
            print(f"{kind:10} release and data back after {took:6.2f} s {'; '.join(problems) or 'right'}", flush=True)
    return report("back with the data of before the update", right, f"of {len(kinds)}", least=len(kinds))


def killed_with_data(folder: Path, rounds: int, seed: int) -> bool:
    """Kill rollbacks with data at each recorded step; `rounds` is how many ways to go on each gets."""
    chance, outcome = random.Random(seed), Counter[str]()
    with _running(folder) as application:
        steps = _update_and_roll_back(application, None, "")[0] or 0
        kills = [
            UpdateKill(
                behaviour=Behaviour.GOOD,
                then=then,
                steps=step,
                seconds=chance.uniform(0, 1),
                with_children=chance.random() < 0.5,
            )
            for step in range(int(steps) + 1)
            for then in (_NEXT[step % len(_NEXT) :] + _NEXT)[: min(rounds, len(_NEXT))]
        ]
        for number, kill in enumerate(kills):
            in_time, problems = _update_and_roll_back(application, kill, f"{number}")
            outcome["was over before" if not in_time else "wrong" if problems else "right"] += 1
            print(f"{kill}: {'; '.join(problems) or 'right'}{'' if in_time else ' (over before)'}", flush=True)
    print(f"{len(kills)} kills: " + ", ".join(f"{count} {what}" for what, count in outcome.items()))
    report("kills that came in time", outcome["right"] + outcome["wrong"], least=len(kills) // 2)
    return report("killed rollbacks with data that were neither finished nor undone", outcome["wrong"], most=0)


def _update_and_roll_back(application: DataApplication, kill: UpdateKill | None, word: str) -> tuple[int, list[str]]:
    """Update, roll back with the data, and kill that: the recorded steps, or whether the kill came in time."""
    name, old = application.made.name, application.running()
    application.write(f"before{word}")
    before = application.held()
    application.publish()
    roas("update", name)
    new = application.running()
    application.write(f"after{word}")
    after, release = application.held(), _release_before(name, Behaviour.GOOD)
    words = ("rollback", name, release, "--with-data", "--yes")
    if kill is None:
        roas(*words)
        return len(steps_of(last_operation(name).deployment_id)), application.problems(before, before, old, old)
    deployment_id = _killed(kill, name, words)
    if deployment_id is not None:
        again = ("resume", deployment_id) if kill.then == "resume" else words
        code, said = roas(*again, codes=range(256))
        if code and kill.then == "rollback" and "roas resume" in said:
            # It says what to do instead, so that is done.
            code, said = roas("resume", deployment_id, codes=range(256))
        problems = [f"{again[0]} ended with exit code {code}: {said[-600:]}"] if code else []
    else:
        problems = []
    problems += application.problems(before, after, old, new)
    roas("start", name, codes=range(256))
    roas("snapshot", "create", name)
    problems += [f"the repository has {one[:8]} of no whole snapshot" for one in application.strays()]
    return int(deployment_id is not None), problems


def _killed(kill: UpdateKill, name: str, words: tuple[str, ...]) -> str | None:
    """The id of the operation that was killed; None where it had ended before."""
    earlier = last_operation(name).deployment_id
    quiet: dict[str, Any] = dict.fromkeys(("stdout", "stderr", "stdin"), subprocess.DEVNULL)
    with subprocess.Popen([*ROAS, *words], **quiet) as running:
        begun = begun_since(name, earlier, running)
        if begun is None or not wait_for(kill, begun, running):
            return None
        # In the middle of what follows the step.
        time.sleep(kill.seconds)
        if running.poll() is not None:
            return None
        kill_process(int(begun.details["runner"]["pid"]), with_children=kill.with_children)
    return begun.deployment_id


def _release_before(name: str, kind: Behaviour) -> str:
    """The release that ran before the update: the newest proven one, or the one before where the update was proven."""
    from tasks.runtime.stores import open_stores

    proven = [one for one in open_stores().releases.latest(name) if one.proven]
    return proven[1 if kind is Behaviour.GOOD else 0].release_id


@contextmanager
def _running(folder: Path) -> Iterator[DataApplication]:
    check = {"test": ["CMD-SHELL", "pg_isready -q -h 127.0.0.1"], "interval": "1s", "retries": 60}
    check |= {"start_period": "60s", "start_interval": "200ms"}
    database = {
        "image": _DATABASE_IMAGE,
        "pull_policy": "never",
        "init": False,
        "command": ["start-postgres"],
        "environment": {"POSTGRES_PASSWORD": "of-a-measurement"},
        "volumes": ["pg:/var/lib/postgresql/data"],
        "healthcheck": check,
    }
    data = {
        "save": [
            {"kind": "postgresql", "service": "db", "password_secret": "BENCH_PASSWORD"},
            {"kind": "files", "volume": "files"},
        ],
        "before_updates": "all",
    }
    secret = folder / "password"
    secret.touch(mode=0o600)
    secret.write_text("of-a-measurement")
    with place(folder) as images:
        images.publish("web", *AppVersion(name="0").lines())
        needs = {"depends_on": {"db": {"condition": "service_healthy"}}, "volumes": ["files:/srv/files"]}
        services = {"db": database, "web": web(images.image("web"), **needs)}
        secrets = [{"name": "BENCH_PASSWORD", "file": str(secret)}]
        settings = {"stabilisation_seconds": 2, "data": data, "secrets": secrets}
        with stack(folder, "shop", services, **settings) as made:
            declared = json.loads(made.file.read_text())
            made.file.write_text(json.dumps(declared | {"volumes": {"pg": {}, "files": {}}}))
            try:
                application = DataApplication(made, images)
                roas("start", made.name)
                warm_up(folder)
                yield application
            finally:
                made.compose("kill")
                made.compose("down", "--volumes", "--timeout", "1")
