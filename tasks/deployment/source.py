"""The source of an environment: fetch it, switch its checkout, remember pins and failures, report to its server."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from adapters.compose.variables import secret_values
from adapters.git.checkouts import Checkouts
from adapters.git.commit_status import CommitStatusClient
from adapters.git.places import current_checkout, source_folder
from adapters.git.repository import SourceRepository
from adapters.host.local_lock import LocalLock
from adapters.oci.artifacts import ArtifactRepository
from core.deployment.source import checkouts_to_remove, refuse_data_in_checkout
from models.compose import Application
from models.environments import Environment
from models.failures import BadInputError, EnvironmentBusyError, SourceError
from models.settings import current_settings
from models.sources import (
    SOURCE_KEY,
    CommitStatus,
    FetchedSource,
    GitSource,
    OciSource,
    SourceRevision,
    SourceState,
)
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import EFFECT, READ, retry_read
from tasks.runtime.stores import open_stores
from tasks.runtime.task import task

log = logging.getLogger("roas")

_ASK_AGAIN_SECONDS = 0.5
_FETCH: dict[str, Any] = READ | {"retries": 3, "retry_delay_seconds": [2, 5, 15], "timeout_seconds": 1500}


def declared_source(environment: Environment) -> GitSource | OciSource:
    """The source of an environment.

    Raises:
        BadInputError: It has none.
    """
    if environment.source is None:
        raise BadInputError(
            f"{environment.name} has no source, so there is nothing to sync;",
            advice="add `source:` with a repository or an artifact to its file, or use `roas update`.",
        )
    return environment.source


@asynccontextmanager
async def hold_source(environment: Environment, wait: timedelta) -> AsyncIterator[None]:
    """Keep other processes of this machine from the source's repository meanwhile.

    Raises:
        EnvironmentBusyError: Another process uses it, and did not end within `wait`.
    """
    lock, deadline = LocalLock(_folder(environment) / "lock"), datetime.now(UTC) + wait
    this_sync = f"a sync (pid {os.getpid()}) since {datetime.now(UTC):%H:%M:%S} UTC"
    while (holder := await asyncio.to_thread(lock.take, this_sync)) is not None:
        if datetime.now(UTC) >= deadline:
            raise EnvironmentBusyError(
                f"The source of {environment.name} is in use by {holder};",
                advice="try again in a moment, or wait for it (--wait SECONDS).",
            )
        await asyncio.sleep(_ASK_AGAIN_SECONDS)
    try:
        yield
    finally:
        lock.release()


@task(name="fetch the source", task_run_name="fetch source of {project.environment.name}", **_FETCH)
async def fetch_source(project: Project, running: str | None) -> FetchedSource:
    """Fetch what the branch or tag refers to, and compare it with the running revision and the checkout.

    Raises:
        SourceUnreachableError: The server did not answer.
        SourceError: The branch or tag cannot be had, or is not signed as it has to be.
    """

    environment = project.environment

    def fetch() -> FetchedSource:
        source, repository, checkouts = declared_source(environment), _repository(environment), _checkouts(environment)
        target = repository.fetch()
        target = replace(target, subject=project.redactor().text(target.subject))
        follows = running is None or repository.follows(target.revision, running)
        if source.tag is not None:
            follows = follows and checkouts.state().tag_revisions.get(target.ref, target.revision) == target.revision
        changed = checkouts.changed_files(repository)
        return FetchedSource(target=target, follows_running=follows, changed_files=changed)

    return await asyncio.to_thread(fetch)


@task(name="switch the checkout", task_run_name="check out {revision.brief}", **EFFECT)
async def switch_checkout(environment: Environment, revision: SourceRevision) -> None:
    """Let the checkout be that of a revision, completely or not at all.

    Raises:
        SourceError: It cannot be written, or the commit is not here any more.
    """

    def switch() -> None:
        repository, checkouts = _repository(environment), _checkouts(environment)
        if not repository.has(revision.revision) and checkouts.folder_of(revision.revision) is None:
            raise SourceError(
                f"Revision {revision.brief} of {environment.name} is not on this machine any more;",
                advice=f"`roas sync {environment.name}` takes the newest one.",
            )
        submodules = checkouts.take(repository, revision, datetime.now(UTC))
        if submodules:
            log.warning("submodules are left out: %s", ", ".join(submodules))
        log.info("checkout of %s is at %s", environment.name, revision)

    await asyncio.to_thread(switch)


@retry_read
async def refuse_untracked_data(environment: Environment, application: Application, revision: str) -> None:
    """Refuse an application that keeps data inside of the checkout.

    Raises:
        SourceError: A service mounts a folder of the checkout that the revision does not have.
    """
    tracked = await asyncio.to_thread(lambda: _repository(environment).paths(revision))
    refuse_data_in_checkout(application, str(current_checkout(_data_dir(), environment.name)), tracked)


async def running_revision(environment: Environment) -> SourceRevision | None:
    """The revision of the last proven release, None where that has none."""
    last = await asyncio.to_thread(lambda: open_stores().releases.last(environment.name, proven=True))
    return None if last is None else last.source


async def source_state(environment: Environment) -> SourceState:
    """What is known of the source on this machine.

    Raises:
        SourceError: It cannot be read.
    """
    return await asyncio.to_thread(lambda: _checkouts(environment).state())


async def current_revision(environment: Environment) -> SourceRevision | None:
    """The revision of the checkout, None where there is none."""
    return await asyncio.to_thread(_current, environment)


async def change_state(environment: Environment, change: Callable[[SourceState], SourceState]) -> SourceState:
    """Change what is known of the source.

    Raises:
        SourceError: It cannot be read or written.
    """

    def write() -> SourceState:
        checkouts = _checkouts(environment)
        state = change(checkouts.state())
        checkouts.keep_state(state)
        return state

    return await asyncio.to_thread(write)


def source_of_checkout(environment: Environment) -> dict[str, Any]:
    """The part of a release's Compose document that holds the revision of the checkout; empty without one."""
    revision = _current(environment) if environment.source is not None else None
    return {} if revision is None else {SOURCE_KEY: asdict(revision)}


async def remove_old_checkouts(project: Project) -> None:
    """Remove checkouts that no container, kept release or rollback needs; what fails is logged."""

    environment = project.environment

    def remove() -> None:
        checkouts = _checkouts(environment)
        releases = open_stores().releases.latest(environment.name)
        needed = {release.source.revision for release in releases if release.source is not None}
        current = checkouts.current()
        needed |= {current} if current is not None else set()
        states = project.inspect_containers()
        started = [state.started_at for state in states if state.started_at is not None]
        old = checkouts_to_remove(
            checkouts.revisions(),
            checkouts.state(),
            needed=needed,
            oldest_start=min(started, default=None),
            now=datetime.now(UTC),
        )
        checkouts.remove(_repository(environment), old)

    try:
        await asyncio.to_thread(remove)
    except Exception as error:  # noqa: BLE001 - a checkout too many does no harm, and the next sync tries again
        log.info("old checkouts of %s stay: %s", environment.name, type(error).__name__)


@task(name="report a commit status", task_run_name="report {status.state} of {environment.name}", **EFFECT)
async def report_status(environment: Environment, status: CommitStatus) -> str | None:
    """Report a result to the repository's server; returns why it did not take it, None where it did."""
    source = declared_source(environment)
    if isinstance(source, OciSource):
        return "a registry takes no status"
    token = await asyncio.to_thread(lambda: secret_values(environment).get(source.status_token_secret or "", ""))
    if not token:
        return f"secret {source.status_token_secret} cannot be read"
    return await CommitStatusClient(source, token).report(status, f"roas/{environment.name}")


def _current(environment: Environment) -> SourceRevision | None:
    checkouts = _checkouts(environment)
    revision = checkouts.current()
    return None if revision is None else checkouts.state().known.get(revision, SourceRevision(revision=revision))


def _repository(environment: Environment) -> SourceRepository:
    source, folder = declared_source(environment), _folder(environment)
    if isinstance(source, OciSource):
        return ArtifactRepository(environment.name, source, folder)
    return SourceRepository(environment.name, source, folder, secret_values(environment))


def _checkouts(environment: Environment) -> Checkouts:
    return Checkouts(_folder(environment))


def _folder(environment: Environment) -> Path:
    return source_folder(_data_dir(), environment.name)


def _data_dir() -> Path:
    return current_settings().data_dir
