"""A repository of restic: encrypted, deduplicated snapshots of streams.

The repository's address and password reach restic as variables, never as arguments.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters.host.private_files import keep_private, make_private_folder
from adapters.snapshots.streams import Command, Ended, Limit, StreamFailedError, run
from core.storage.snapshots import file_name
from models.failures import BadInputError, DamagedRepositoryError, SnapshotError
from models.snapshots import RepositoryEntry

_OURS = "roas"
_MANIFEST, _MANIFEST_FILE = "manifest", "roas-manifest.json"
_NO_REPOSITORY, _LOCKED, _WRONG_PASSWORD = 10, 11, 12
_DAMAGED = re.compile(
    r"(?i)ciphertext verification failed|invalid data returned|is damaged|repository contains errors|hash mismatch"
    r"|not found in (?:the )?(?:repository|index)|unexpected EOF|<data/[^\n]*(?:no such file|does not exist|not found)"
)
_OLDEST = (0, 17)
"""Before it, exit codes tell neither a repository that is not there nor a wrong password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What restic saved: its id of it, its bytes and files, and by how many bytes the repository grew."""

    restic_id: str
    bytes: int
    files: int
    added_bytes: int


class ResticRepository:
    """A repository, and in it the snapshots of one environment; those of each installation have a name of their own."""

    def __init__(
        self, address: str, password: str, environment: str, installation: str, variables: Mapping[str, str]
    ) -> None:
        """`variables` are what restic needs beside address and password, such as a key of S3."""
        self.address = address
        self._environment = environment
        self.installation = installation
        # As JSON it would report its progress 60 times a second.
        quiet = {"RESTIC_PROGRESS_FPS": "0.1"}
        self._variables = {**quiet, **variables, "RESTIC_REPOSITORY": address, "RESTIC_PASSWORD": password}
        # A folder needs none, and a cache of its own would lie in the user's home.
        self._options = ("--no-cache",) if address.startswith("/") else ()

    def prepare(self, limit: Limit) -> None:
        """Make the repository where there is none, and remove locks that dead processes left.

        Raises:
            SnapshotError: restic is not installed, the password is wrong, or the repository cannot be reached.
        """
        if self.address.startswith("/"):
            try:
                make_private_folder(Path(self.address))
            except OSError as error:
                raise BadInputError(
                    f"Folder {self.address} for snapshots cannot be made: {error.strerror};",
                    advice="give data.repository a folder that this user may write to.",
                ) from error
        # Each command derives the key from the password first, which is made to take long.
        ended = run(self._command("remove stale locks of the repository", "unlock"), limit)
        if ended.exit_code == _NO_REPOSITORY:
            self._run(limit, "make the repository", "init")
        elif ended.exit_code != 0:
            raise self._failure("read", ended)

    def receiver(self, part: str, snapshot_id: str) -> Command:
        """The program that saves its input as a part of a snapshot; `saved` reads what it prints."""
        return self._backup(part, snapshot_id, "--stdin", "--stdin-filename", file_name(part))

    def folder_receiver(self, part: str, snapshot_id: str, folder: Path) -> Command:
        """The program that saves the files of a folder as a part of a snapshot; `saved` reads what it prints.

        It reads only those that changed since the folder was saved last.
        """
        return self._backup(part, snapshot_id, "--no-scan", "--one-file-system", "--", str(folder))

    def _backup(self, part: str, snapshot_id: str, *words: str, tags: tuple[str, ...] = ()) -> Command:
        # Earlier versions forget what is under the environment's plain name and unknown to them.
        host = f"{self._environment}@{self.installation}"
        common = ("backup", "--json", "--host", host, "--tag", ",".join((_OURS, snapshot_id, *tags)))
        return self._command(f"saving {part} by restic", *common, *words)

    def parse_saved(self, output: str) -> Saved:
        """What the receiver saved.

        Raises:
            SnapshotError: It did not say.
        """
        for line in reversed(output.splitlines()):
            document = _document(line)
            if isinstance(document, dict) and document.get("message_type") == "summary" and document.get("snapshot_id"):
                added = document.get("data_added_packed") or document.get("data_added") or 0
                return Saved(
                    restic_id=str(document["snapshot_id"]),
                    bytes=int(document.get("total_bytes_processed") or 0),
                    files=int(document.get("total_files_processed") or 0),
                    added_bytes=int(added),
                )
        raise SnapshotError("restic did not say what it saved;", advice="is it of version 0.17 or later?")

    def source(self, part: str, restic_id: str) -> Command:
        """The program that prints a saved part; restic checks the hash of all that it prints."""
        return self._command(f"reading {part} from the repository", "dump", restic_id, file_name(part))

    def folder_source(self, part: str, restic_id: str, folder: str) -> Command:
        """The program that prints a saved folder as a tar archive; restic checks the hash of all that it prints."""
        what = f"reading {part} from the repository"
        return self._command(what, "dump", "--archive", "tar", f"{restic_id}:{folder}", "/")

    def folder_restorer(self, part: str, restic_id: str, folder: str, target: Path) -> Command:
        """The program that puts the files of a saved folder into an empty one, with owners and modes."""
        what = f"putting {part} back by restic"
        return self._command(what, "restore", "--quiet", f"{restic_id}:{folder}", "--target", str(target))

    def save_manifest(self, snapshot_id: str, text: str, limit: Limit) -> None:
        """Save what describes a snapshot all of whose parts are saved: it is whole for every installation then.

        Raises:
            SnapshotError: It could not be saved.
        """
        words = ("--stdin", "--stdin-filename", _MANIFEST_FILE)
        ended = run(self._backup("the manifest", snapshot_id, *words, tags=(_MANIFEST,)), limit, text.encode())
        if ended.exit_code != 0:
            raise self._failure("save the manifest in", ended)

    def manifest(self, restic_id: str, limit: Limit) -> str:
        """The text of a manifest.

        Raises:
            SnapshotError: It cannot be read.
        """
        return self._run(limit, "read the manifest in", "dump", restic_id, _MANIFEST_FILE).output

    def entries(self, limit: Limit) -> list[RepositoryEntry]:
        """All of restic's snapshots of this environment, of whichever installation.

        Raises:
            SnapshotError: The repository cannot be read.
        """
        snapshots = _document(self._run(limit, "list the repository", "snapshots", "--json", "--tag", _OURS).output)
        if not isinstance(snapshots, list):
            raise SnapshotError(f"restic did not list {self.address};", advice="`restic snapshots` shows what it has.")
        entries = []
        for snapshot in snapshots:
            environment, _, installation = str(snapshot.get("hostname", "")).partition("@")
            if environment != self._environment:
                continue
            tags, summary = snapshot.get("tags") or (), snapshot.get("summary") or {}
            entry = RepositoryEntry(
                restic_id=str(snapshot["id"]),
                snapshot_id=next((tag for tag in tags if tag not in (_OURS, _MANIFEST)), ""),
                installation=installation,
                saved_at=datetime.fromisoformat(snapshot["time"]).astimezone(UTC),
                path=str(next(iter(snapshot.get("paths") or ()), "")),
                bytes=int(summary.get("total_bytes_processed") or 0),
                files=int(summary.get("total_files_processed") or 0),
                is_manifest=_MANIFEST in tags,
            )
            entries.append(entry)
        return entries

    def forget(self, restic_ids: Iterable[str], limit: Limit) -> None:
        """Remove restic's snapshots and what only they need.

        Raises:
            SnapshotError: The repository cannot be written to.
        """
        if ids := sorted(restic_ids):
            self._run(limit, "remove stale locks of the repository", "unlock")
            words = ("forget", "--quiet", "--prune", "--retry-lock", "1m")
            self._run(limit, "clean up the repository", *words, *ids)

    def check(self, limit: Limit) -> None:
        """Let restic check that the repository is whole.

        Raises:
            SnapshotError: It is not.
        """
        self._run(limit, "check the repository", "check", "--quiet")

    def _run(self, limit: Limit, doing: str, *words: str) -> Ended:
        ended = run(self._command(doing, *words), limit)
        if ended.exit_code != 0:
            raise self._failure(doing, ended)
        return ended

    def _command(self, what: str, *words: str) -> Command:
        return Command(what=what, arguments=("restic", *self._options, *words), variables=self._variables)

    def _failure(self, doing: str, ended: Ended) -> SnapshotError:
        return repository_failure(self.address, doing, ended)


def restic_problem() -> str:
    """Why the restic of this machine cannot be used, as a clause; empty where it can."""
    try:
        output = run(
            Command(what="asking restic", arguments=("restic", "version"), variables=os.environ), Limit(10)
        ).output
    except SnapshotError:
        return "restic is not installed"
    version = re.match(r"restic (\d+)\.(\d+)", output)
    if version is None or (int(version[1]), int(version[2])) < _OLDEST:
        return f"restic 0.17 or later is needed, and this is {version[0] if version else 'of an unknown version'}"
    return ""


def repository_failure(address: str, doing: str, ended: Ended) -> SnapshotError:
    """What restic's exit code and last words mean."""
    if ended.exit_code == _WRONG_PASSWORD:
        return SnapshotError(
            f"The password does not open the repository of snapshots {address};",
            advice="data.password_secret must be the one it was made with.",
        )
    if ended.exit_code == _NO_REPOSITORY:
        return SnapshotError(
            f"There is no repository of snapshots at {address};",
            advice="`roas snapshot create` makes one; one on another disk must be mounted.",
        )
    if ended.exit_code == _LOCKED:
        return SnapshotError(
            f"Another process uses the repository of snapshots {address};",
            advice="wait for it to end; `restic unlock` removes the lock of one on a machine that is gone.",
        )
    if ended.was_killed and (ended.memory_ran_out or not ended.error.strip()):
        return SnapshotError(f"restic could not {doing} {address}: it {ended.ending}.", advice=ended.advice)
    message = f"restic could not {doing} {address}: {last_words(ended.error)}."
    if _DAMAGED.search(ended.error):
        advice = f"The repository is damaged: `restic --repo {address} check --read-data` says where."
        return DamagedRepositoryError(message, advice=advice)
    return SnapshotError(message, advice=_advice(ended.error))


def readable(error: StreamFailedError, address: str) -> SnapshotError:
    """An error of a stream, with restic's own words for its failures."""
    if error.is_by_broker:
        return SnapshotError(
            f"{error.command.what} failed: the engine broker allows no container for that;",
            advice="use roas where the engine's own socket is.",
        )
    if error.command.arguments[0] != "restic":
        return error
    return repository_failure(address, f"finish {error.command.what} in", error.ended)


def last_words(text: str) -> str:
    """The last message in what restic printed."""
    for line in reversed(text.splitlines()):
        document = _document(line)
        if isinstance(document, dict):
            message = document.get("message") or (document.get("error") or {}).get("message")
            if message:
                return str(message).removeprefix("Fatal: ").splitlines()[0].rstrip(".")
        elif line.strip():
            return line.strip().removeprefix("Fatal: ").rstrip(".")
    return "it gave no reason"


def _advice(text: str) -> str:
    if "no space left" in text.lower():
        return "Its disk is full: free some space, or let data.keep keep fewer snapshots."
    return "Can this user read and write it, and is it reachable?"


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def generated_password(folder: Path, environment: str) -> str:
    """The password of an environment's repository, generated at the first use and kept where only its owner reads it.

    Raises:
        SnapshotError: It cannot be written or read.
    """
    what = f"password of the snapshots of {environment}"
    return _keep_in(folder, f"{environment}.password", secrets.token_urlsafe(32), what)


def installation_id(folder: Path) -> str:
    """The random id of this installation, made at the first use: it tells whose a snapshot in a shared repository is.

    Raises:
        SnapshotError: It cannot be written or read.
    """
    return _keep_in(folder, ".installation", secrets.token_hex(8), "id of this installation")


def _keep_in(folder: Path, name: str, fresh: str, what: str) -> str:
    try:
        make_private_folder(folder)
        return keep_private(folder / name, fresh.encode()).decode().strip()
    except (OSError, ValueError) as error:
        raise SnapshotError(
            f"The {what} cannot be kept in {folder}: {error};",
            advice="this user must be able to write to the data folder.",
        ) from error
