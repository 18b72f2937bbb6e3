"""Judge a machine for `roas doctor`: each fact is ok, a warning or wrong, with the command that fixes it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from core.common.quantities import size_in_words
from core.deployment.checks.engine import check_clock, check_compose, check_engine, check_host
from models.doctor import DataFolder, DoctorFinding, EnvironmentFacts, FindingLevel, MachineFacts, OpenFile, ServerFacts
from models.hosts import SKEW_ALERTS_OVER
from models.validation import Check, CheckSeverity, Facts, Trouble

_SILENT_AFTER = timedelta(minutes=3)
"""A watch leaves a heartbeat every minute."""

_LEAST_BYTES = 200 * 1024**2
_FEW_BYTES = 2 * 1024**3
_OTHERS, _GROUP = 0o007, 0o070
_SHOWN = 3

_VERDICTS = {
    CheckSeverity.CRITICAL: FindingLevel.WRONG,
    CheckSeverity.WARNING: FindingLevel.WARNING,
    CheckSeverity.INFO: FindingLevel.OK,
}


def diagnose(facts: MachineFacts) -> tuple[DoctorFinding, ...]:
    """Judge every fact. A fact that depends on another one that is missing is left out."""
    return (
        *_programs(facts),
        *_engine(facts),
        *_data_folder(facts),
        *_server(facts.server),
        *(line for environment in facts.environments for line in _environment(environment, facts)),
    )


def _ok(name: str, finding: str) -> DoctorFinding:
    return DoctorFinding(name=name, verdict=FindingLevel.OK, finding=finding)


def _warning(name: str, finding: str, fix: str) -> DoctorFinding:
    return DoctorFinding(name=name, verdict=FindingLevel.WARNING, finding=finding, fix=fix)


def _wrong(name: str, finding: str, fix: str) -> DoctorFinding:
    return DoctorFinding(name=name, verdict=FindingLevel.WRONG, finding=finding, fix=fix)


def _programs(facts: MachineFacts) -> Iterator[DoctorFinding]:
    for program in facts.programs:
        name = program.name.lower()
        if program.version is None:
            yield _wrong(name, f"{program.name} is not installed.", f"uv pip install '{name}{program.required}'")
        elif not program.fits:
            fix = "make setup" if name == "python" else f"uv pip install '{name}{program.required}'"
            yield _wrong(name, f"{program.name} {program.version} does not fit; {program.required} is required.", fix)
        elif program.known_fault:
            yield _warning(name, f"{program.name} {program.version}: {program.known_fault}.", program.avoided_by)
        else:
            yield _ok(name, f"{program.name} {program.version}.")


def _engine(facts: MachineFacts) -> Iterator[DoctorFinding]:
    engine_facts = Facts(
        environment="",
        engine_url=facts.engine_url,
        engine=facts.engine,
        compose_version=facts.compose_version,
        declared=Trouble(what=""),
        clock_offset=facts.clock_offset,
        host=facts.host,
    )
    for check in check_engine(engine_facts):
        yield _with_command(
            _finding_of_check(check), _engine_command(facts) if isinstance(facts.engine, Trouble) else ""
        )
    for check in check_compose(engine_facts):
        if check.name == "compose":
            yield _with_command(_finding_of_check(check), "sudo apt-get install docker-compose-plugin")
    for check in check_clock(engine_facts):
        yield _with_command(_finding_of_check(check), "sudo timedatectl set-ntp true")
    for check in check_host(engine_facts):
        yield _with_command(_finding_of_check(check), {"disk": "docker system df"}.get(check.name, ""))


def _engine_command(facts: MachineFacts) -> str:
    if facts.refused:
        return "sudo usermod -aG docker $USER   # then sign in again"
    if facts.engine_url.startswith("unix://"):
        return "sudo systemctl start docker"
    return f"docker --host {shlex.quote(facts.engine_url)} version"


def _finding_of_check(check: Check) -> DoctorFinding:
    verdict = FindingLevel.OK if check.passed else _VERDICTS[check.severity]
    return DoctorFinding(name=check.name, verdict=verdict, finding=check.finding, fix=check.fix)


def _with_command(line: DoctorFinding, command: str) -> DoctorFinding:
    return replace(line, fix=command) if command and line.verdict is not FindingLevel.OK else line


def _data_folder(facts: MachineFacts) -> Iterator[DoctorFinding]:
    data = facts.data
    if not data.writable:
        owner = f"sudo chown -R {facts.user} {shlex.quote(str(data.path))}"
        yield _wrong("data", f"This user may not write into the data folder {data.path}.", owner)
    elif not data.exists:
        yield _ok("data", f"The data folder {data.path} does not exist yet; the first command makes it.")
    else:
        yield from _private("data", data.exposed, facts.user) or [_ok("data", f"{data.path} is private.")]
    if facts.stores_problem is not None:
        yield _wrong("stores", facts.stores_problem.what, "roas db check")
    if facts.stores_clock_skew is not None:
        yield _stores_clock(facts.stores_clock_skew)
    yield _data_disk(data)


def _stores_clock(skew: timedelta) -> DoctorFinding:
    ahead = "ahead of" if skew > timedelta() else "behind"
    finding = f"This machine's clock is {abs(skew).total_seconds():.1f} s {ahead} the clock of the stores' database."
    if abs(skew) > SKEW_ALERTS_OVER:
        return _wrong("stores_clock", finding, "sudo timedatectl set-ntp true")
    return _ok("stores_clock", finding)


def _data_disk(data: DataFolder) -> DoctorFinding:
    free = f"{size_in_words(data.free_bytes)} are free on the disk of {data.path}."
    if data.free_bytes < _LEAST_BYTES:
        return _wrong("data_disk", f"Only {free}", "roas db clean   # archives and deletes old records")
    if data.free_bytes < _FEW_BYTES:
        return _warning("data_disk", free, "roas db clean   # archives and deletes old records")
    return _ok("data_disk", free)


def _private(name: str, exposed: Iterable[OpenFile], user: int) -> list[DoctorFinding]:
    """A line for each file that others may read: wrong for every user, a warning for the group alone."""
    listed = list(exposed)
    lines = []
    for file in listed[:_SHOWN]:
        path = shlex.quote(str(file.path))
        if file.owner not in (user, 0):
            line = _wrong(name, f"{file.path} belongs to the user with uid {file.owner}.", f"sudo chown {user} {path}")
        else:
            mode = "700" if file.is_folder else "600"
            who = "every user" if file.mode & _OTHERS else "its group"
            made = _wrong if file.mode & _OTHERS else _warning
            line = made(name, f"{file.path} is open to {who} (mode {file.mode:o}).", f"chmod {mode} {path}")
        lines.append(line)
    if len(listed) > _SHOWN:
        lines.append(_warning(name, f"{len(listed) - _SHOWN} more files are not private.", "roas doctor --json"))
    return lines


def _server(server: ServerFacts) -> Iterator[DoctorFinding]:
    if server.url is None:
        yield _ok("server", "No Prefect server runs; a command starts one of its own, `roas serve` one with schedules.")
        return
    if server.problem:
        yield _wrong("server", f"Prefect server at {server.url} does not answer: {server.problem}.", "roas serve")
        return
    yield _ok("server", f"Prefect server answers at {server.url}.")
    if server.is_served_here:
        yield _ok("worker", "`roas serve` runs the flows itself.")
    elif server.wants_password:
        yield _warning(
            "worker", "The server wants a password to name its workers.", "export PREFECT_API_AUTH_STRING=USER:PASSWORD"
        )
    elif server.workers is not None:
        yield _workers(server.workers)


def _workers(workers: dict[str, int]) -> DoctorFinding:
    online = {pool: count for pool, count in workers.items() if count}
    if online:
        listed = ", ".join(f"{count} of pool {pool}" for pool, count in sorted(online.items()))
        return _ok("worker", f"Workers online: {listed}.")
    pool = next(iter(sorted(workers)), "roas")
    fix = f"roas worker --pool {shlex.quote(pool)}"
    return _wrong("worker", "No worker is online, so scheduled runs wait.", fix)


def _environment(environment: EnvironmentFacts, facts: MachineFacts) -> Iterator[DoctorFinding]:
    if environment.problem is not None:
        problem = environment.problem
        yield _wrong(environment.name, problem.what, problem.advice or f"roas validate {environment.name}")
        return
    lines = [
        _wrong(environment.name, f"Secret {name} is missing: {why}.", f"export {name}=VALUE   # or write its file")
        for name, why in environment.missing_secrets.items()
    ]
    lines += _private(environment.name, environment.exposed_secrets, facts.user)
    if environment.restic_problem:
        finding = f"{environment.restic_problem}, so its data cannot be saved."
        lines.append(_wrong(environment.name, finding, "apt-get install restic"))
    lines += [_warning(f"{environment.name} snapshots", *_problem(text)) for text in environment.snapshot_problems]
    yield from lines or [_ok(environment.name, "Its file and its secrets can be read.")]
    plan = f"roas plan --update {environment.name}"
    for service, because in environment.stop_first.items():
        yield _warning(f"{environment.name} update", f"{service} is not replaced start-first: {because}.", plan)
    for service, note in environment.overlap_notes.items():
        yield _warning(f"{environment.name} update", f"{service} is replaced start-first, but {note}.", plan)
    yield _watch(environment, facts.checked_at)


def _problem(text: str) -> tuple[str, str]:
    """A problem as a sentence, and the command that it names."""
    what, _, command = text.partition("; `")
    return f"{what[:1].upper()}{what[1:]}.", command.partition("`")[0]


def _watch(environment: EnvironmentFacts, now: datetime) -> DoctorFinding:
    name, last = f"{environment.name} watch", environment.watched_at
    fix = f"roas watch {environment.name}   # or roas serve"
    if last is None:
        return _warning(name, "No watch has run, so failures are recovered at the next collection only.", fix)
    if now - last > _SILENT_AFTER:
        minutes = (now - last).total_seconds() / 60
        return _warning(name, f"The watch was last heard {minutes:.0f} min ago.", fix)
    return _ok(name, f"Watched by {environment.watched_by}." if environment.watched_by else "The watch runs.")
