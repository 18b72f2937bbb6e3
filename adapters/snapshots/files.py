"""Save the files of a volume, and put them back: by restic in its folder, or as an archive that the engine copies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from adapters.snapshots.changes import changed_files, changed_files_in_volume
from adapters.snapshots.containers import ASIDE, FOLDER, PREPARE_FILES, SWITCH_FILES, EngineCommands
from adapters.snapshots.own_pauses import OwnPauses
from adapters.snapshots.places import PartPlace
from adapters.snapshots.restic import ResticRepository, Saved, readable
from adapters.snapshots.streams import Command, Limit, StreamFailedError, inspected_stream, stream
from adapters.snapshots.streams import read as read_stream
from core.storage.tar_check import TarCheck
from models.failures import SnapshotError
from models.snapshots import FilesData, SnapshotPart

_TRIES = 3
_FOLDER = "folder"
"""Fact of files that restic read from a folder itself: its path. Without it they are one tar archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesClient:
    """Moves the files of volumes between one engine and a repository, within a limit of time."""

    containers: EngineCommands
    repository: ResticRepository
    limit: Limit
    pauses: OwnPauses

    def save(self, data: FilesData, place: PartPlace, snapshot_id: str) -> tuple[Saved, dict[str, object]]:
        """Save the files of a volume; what was saved, and the facts that a restore needs.

        Raises:
            SnapshotError: They could not be saved; nothing of them counts.
        """
        if (folder := self.containers.folder_of(place.source)) is not None:
            saver = self.repository.folder_receiver(data.name, snapshot_id, folder)
            with self._pause(place.pause, snapshot_id):
                saved = self.repository.parse_saved(self.containers.answer(saver))
            return saved, {"files": saved.files, "file_bytes": saved.bytes, _FOLDER: str(folder)}
        what = f"reading {data.name}"
        try:
            with self.containers.helper(place.image, place.source, read_only=True) as helper:
                return self._save_archive(self.containers.copy_out(helper, FOLDER, what), data, place, snapshot_id)
        except StreamFailedError as error:
            if not error.is_by_broker:
                raise
            if not place.mounted_at or place.pause:
                raise SnapshotError(
                    f"{data.name} cannot be saved behind the engine broker, which allows no container for that;",
                    advice="let a service that mounts it run, without pause, with tar in its image.",
                ) from error
        # The broker allows programs inside the application's own containers.
        source = self.containers.archive(place.container, place.mounted_at, what)
        return self._save_archive(source, data, place, snapshot_id)

    def _save_archive(
        self, source: Command, data: FilesData, place: PartPlace, snapshot_id: str
    ) -> tuple[Saved, dict[str, object]]:
        receiver = self.repository.receiver(data.name, snapshot_id)
        with self._pause(place.pause, snapshot_id):
            for number in range(_TRIES):
                check = TarCheck()
                try:
                    output = inspected_stream(source, receiver, self.limit, check)
                    break
                except StreamFailedError:
                    raise
                except SnapshotError:
                    if number + 1 == _TRIES or self.limit.end_reason():
                        raise
        return self.repository.parse_saved(output), {"files": check.files, "file_bytes": check.bytes}

    def load(self, data: FilesData, part: SnapshotPart, place: PartPlace) -> None:
        """Put files in the place of those that are there, once they are complete.

        Raises:
            SnapshotError: They could not be put back; those that are there stay.
        """
        what = f"putting {data.name} back"
        saved_folder, folder = part.facts.get(_FOLDER), self.containers.folder_of(place.source)
        if saved_folder and folder is not None:
            # Beside the volume's files: no container can reach them there.
            aside = folder.with_name(".roas-restore")
            self.containers.answer(_on_this_machine(PREPARE_FILES, what, aside))
            restorer = self.repository.folder_restorer(data.name, part.restic_id, saved_folder, aside / "new")
            self.containers.answer(restorer)
            self.containers.answer(_on_this_machine(SWITCH_FILES, what, folder, aside))
            return
        script = partial(self.containers.script, place.image, what=what, volume=place.source)
        self.containers.answer(script(PREPARE_FILES, (ASIDE,)))
        with self.containers.helper(place.image, place.source, read_only=False) as helper:
            receiver = self.containers.copy_in(helper, f"{ASIDE}/new", what)
            stream(self._source(part), receiver, self.limit)
        self.containers.answer(script(SWITCH_FILES, (FOLDER, ASIDE)))

    def _source(self, part: SnapshotPart) -> Command:
        """The program that prints the files of a part as a tar archive, however they were saved."""
        if folder := part.facts.get(_FOLDER):
            return self.repository.folder_source(part.name, part.restic_id, folder)
        return self.repository.source(part.name, part.restic_id)

    def read(self, part: SnapshotPart) -> str:
        """Read files from the repository, which checks the hash of each piece, and count them.

        Raises:
            SnapshotError: They cannot be read, or are others than were saved.
        """
        check = TarCheck()
        try:
            read_stream(self._source(part), self.limit, check.feed)
        except StreamFailedError as error:
            raise readable(error, self.repository.address) from error
        check.finish()
        # One that was adopted without a manifest has no figures.
        counted = (part.facts.get("files", check.files), part.facts.get("file_bytes", check.bytes))
        if (check.files, check.bytes) != counted:
            raise SnapshotError(
                f"{part.name} has {check.files} files of {check.bytes} bytes in the repository, "
                f"{part.facts.get('files')} of {part.facts.get('file_bytes')} were saved."
            )
        return f"{check.files:,} files, {check.bytes:,} bytes"

    def changes(self, part: SnapshotPart, place: PartPlace, since: datetime) -> str:
        """What was written since a moment, for a person.

        Raises:
            SnapshotError: It cannot be counted.
            OSError: The folder cannot be read.
        """
        files = part.facts.get("files")
        if (folder := self.containers.folder_of(place.source)) is not None:
            return changed_files(folder, since.timestamp(), files)
        return changed_files_in_volume(self.containers, place.image, place.source, since.timestamp(), files)

    @contextmanager
    def _pause(self, containers: tuple[str, ...], snapshot_id: str) -> Iterator[None]:
        if not containers:
            yield
            return
        with self.pauses.record_pauses(snapshot_id, self.containers.start_times(containers)):
            try:
                self.containers.pause(containers)
                yield
            finally:
                self.containers.unpause(containers)


def _on_this_machine(script: str, what: str, *folders: Path) -> Command:
    # Files that are half switched are worse than a program that is left to end.
    return Command(what=what, arguments=("sh", "-c", script, "sh", *map(str, folders)), outlives=True)
