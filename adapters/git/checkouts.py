"""Checkouts of an environment's source: a folder for each revision, and a link to the current one.

A revision is written beside the others and gets its name when it is complete, and one rename lets the link refer to
it. So a process that is killed at any moment leaves a whole checkout.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from adapters.git.repository import SourceRepository
from adapters.host.private_files import make_private_folder, read_regular, sync_folder, write_private
from models.failures import SourceError
from models.sources import SourceRevision, SourceState

_PARTIAL = ".partial-"
_MOST_REMEMBERED = 200
_LARGEST_STATE = 4 * 1024 * 1024


class Checkouts:
    """The checkouts of one environment and what is known of them. One process at a time may change them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._revisions = folder / "revisions"
        self._link = folder / "current"
        self._file = folder / "state.json"

    def state(self) -> SourceState:
        """What is known; nothing where the file is missing.

        Raises:
            SourceError: The file cannot be read.
        """
        try:
            return _AS_JSON.validate_json(read_regular(self._file, at_most=_LARGEST_STATE))
        except FileNotFoundError:
            return SourceState()
        except (OSError, ValidationError) as error:
            why = f": {error.strerror}" if isinstance(error, OSError) else ""
            raise SourceError(
                f"{self._file} cannot be read{why};",
                advice="restore it from a backup, or remove it: pins are then lost.",
            ) from error

    def keep_state(self, state: SourceState) -> None:
        """Write what is known.

        Raises:
            SourceError: It cannot be written.
        """
        most = _MOST_REMEMBERED
        # What would be too large to be read again is not written.
        while len(data := _AS_JSON.dump_json(_newest(state, most), indent=1)) > _LARGEST_STATE and most > 1:
            most //= 2
        try:
            make_private_folder(self._folder)
            write_private(self._file, data)
        except OSError as error:
            raise SourceError(
                f"{self._file} cannot be written: {error.strerror};", advice="make room there."
            ) from error

    def current(self) -> str | None:
        """The revision of the current checkout, None where there is none."""
        try:
            return _revision_in(self._link.readlink().name)
        except OSError:
            return None

    def folder_of(self, revision: str) -> Path | None:
        """The newest folder with a revision."""
        folders = [path for path in self._all() if _revision_in(path.name) == revision]
        return max(folders, key=lambda path: len(path.name), default=None)

    def changed_files(self, repository: SourceRepository) -> tuple[str, ...]:
        """Files of the current checkout that differ from its revision.

        Raises:
            SourceError: They cannot be compared.
        """
        revision = self.current()
        if revision is None:
            return ()
        folder = self._link.resolve()
        return repository.changed_files(folder, _index_of(folder)) if folder.is_dir() else ()

    def take(self, repository: SourceRepository, revision: SourceRevision, at: datetime) -> tuple[str, ...]:
        """Write a revision, unless it is there unchanged, and let the link refer to it.

        Returns the submodules that are left out.

        Raises:
            SourceError: It cannot be written, or a link in it leads out of it.
        """
        try:
            return self._take(repository, revision, at)
        except OSError as error:
            raise SourceError(
                f"Revision {revision.brief} cannot be checked out into {self._revisions}: {error.strerror};",
                advice="is there room, and does the folder belong to this user?",
            ) from error

    def remove(self, repository: SourceRepository, revisions: Iterable[str]) -> None:
        """Remove checkouts that nothing needs."""
        for revision in revisions:
            for path in [folder for folder in self._all() if _revision_in(folder.name) == revision]:
                shutil.rmtree(path, ignore_errors=True)
                _index_of(path).unlink(missing_ok=True)
            repository.forget(revision)

    def revisions(self) -> tuple[str, ...]:
        """The revisions that are checked out."""
        return tuple(dict.fromkeys(_revision_in(path.name) for path in self._all()))

    def _take(self, repository: SourceRepository, revision: SourceRevision, at: datetime) -> tuple[str, ...]:
        make_private_folder(self._revisions)
        self._remove_partial()
        folder = self.folder_of(revision.revision)
        submodules: tuple[str, ...] = ()
        is_current = folder is not None and self._link.exists() and self._link.resolve() == folder.resolve()
        if folder is None or (not is_current and repository.changed_files(folder, _index_of(folder))):
            folder, submodules = self._write(repository, revision, folder)
        before, state = self.current(), self.state()
        left_at = state.left | ({before: at} if before is not None and before != revision.revision else {})
        left_at.pop(revision.revision, None)
        # The newest last: what is dropped of a long list is old.
        revisions = {name: entry for name, entry in state.known.items() if name != revision.revision}
        self.keep_state(replace(state, known=revisions | {revision.revision: revision}, left=left_at))
        new = self._folder / f"current{_PARTIAL}"
        new.unlink(missing_ok=True)
        new.symlink_to(Path("revisions", folder.name))
        new.replace(self._link)
        return submodules

    def _write(
        self, repository: SourceRepository, revision: SourceRevision, changed: Path | None
    ) -> tuple[Path, tuple[str, ...]]:
        name = revision.revision if changed is None else f"{changed.name}+"
        # Git may outlive a process that was killed for a moment, so no two writes have a folder in common.
        partial = self._revisions / f"{_PARTIAL}{name}-{secrets.token_hex(4)}"
        partial.mkdir(mode=0o755)
        partial.chmod(0o755)
        submodules = repository.write(revision.revision, partial, _index_of(partial))
        folder = self._revisions / name
        _index_of(partial).replace(_index_of(folder))
        partial.rename(folder)
        sync_folder(self._revisions)
        return folder, submodules

    def _remove_partial(self) -> None:
        for path in self._revisions.iterdir():
            if path.name.startswith(_PARTIAL):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def _all(self) -> list[Path]:
        if not self._revisions.is_dir():
            return []
        return [path for path in self._revisions.iterdir() if path.is_dir() and not path.name.startswith(".")]


_AS_JSON = TypeAdapter(SourceState)


def _revision_in(name: str) -> str:
    return name.rstrip("+")


def _index_of(folder: Path) -> Path:
    """Git's list of the files of a checkout, beside its folder, so that the checkout has nothing of git in it."""
    return folder.with_name(f"{folder.name}.index")


def _newest(state: SourceState, most: int) -> SourceState:
    """What is known of so many revisions."""
    revisions = dict(list(state.known.items())[-most:])
    failed = dict(list(state.failed.items())[-most:])
    return replace(
        state, known=revisions, failed=failed, left={name: at for name, at in state.left.items() if name in revisions}
    )
