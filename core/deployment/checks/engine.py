"""Check the engine, Compose, the variables and the host."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta

from core.common.quantities import size_in_words
from core.deployment.checks.findings import CRITICAL, INFO, WARNING, Findings, dot_version, version_numbers
from models.validation import Check, Facts, Trouble

_OLDEST_ENGINE = (20, 10)
_OLDEST_COMPOSE = (2, 20)
_DISK_CRITICAL_BYTES = 200 * 1024**2
_DISK_WARNING_BYTES = 2 * 1024**3
_FREE_DISK = "Free space there; `docker system df` shows what images, containers and volumes take."
_INODES_WARNING = 0.05
_OPEN_FILES = 1024
_CLOCK = timedelta(seconds=5)


def check_engine(facts: Facts) -> Iterable[Check]:
    """Check that the engine answers and is recent enough."""
    engine, old, warnings = facts.engine, Findings("engine"), Findings("engine")
    if isinstance(engine, Trouble):
        old.critical(engine.what.rstrip(";"), engine.advice[:1].upper() + engine.advice[1:])
        return old
    if version_numbers(engine.version) < _OLDEST_ENGINE:
        fix = f"Upgrade it to {dot_version(_OLDEST_ENGINE)} or later."
        old.critical(f"Docker engine {engine.version} is too old.", fix)
    for warning in engine.warnings:
        warnings.add(INFO, f"The engine says: {warning}.", "See the engine's documentation.")
    return [*old.or_passed(f"Docker engine {engine.version} answers at {engine.address}."), *warnings]


def check_compose(facts: Facts) -> Iterable[Check]:
    """Check the version of Compose and that the Compose files parse."""
    version, declared = facts.compose_version, facts.declared
    compose, files = Findings("compose"), Findings("compose_files")
    if isinstance(version, Trouble):
        compose.critical(version.what, version.advice)
    elif version_numbers(version) < _OLDEST_COMPOSE:
        compose.critical(f"Compose {version} is too old.", f"Upgrade it to {dot_version(_OLDEST_COMPOSE)} or later.")
    checks = [*compose.or_passed(f"Compose {version}.")]
    if isinstance(declared, Trouble):
        if not isinstance(version, Trouble):
            files.critical(declared.what, declared.advice)
        return [*checks, *files]
    if not declared.services:
        files.critical("The Compose files declare no service.", "Check the files and the profiles.")
    return [*checks, *files.or_passed(f"The Compose files parse and declare {len(declared.services)} services.")]


def check_variables(facts: Facts) -> Iterable[Check]:
    """Check that all variables and secrets have values."""
    variables, secrets = Findings("variables"), Findings("secrets")
    for name in facts.missing_variables:
        variables.critical(f"Variable {name} is not set or empty.", f"Set {name}.", name)
    for name in facts.withheld_variables:
        if name not in facts.missing_secrets:
            variables.add(
                CRITICAL if name in facts.variables else WARNING,
                f"Variable {name} holds a credential of this control plane or its operator: no application gets it.",
                "Use a variable of the application's own. For a cloud account's, name it under secrets of the "
                "environment.",
                name,
            )
    if facts.variables or variables:
        yield from variables.or_passed("All required variables are set.")
    for name, why in facts.missing_secrets.items():
        secrets.critical(f"Secret {name} is missing: {why}.", f"Provide secret {name}.", name)
    if facts.secrets or secrets:
        yield from secrets.or_passed("All secrets can be read.")
    yield from _check_interpolation(facts)


def _check_interpolation(facts: Facts) -> Iterable[Check]:
    if isinstance(facts.declared, Trouble):
        return
    empty = Findings("interpolation")
    reported = {*facts.missing_variables, *facts.missing_secrets, *facts.withheld_variables}

    def add(name: str, finding: str) -> None:
        if name not in reported:
            empty.warn(finding, f"Set {name}, or give it a default as ${{{name}:-value}}.", name)

    for variable in facts.empty_variables:
        add(variable.name, f"Variable {variable.name} is empty where the Compose files use it.")
    for warning in facts.declared.warnings:
        unset = re.match(r'The "(\w+)" variable is not set', warning)
        if unset is not None:
            add(unset[1], f"Variable {unset[1]} is not set, so the Compose files get an empty text in its place.")
        else:
            other = Findings("compose_files")
            other.add(INFO, f"Compose says: {warning}", "Correct the Compose files.")
            empty += other
    yield from empty.or_passed("No variable is filled in with nothing.")


def check_another_run(facts: Facts) -> Iterable[Check]:
    """Check that no other operation holds the environment."""
    runs = Findings("another_run")
    if facts.held_by is not None:
        holds = f"Another operation holds {facts.environment}: {facts.held_by}."
        runs.critical(holds, "Wait for it, or stop it first.")
    return runs


def check_clock(facts: Facts) -> Iterable[Check]:
    """Check that the engine's clock agrees with this machine's."""
    offset, clock = facts.clock_offset, Findings("clock")
    if offset is None:
        return clock
    if abs(offset) > _CLOCK:
        differs = f"The engine's clock differs from this machine's by {offset.total_seconds():+.0f} s."
        clock.warn(differs, "Let both machines take their time from the same servers.")
    return clock.or_passed("The engine's clock agrees with this machine's.")


def check_host(facts: Facts) -> Iterable[Check]:
    """Check the free disk space and the limit of open files."""
    host = facts.host
    if host is None:
        return
    disk, inodes, open_files = Findings("disk"), Findings("inodes"), Findings("open_files")
    free = f"{size_in_words(host.disk_free_bytes)} are free on the engine's disk."
    if host.disk_free_bytes < _DISK_CRITICAL_BYTES:
        disk.critical(f"Only {free}", _FREE_DISK)
    elif host.disk_free_bytes < _DISK_WARNING_BYTES:
        disk.warn(free, _FREE_DISK)
    yield from disk.or_passed(free)
    # File systems that make inodes as they need them report none at all.
    if host.inodes_total:
        free_share = host.inodes_free / host.inodes_total
        if free_share < _INODES_WARNING:
            severity = CRITICAL if host.inodes_free < 1000 else WARNING
            finding = f"Only {free_share:.1%} of the inodes of the engine's disk are free."
            inodes.add(severity, finding, "Remove many small files, or unused images.")
        yield from inodes.or_passed(f"{free_share:.0%} of the inodes are free.")
    if host.open_files_limit < _OPEN_FILES:
        fix = f"Raise the limit to {_OPEN_FILES} or more (ulimit -n)."
        open_files.warn(f"This user may open only {host.open_files_limit} files at once.", fix)
    yield from open_files.or_passed(f"{host.open_files_limit} files may be open at once.")


def check_gaps(facts: Facts) -> Iterable[Check]:
    """Report the facts that could not be gathered."""
    gaps = Findings("gaps")
    for gap in facts.gaps:
        gaps.warn(f"Not all facts could be gathered: {gap}.", "Allow this user that question to the engine.")
    return gaps


CHECKS = (check_engine, check_compose, check_variables, check_another_run, check_clock, check_host, check_gaps)
