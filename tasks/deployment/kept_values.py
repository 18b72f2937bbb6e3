"""Values of releases: keep those of variables sealed, and give them to a release that is applied again."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from adapters.compose.variables import variables_of
from adapters.host.fingerprints import Fingerprints
from adapters.host.kept_files import KeptFiles, read_entries, time_of_change
from core.deployment.images import INJECTED
from core.deployment.kept_files import KeptEntry
from core.deployment.release import (
    Document,
    fill_in,
    held_out,
    injected_variables,
    literals_of,
    services_of_values,
    variable_files,
    variables_in,
    with_values,
    without_images,
)
from models.compose import Plan
from models.environments import Environment
from models.failures import RoasError
from models.records import Release
from models.rotation import Rotation
from models.settings import current_settings
from tasks.runtime.project import Project

log = logging.getLogger("roas")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptValues:
    """The values of a release: of its variables, and of the literals that its template does not hold, by name."""

    variables: Mapping[str, str] = field(repr=False)
    literals: Mapping[str, str] = field(repr=False)


def values_digest(prints: Fingerprints, files: Mapping[str, str], variables: Mapping[str, str]) -> str:
    """Under which fingerprint the values of a release are sealed, by the fingerprints that the release has."""
    injected = {key: digest for key, digest in files.items() if key.startswith(INJECTED)}
    return prints.keyed_hash(json.dumps([variables, injected], sort_keys=True))


def keep_values(project: Project, release: Release, began: datetime) -> None:
    """Seal the values of a release that was just proven; the operation began then.

    Only what is as it was when it was proven is kept. A release is none the worse for what cannot be kept.
    """
    prints, kept_files = _prints(), _kept_files(project.environment)
    digest = values_digest(prints, release.files, release.variables)
    try:
        if kept_files.read_verified(digest) is None and (values := _proven_values(project, release, began)) is not None:
            data = json.dumps([values.variables, values.literals]).encode()
            kept_files.seal(digest, (KeptEntry(path="", mode=0o600, uid=os.getuid(), gid=os.getgid(), data=data),))
        for path in variable_files(release.compose):
            print_then = release.variables.get(path)
            if (
                print_then
                and prints.fingerprint_path(Path(path)) == print_then
                and time_of_change(Path(path)) < began.timestamp()
            ):
                kept_files.seal(print_then, read_entries(Path(path)))
    except (OSError, RoasError) as error:
        log.warning("release %s keeps no values: %s", release.release_id, error)


def kept_values(environment: Environment, release: Release) -> KeptValues | None:
    """What a release kept of its values; None where it kept none, or may not be asked for them."""
    if not current_settings().keep_files:
        return None
    entries = _kept_files(environment).read_verified(values_digest(_prints(), release.files, release.variables))
    if not entries or entries[0].data is None:
        return None
    variables, literals = json.loads(entries[0].data)
    return KeptValues(variables=variables, literals=literals)


def with_kept_values(project: Project, release: Release, document: Document, values: KeptValues) -> Document:
    """A release's document that carries its values, and reads its files of variables as they were."""
    prints, kept_files = _prints(), _kept_files(project.environment)
    files: dict[str, str] = {}
    for path in variable_files(release.compose):
        print_then = release.variables.get(path)
        if print_then == "":
            files[path] = os.devnull
        elif print_then is not None and prints.fingerprint_path(Path(path)) != print_then:
            copy = copy_out(kept_files, print_then, Path(path))
            if copy is None:
                log.warning("there is no copy of %s, which is used as it is now", path)
            else:
                files[path] = str(copy)
    # What was not set then cannot be taken from Compose, which reads files itself; empty is closest to it.
    unset = dict.fromkeys(variables_in(release.compose).intersection(variables_now(project)), "")
    return with_values(document, {**unset, **values.variables}, files)


def renew_kept_values(project: Project, rotation: Rotation) -> None:
    """Let releases keep the new value in place of one that its server takes no more, so that they can be applied.

    Raises:
        OSError: It cannot be written.
    """
    kept_files, name = _kept_files(project.environment), json.dumps(rotation.secret)
    whole = {rotation.old_text.encode(): rotation.new_text.encode()} if rotation.is_whole else {}
    pairs = [
        (f"{name}: {json.dumps(old)}", f"{name}: {json.dumps(new)}") for old, new in [(rotation.old, rotation.new)]
    ]
    pairs += [] if rotation.is_whole else [(rotation.old_text, rotation.new_text)]
    for digest in kept_files.digests():
        fresh, entries = [], kept_files.read_verified(digest) or ()
        for entry in entries:
            data = whole.get(entry.data, entry.data) if entry.data is not None else None
            for old, new in pairs:
                data = None if data is None else data.replace(old.encode(), new.encode())
            fresh.append(replace(entry, data=data))
        if tuple(fresh) != entries:
            kept_files.seal(digest, tuple(fresh))


def copy_out(kept_files: KeptFiles, digest: str, path: Path) -> Path | None:
    """A copy of what a release kept of a file; None where there is none, or a full disk takes none."""
    try:
        return kept_files.copy_out(digest, path)
    except OSError as error:
        log.warning("the copy of %s cannot be used: %s", path, error.strerror)
        return None


def other_values(project: Project, release: Release) -> tuple[str, ...]:
    """What has another value now than in a release.

    That are variables, files of variables, and literals of the Compose files that look like secrets. Variables in the
    names of images do not count: a release brings its images back by id. Nor does what an earlier version of this
    program kept no fingerprint of.

    Raises:
        EnvironmentFileError: A file of variables cannot be read.
        ComposeError: The Compose files cannot be read.
    """
    variables, prints = variables_now(project), _prints()
    used = variables_in(without_images(release.compose))
    was = {name: value for name, value in sorted(release.variables.items()) if name in used}
    unkept = unkept_values(project, release.compose, prints)
    non_variables = {key: value for key, value in release.variables.items() if not key.isidentifier()}
    return (
        *(name for name, value in was.items() if name not in variables or prints.keyed_hash(variables[name]) != value),
        *(key for key, value in sorted(non_variables.items()) if unkept.get(key) != value),
    )


def with_lacking_values(project: Project, planned: Plan, last: Release) -> Plan:
    """The plan with a note where a value changed of which the release before keeps none to go back to.

    Raises:
        EnvironmentFileError: A file of variables cannot be read.
        ComposeError: The Compose files cannot be read.
    """
    if kept_values(project.environment, last) is not None or not (changed := other_values(project, last)):
        return planned
    why = "it was proven before values were kept" if current_settings().keep_files else "ROAS_KEEP_FILES is off"
    used, lines = services_of_values(last.compose, changed), []
    for line in planned.services:
        names = ", ".join(used.get(line.service, ()))
        note = f"release {last.release_id} keeps no value of {names} ({why}), so a rollback would use the one of then"
        lines.append(replace(line, note="; ".join(filter(None, (line.note, note)))) if names else line)
    return replace(planned, services=tuple(lines))


def unkept_values(project: Project, template: Document, prints: Fingerprints) -> dict[str, str]:
    """Fingerprints of what a template names and does not hold: literals that look like secrets, files of variables."""
    fingerprints: dict[str, str] = {}
    if held_out(template):
        now = literals_of(template, project.compose().without_values())
        fingerprints = {name: prints.keyed_hash(value) for name, value in now.items()}
    for path in variable_files(template):
        # One that is not there yet may hold values later.
        fingerprints |= prints.fingerprint_file(Path(path)) or {path: ""}
    return fingerprints


def _proven_values(project: Project, release: Release, began: datetime) -> KeptValues | None:
    """The values that a release was proven with; None where one may have changed meanwhile."""
    environment = project.environment
    read = [
        *(environment.env_files or (environment.compose_files[0].parent / ".env",)),
        *(secret.file for secret in environment.secrets if secret.file is not None),
        *(environment.compose_files if held_out(release.compose) else ()),
    ]
    if any(path.exists() and time_of_change(path) >= began.timestamp() for path in read):
        log.debug("release %s keeps no values: a file of them changed meanwhile", release.release_id)
        return None
    literals: dict[str, str] = {}
    if held_out(release.compose):
        literals = literals_of(release.compose, project.compose().without_values())
    variables = variables_now(project)
    # Where the name of a secret looks like one, that of its variable is held out, too.
    injected = injected_variables(fill_in(release.compose, literals))
    names = sorted({name for name in release.variables if name.isidentifier()} | injected)
    return KeptValues(variables={name: variables[name] for name in names if name in variables}, literals=literals)


def variables_now(project: Project) -> dict[str, str]:
    """Every variable that Compose can interpolate now, with its value."""
    return variables_of(project.environment, project.variables())


def _prints() -> Fingerprints:
    return Fingerprints(current_settings().data_dir)


def _kept_files(environment: Environment) -> KeptFiles:
    return KeptFiles(current_settings().data_dir, environment.name, _prints())
