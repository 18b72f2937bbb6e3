"""The local copy of a source's repository: fetch a branch or tag, read commits, check signatures, write checkouts."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from adapters.git.failures import fetch_failure, git_failure
from adapters.git.program import GitProgram, GitResult
from adapters.host.private_files import make_private_folder
from adapters.host.programs import ProgramRun, run_to_end
from core.deployment.source import leaving_links, newest_tag
from models.failures import SourceError
from models.sources import GitSource, SourceRevision

_FETCHED = "refs/roas/fetched"
_KEYS_SAID_BYTES = 64 * 1024
KEPT = "refs/roas/kept"
_OBJECT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_LONGEST_SUBJECT = 200
_MIB = 2**20
_BLOCK = 4096
_LINK, _SUBMODULE = "120000", "160000"


class SourceRepository:
    """A bare repository in a private folder. Every call blocks; one process at a time may use it."""

    def __init__(self, environment: str, source: GitSource, folder: Path, secrets: Mapping[str, str]) -> None:
        """`secrets` are the environment's, by name.

        Raises:
            SourceError: The secret with the token cannot be had.
        """
        self._environment, self._source = environment, source
        self._git_dir = folder / "repository.git"
        token = None
        if source.token_secret is not None:
            token = secrets.get(source.token_secret)
            if not token:
                raise SourceError(
                    f"Secret {source.token_secret}, the token for the repository of {environment}, cannot be read;",
                    advice="set its variable, or correct its file in secrets.",
                )
        self._program = GitProgram(folder=folder, source=source, token=token)
        self._folder = folder

    def fetch(self) -> SourceRevision:
        """Fetch the branch or tag, and return the commit that it names; where asked, its signature is good.

        Raises:
            SourceUnreachableError: The server did not answer.
            SourceError: The branch or tag cannot be had, or is not signed as it has to be.
        """
        self._prepare()
        source, name = self._source, self._wanted_tag() if self._source.tag is not None else None
        ref = f"refs/tags/{name}" if name is not None else f"refs/heads/{source.branch or 'main'}"
        options = ("--force", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--quiet")
        result = self._program.run(
            "fetch", *options, "--", source.repository, f"+{ref}:{_FETCHED}", git_dir=self._git_dir, transfers=True
        )
        if result.exit_code != 0:
            raise fetch_failure(self._environment, source, result)
        revision = self._text("rev-parse", "--verify", "--end-of-options", f"{_FETCHED}^{{commit}}").strip()
        subject = self._text("log", "-1", "--format=%s", "--no-show-signature", revision).strip()
        source_revision = SourceRevision(
            revision=revision, ref=name or source.branch or "main", subject=_plain(subject)[:_LONGEST_SUBJECT]
        )
        if source.verify == "signed":
            self._check_signature(source_revision)
        return source_revision

    def follows(self, target: str, running: str) -> bool:
        """Whether a fetched commit may take the place of the running one by itself; False where that is not known here.

        On a branch the running one is in its history. A tag may name a commit of another branch, but none that the
        running one has in its history: that one is older, whatever version the tag claims.
        """
        if target == running:
            return True
        earlier, later = (target, running) if self._source.tag is not None else (running, target)
        code = self._run("merge-base", "--is-ancestor", earlier, later).exit_code
        return code == (1 if self._source.tag is not None else 0)

    def has(self, revision: str) -> bool:
        """Whether a commit is here."""
        return (
            bool(_OBJECT.fullmatch(revision)) and self._run("cat-file", "-e", f"{revision}^{{commit}}").exit_code == 0
        )

    def write(self, revision: str, folder: Path, index: Path) -> tuple[str, ...]:
        """Write all files of a commit into an empty folder; returns the submodules that are left out.

        Raises:
            SourceError: It is too large, a symbolic link leads out of it, or it cannot be written.
        """
        self._check_size(revision, shutil.disk_usage(folder).free)
        links, submodules = self._special_entries(revision)
        if leaving := leaving_links(links):
            raise SourceError(
                f"Revision {revision[:12]} of {self._environment} has symbolic links that lead out of it: "
                f"{', '.join(leaving[:5])};",
                advice="replace them by files, or by links inside of the repository.",
            )
        for command in (("read-tree", revision), ("checkout-index", "--all", "--force", "--quiet", "-u")):
            result = self._program.run(*command, git_dir=self._git_dir, work_tree=folder, index=index)
            if result.exit_code != 0:
                raise git_failure(f"checkout of revision {revision[:12]} of {self._environment}", result)
        self._run("update-ref", f"{KEPT}/{revision}", revision)
        return submodules

    def changed_files(self, folder: Path, index: Path) -> tuple[str, ...]:
        """Return the files of a checkout that differ from its commit, and new ones that git does not ignore.

        Raises:
            SourceError: They cannot be compared.
        """
        self._program.run("update-index", "-q", "--refresh", git_dir=self._git_dir, work_tree=folder, index=index)
        paths: set[str] = set()
        for command in (("diff-files", "--name-only", "-z"), ("ls-files", "--others", "--exclude-standard", "-z")):
            result = self._program.run(*command, git_dir=self._git_dir, work_tree=folder, index=index)
            if result.exit_code != 0:
                raise git_failure(f"comparison of the checkout of {self._environment}", result)
            paths.update(filter(None, result.out.decode("utf-8", "replace").split("\0")))
        return tuple(sorted(paths))

    def paths(self, revision: str) -> frozenset[str]:
        """Return the files and folders of a commit, with . for its root.

        Raises:
            SourceError: The commit cannot be read.
        """
        listed = self._text("ls-tree", "-r", "-t", "-z", "--name-only", revision)
        return frozenset({".", *filter(None, listed.split("\0"))})

    def forget(self, revision: str) -> None:
        """Let git remove a commit that nothing else refers to."""
        self._run("update-ref", "-d", f"{KEPT}/{revision}")

    def _prepare(self) -> None:
        try:
            make_private_folder(self._folder)
            self._program.prepare()
            if not (self._git_dir / "HEAD").exists():
                # A creation that was cut off is done again.
                result = self._program.run(
                    "init", "--bare", "--quiet", "--object-format=sha1", "--", str(self._git_dir)
                )
                if result.exit_code != 0:
                    raise git_failure(f"preparation of {self._environment}", result)
            for path in (*self._git_dir.rglob("*.lock"), *self._git_dir.glob("objects/**/tmp_*")):
                # We are the only process here, so it is of one that was killed, or failed.
                path.unlink(missing_ok=True)
        except OSError as error:
            raise SourceError(
                f"The checkout folder {self._folder} cannot be written: {error.strerror};",
                advice="set ROAS_DATA_DIR to a folder of yours.",
            ) from error

    def _wanted_tag(self) -> str:
        pattern = self._source.tag or ""
        result = self._program.run(
            "ls-remote", "--tags", "--refs", "--quiet", "--", self._source.repository, transfers=True
        )
        if result.exit_code != 0:
            raise fetch_failure(self._environment, self._source, result)
        lines = result.out.decode("utf-8", "replace").splitlines()
        names = [line.partition("\t")[2].removeprefix("refs/tags/") for line in lines]
        tag = newest_tag(names, pattern)
        if tag is None:
            raise SourceError(
                f"No tag of {self._source.repository} matches {pattern} and has a version;",
                advice=f"there are {len(names)} tags. Correct source.tag, or push a tag such as v1.0.0.",
            )
        return tag

    def _check_signature(self, revision: SourceRevision) -> None:
        source = self._source
        tag_is_signed = self._source.tag is not None and self._text("cat-file", "-t", _FETCHED).strip() == "tag"
        what = ("verify-tag", _FETCHED) if tag_is_signed else ("verify-commit", revision.revision)
        signers = source.allowed_signers or Path("/dev/null")
        if source.allowed_signers is not None and not source.allowed_signers.is_file():
            raise SourceError(
                f"The file of allowed signers {signers} of {self._environment} cannot be read;",
                advice="correct source.allowed_signers.",
            )
        # In the folder for temporary files: the sockets of gpg allow no long path.
        with tempfile.TemporaryDirectory(prefix="roas-gpg-") as home:
            variables = {"GNUPGHOME": home, "HOME": home}
            if source.gpg_keys is not None:
                self._import_keys(source.gpg_keys, variables)
            options = ("-c", f"gpg.ssh.allowedSignersFile={signers}", "-c", "gpg.minTrustLevel=undefined")
            result = self._program.run(*options, *what, git_dir=self._git_dir, variables=variables)
        if result.exit_code != 0:
            kind = f"tag {revision.ref}" if tag_is_signed else f"commit {revision.brief}"
            raise SourceError(
                f"The {kind} of {self._environment} is not signed by an allowed key;",
                advice="sign it (git commit -S, git tag -s) with a key of source.allowed_signers or source.gpg_keys.",
            )
        # Who may push can put an earlier signed tag under a new name; the name that was signed is inside of it.
        signed_name = self._text("cat-file", "tag", _FETCHED).split("\n")[2] if tag_is_signed else f"tag {revision.ref}"
        if signed_name != f"tag {revision.ref}":
            raise SourceError(
                f"The tag {revision.ref} of {self._environment} was signed under another name, "
                f"{_plain(signed_name.removeprefix('tag '))}: it is an earlier release;",
                advice="ask who pushed it, delete it in the repository, and sign a tag of this name (git tag -s).",
            )

    def _import_keys(self, keys: Path, variables: Mapping[str, str]) -> None:
        program = shutil.which("gpg")
        if program is None:
            raise SourceError("The gpg program was not found;", advice="install gnupg: source.gpg_keys needs it.")
        command = [program, "--batch", "--no-tty", "--quiet", "--import", "--", str(keys)]
        environ = {"PATH": "/usr/bin:/bin:/usr/local/bin", **variables}
        done = run_to_end(ProgramRun(words=command, variables=environ, limit_seconds=60, most_bytes=_KEYS_SAID_BYTES))
        if done.code != 0:
            raise SourceError(
                f"The GPG keys {keys} of {self._environment} cannot be read;",
                advice="give a file as `gpg --export --armor` writes it.",
            )

    def _check_size(self, revision: str, free: int) -> None:
        size = sum(_on_disk(size) for *_, size in self._entries(revision))
        what, mib = (
            f"Revision {revision[:12]} of {self._environment} has {_mib(size):,} MiB of files",
            self._source.max_mib,
        )
        if size > mib * _MIB:
            raise SourceError(
                f"{what}, more than the {mib:,} MiB that a checkout may have;",
                advice="raise source.max_mib, or take large files out of the repository.",
            )
        if size > free:
            raise SourceError(
                f"{what}, and the data folder has {free // _MIB:,} MiB left;",
                advice="make room there, or move it to a larger disk (ROAS_DATA_DIR).",
            )

    def _special_entries(self, revision: str) -> tuple[dict[str, str], tuple[str, ...]]:
        links, submodules = {}, []
        for mode, object_id, path, _ in self._entries(revision):
            if mode == _SUBMODULE:
                submodules.append(path)
            elif mode == _LINK:
                links[path] = object_id
        targets = self._blobs({*links.values()})
        return {path: targets[object_id] for path, object_id in links.items()}, tuple(submodules)

    def _blobs(self, object_ids: Iterable[str]) -> dict[str, str]:
        """The contents of small files by their objects, read by one process."""
        request = "".join(f"{object_id}\n" for object_id in object_ids).encode()
        result = self._program.run("cat-file", "--batch", git_dir=self._git_dir, stdin=request)
        if result.exit_code != 0:
            raise git_failure(f"cat-file of {self._environment}", result)
        contents, at = {}, 0
        while at < len(result.out):
            end = result.out.index(b"\n", at)
            object_id, _, size = result.out[at:end].decode().rpartition(" ")
            if not size.isdigit():
                raise git_failure(f"cat-file of {self._environment}", result)
            at = end + 1 + int(size) + 1
            contents[object_id.partition(" ")[0]] = result.out[end + 1 : at - 1].decode("utf-8", "surrogateescape")
        return contents

    def _entries(self, revision: str) -> Iterator[tuple[str, str, str, int]]:
        """Mode, object, path and bytes of all files of a commit; a submodule has none."""
        for line in self._text("ls-tree", "-r", "-l", "-z", revision).split("\0"):
            if line:
                facts, _, path = line.partition("\t")
                mode, _, object_id, size = facts.split()
                yield mode, object_id, path, int(size) if size.isdigit() else 0

    def _run(self, *arguments: str) -> GitResult:
        return self._program.run(*arguments, git_dir=self._git_dir)

    def _text(self, *arguments: str) -> str:
        result = self._run(*arguments)
        if result.exit_code != 0:
            raise git_failure(f"{arguments[0]} of {self._environment}", result)
        return result.out.decode("utf-8", "surrogateescape")


def _on_disk(size: int) -> int:
    """What a file takes: whole blocks, and at least one, so that many empty ones count."""
    return max(1, -(-size // _BLOCK)) * _BLOCK


def _mib(size: int) -> int:
    return -(-size // _MIB)


def _plain(text: str) -> str:
    return "".join(character for character in text.encode("utf-8", "replace").decode() if character.isprintable())
