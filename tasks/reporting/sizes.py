"""Propose sizes of services from the record, as a change of their Compose files that Compose itself has read.

Without Prefect and the engine's client, as for all that only reads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from difflib import unified_diff
from pathlib import Path
from typing import Any

from adapters.compose.cli import ComposeCli, text_of
from adapters.compose.declared_secrets import concealed_values
from adapters.compose.edits import other_settings, unwritable, with_size
from adapters.compose.parsing import parse_application
from adapters.compose.template import first_difference
from adapters.compose.variables import process_environment
from adapters.config.yaml_files import read_content
from adapters.host.private_files import replace_content
from adapters.stores import Stores
from core.errors.redact import Redactor
from core.monitoring.sizes import declared_size, propose_size
from models.environments import Environment
from models.errors import Category
from models.failures import BadInputError, ComposeError, EnvironmentFileError
from models.sizes import MemoryKills, Size, SizeProposal, SizeReport
from tasks.runtime.stores import open_stores, stores_exist

DAYS = 14
_MOST_ERRORS = 10_000


def read_sizes(environment: Environment, services: Sequence[str], now: datetime, *, write: bool = False) -> SizeReport:
    """Propose sizes of an environment's services, of all without names; with `write` change the Compose files.

    Raises:
        BadInputError: There is no such service, or the files come from a source and would be overwritten.
        ComposeError: Compose cannot read the files.
        EnvironmentFileError: A file cannot be read or written, or was changed meanwhile.
    """
    if write and environment.source is not None:
        raise BadInputError(
            f"The Compose files of {environment.name} come from git, and the next sync would overwrite them;",
            advice="commit what `roas size` prints in the repository.",
        )
    files = {file: text_of(file) for file in environment.compose_files}
    compose = ComposeCli(environment, process_environment(environment, os.environ))
    document = compose.document_of(list(files.values()))
    declared = parse_application({"services": {}, **document}, {}, ()).services
    if unknown := sorted(set(services) - set(declared)):
        raise BadInputError(
            f"{environment.name} has no service {', '.join(unknown)};",
            advice=f"it has {', '.join(declared) or 'none'}.",
        )
    since, stores = now - timedelta(days=DAYS), open_stores() if stores_exist() else None
    memory, cpu = (
        stores.metrics.hours_of_services(environment.name, metric, since, now) if stores else {}
        for metric in ("memory_bytes", "cpu_usage")
    )
    kills = _read_kills(stores, environment.name, since) if stores else {}
    processors = os.cpu_count() if environment.engine.startswith("unix://") else None
    proposals, texts = [], dict(files)
    for name in services or declared:
        found = kills.get(name, MemoryKills())
        proposal = propose_size(declared[name], memory.get(name, {}), cpu.get(name, {}), found, processors)
        if proposal.changes:
            try:
                texts, document, size = _edit(compose, texts, document, proposal)
                proposal = replace(proposal, proposed=size)
            except ComposeError as error:
                proposal = replace(proposal, because=error.what)
        proposals.append(proposal)
    changed, lines = [file for file, text in texts.items() if text != files[file]], list[str]()
    for file in changed:
        lines += unified_diff(files[file].splitlines(), texts[file].splitlines(), str(file), str(file), lineterm="")
        if write:
            write_if_unchanged(file, files[file], texts[file])
    return SizeReport(
        environment=environment.name,
        days=DAYS,
        proposals=tuple(proposals),
        diff=Redactor(concealed_values(environment)).text("\n".join(lines)),
        written=tuple(map(str, changed)) if write else (),
    )


def _read_kills(stores: Stores, environment: str, since: datetime) -> dict[str, MemoryKills]:
    """The kills for memory since a moment, by service, with the limits that the evidence shows."""
    kills: dict[str, MemoryKills] = {}
    for error in stores.errors.latest(environment, _MOST_ERRORS):
        service = error.service
        if service is None or error.verdict.category is not Category.OOM_KILLED or error.last_seen < since:
            continue
        bundles = stores.evidence.find(error_id=error.error_id)
        containers = [one for bundle in bundles if bundle.taken_at >= since for one in bundle.containers]
        limits = [one.memory_limit_bytes for one in containers if one.service == service and one.memory_limit_bytes]
        before = kills.get(service, MemoryKills())
        largest = max([*limits, before.limit_bytes or 0]) or None
        kills[service] = MemoryKills(count=before.count + error.count, limit_bytes=largest)
    return kills


def _edit(
    compose: ComposeCli, texts: Mapping[Path, str], document: dict[str, Any], proposal: SizeProposal
) -> tuple[dict[Path, str], dict[str, Any], Size]:
    """The files with one more proposal, and what Compose reads then: all, and the size.

    Raises:
        ComposeError: They cannot be edited, or Compose reads something else than was proposed.
    """
    name = proposal.service
    edited = with_size(texts, name, proposal.declared, proposal.proposed)
    after = compose.document_of(list(edited.values()))
    others, others_before = other_settings(after, name), other_settings(document, name)
    if others != others_before:
        raise unwritable(f"{first_difference(others_before, others)} would change, too")
    size = declared_size(parse_application(after, {}, ()).services[name])
    wanted = proposal.proposed
    # With its short keys a file has none for the reservation of processors.
    if size not in (wanted, replace(wanted, cpu_reservation=proposal.declared.cpu_reservation)):
        raise unwritable("another file sets it")
    return edited, after, size


def write_if_unchanged(file: Path, before: str, after: str) -> None:
    """Change a file, unless a person changed it since it was read; at once, or not at all.

    Raises:
        EnvironmentFileError: It was changed, or cannot be written.
    """

    def check(_: Path) -> None:
        if read_content(file) != before.encode():
            raise EnvironmentFileError(f"{file} was changed meanwhile.", advice="Run `roas size` again.")

    try:
        replace_content(file, after.encode(), check)
    except OSError as error:
        raise EnvironmentFileError(
            f"{file} cannot be written: {error.strerror}.", advice="Apply what `roas size` prints yourself."
        ) from error
