"""Check the engine, Compose, the variables and the host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from core.deployment.checks.findings import (
    CRITICAL,
    INFO,
    WARNING,
    dotted,
    found,
    found_or_passed,
    passed,
    size_in_words,
    version_numbers,
)
from models.validation import Check
from models.validation_facts import Facts, Trouble

_OLDEST_ENGINE = (20, 10)
_OLDEST_COMPOSE = (2, 20)
_DISK_CRITICAL_BYTES = 200 * 1024**2
_DISK_WARNING_BYTES = 2 * 1024**3
_INODES_WARNING = 0.05
_OPEN_FILES = 1024
_CLOCK = timedelta(seconds=5)


def check_engine(facts: Facts) -> Iterator[Check]:
    """Check that the engine answers and is recent enough."""
    engine = facts.engine
    if isinstance(engine, Trouble):
        yield found("engine", CRITICAL, engine.what.rstrip(";"), _sentence(engine.advice))
        return
    if version_numbers(engine.version) < _OLDEST_ENGINE:
        yield found(
            "engine",
            CRITICAL,
            f"Docker engine {engine.version} is too old.",
            f"Upgrade it to {dotted(_OLDEST_ENGINE)} or later.",
        )
    else:
        yield passed("engine", f"Docker engine {engine.version} answers at {engine.address}.")
    for warning in engine.warnings:
        yield found("engine", INFO, f"The engine says: {warning}.", "See the engine's documentation.")


def check_compose(facts: Facts) -> Iterator[Check]:
    """Check the version of Compose and that the Compose files parse."""
    version = facts.compose_version
    if isinstance(version, Trouble):
        yield found("compose", CRITICAL, version.what, version.advice)
    elif version_numbers(version) < _OLDEST_COMPOSE:
        yield found(
            "compose",
            CRITICAL,
            f"Compose {version} is too old.",
            f"Upgrade it to {dotted(_OLDEST_COMPOSE)} or later.",
        )
    else:
        yield passed("compose", f"Compose {version}.")
    if isinstance(facts.declared, Trouble):
        if not isinstance(version, Trouble):
            yield found("compose_files", CRITICAL, facts.declared.what, facts.declared.advice)
        return
    count = len(facts.declared.services)
    if count == 0:
        yield found(
            "compose_files", CRITICAL, "The Compose files declare no service.", "Check the files and the profiles."
        )
    else:
        yield passed("compose_files", f"The Compose files parse and declare {count} services.")


def check_variables(facts: Facts) -> Iterator[Check]:
    """Check that all variables and secrets have values."""
    missing = [
        found("variables", CRITICAL, f"Variable {name} is not set or empty.", f"Set {name}.", name)
        for name in facts.missing_variables
    ]
    missing += [_withheld(facts, name) for name in facts.withheld_variables if name not in facts.missing_secrets]
    if facts.variables or missing:
        yield from found_or_passed("variables", missing, "All required variables are set.")
    secrets = [
        found("secrets", CRITICAL, f"Secret {name} is missing: {why}.", f"Provide secret {name}.", name)
        for name, why in facts.missing_secrets.items()
    ]
    if facts.secrets or secrets:
        yield from found_or_passed("secrets", secrets, "All secrets can be read.")
    if isinstance(facts.declared, Trouble):
        return
    reported = {*facts.missing_variables, *facts.missing_secrets, *facts.withheld_variables}
    empty = [
        found(
            "interpolation",
            WARNING,
            f"Variable {variable.name} is empty where the Compose files use it.",
            f"Set {variable.name}, or give it a default as ${{{variable.name}:-value}}.",
            variable.name,
        )
        for variable in facts.empty_variables
        if variable.name not in reported
    ]
    for warning in facts.declared.warnings:
        unset = re.match(r'The "(\w+)" variable is not set', warning)
        if unset is None:
            empty.append(found("compose_files", INFO, f"Compose says: {warning}", "Correct the Compose files."))
        elif unset[1] not in reported:
            name = unset[1]
            fix = f"Set {name}, or give it a default as ${{{name}:-value}}."
            finding = f"Variable {name} is not set, so the Compose files get an empty text in its place."
            empty.append(found("interpolation", WARNING, finding, fix, name))
    yield from found_or_passed("interpolation", empty, "No variable is filled in with nothing.")


def _withheld(facts: Facts, name: str) -> Check:
    return found(
        "variables",
        CRITICAL if name in facts.variables else WARNING,
        f"Variable {name} holds a credential of this control plane or its operator: no application gets it.",
        "Use a variable of the application's own. For a cloud account's, name it under secrets of the environment.",
        name,
    )


def check_another_run(facts: Facts) -> Iterator[Check]:
    """Check that no other operation holds the environment."""
    if facts.held_by is not None:
        yield found(
            "another_run",
            CRITICAL,
            f"Another operation holds {facts.environment}: {facts.held_by}.",
            "Wait for it, or stop it first.",
        )


def check_clock(facts: Facts) -> Iterator[Check]:
    """Check that the engine's clock agrees with this machine's."""
    offset = facts.clock_offset
    if offset is None:
        return
    if abs(offset) > _CLOCK:
        yield found(
            "clock",
            WARNING,
            f"The engine's clock differs from this machine's by {offset.total_seconds():+.0f} s.",
            "Let both machines take their time from the same servers.",
        )
    else:
        yield passed("clock", "The engine's clock agrees with this machine's.")


def check_host(facts: Facts) -> Iterator[Check]:
    """Check the free disk space and the limit of open files."""
    host = facts.host
    if host is None:
        return
    free = size_in_words(host.disk_free_bytes)
    if host.disk_free_bytes < _DISK_CRITICAL_BYTES:
        yield found("disk", CRITICAL, f"Only {free} are free on the engine's disk.", _FREE_DISK)
    elif host.disk_free_bytes < _DISK_WARNING_BYTES:
        yield found("disk", WARNING, f"{free} are free on the engine's disk.", _FREE_DISK)
    else:
        yield passed("disk", f"{free} are free on the engine's disk.")
    # File systems that make inodes as they need them report none at all.
    if host.inodes_total:
        left = host.inodes_free / host.inodes_total
        if left < _INODES_WARNING:
            severity = CRITICAL if host.inodes_free < 1000 else WARNING
            finding = f"Only {left:.1%} of the inodes of the engine's disk are free."
            yield found("inodes", severity, finding, "Remove many small files, or unused images.")
        else:
            yield passed("inodes", f"{left:.0%} of the inodes are free.")
    if host.open_files_limit < _OPEN_FILES:
        yield found(
            "open_files",
            WARNING,
            f"This user may open only {host.open_files_limit} files at once.",
            f"Raise the limit to {_OPEN_FILES} or more (ulimit -n).",
        )
    else:
        yield passed("open_files", f"{host.open_files_limit} files may be open at once.")


def check_gaps(facts: Facts) -> Iterator[Check]:
    """Report the facts that could not be gathered."""
    for gap in facts.gaps:
        yield found(
            "gaps",
            WARNING,
            f"Not all facts could be gathered: {gap}.",
            "Allow this user that question to the engine.",
        )


_FREE_DISK = "Free space there; `docker system df` shows what images, containers and volumes take."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
