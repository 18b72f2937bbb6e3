"""The git program, run with an environment of its own: no prompt, hook, submodule or configuration of the user."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from adapters.host.private_files import make_private_folder, write_private
from adapters.host.programs import ProgramRun, run_to_end
from core.common.exit_codes import MORE_MEMORY
from models.failures import SourceError
from models.sources import GitSource, is_local, is_ssh

_READ = timedelta(seconds=60)
_TRANSFER = timedelta(minutes=10)
_LEAST_BYTES = 4 * 2**20
_MOST_BYTES = 256 * 2**20
_BYTES_OF_A_MIB = 64 * 2**10
"""What git may list of a checkout's MiB: it has at most 256 files, with names of 200 bytes on average."""
_BLOCKS_OF_A_MIB = 2048
_PASSED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSH_AUTH_SOCK", "HOME")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")

_CONFIGURATION = """[core]
    hooksPath = /dev/null
    fsmonitor = false
    symlinks = true
    autocrlf = false
    attributesFile = /dev/null
    excludesFile = /dev/null
[init]
    defaultBranch = main
    templateDir =
[protocol]
    allow = never
[protocol "{protocol}"]
    allow = always
[submodule]
    recurse = false
[fetch]
    recurseSubmodules = false
    unpackLimit = 1
[pack]
    packSizeLimit = {max_mib}m
[transfer]
    credentialsInUrl = die
[http]
    followRedirects = false
    lowSpeedLimit = 100
    lowSpeedTime = 60
[gc]
    autoDetach = false
[maintenance]
    autoDetach = false
[credential]
    helper =
[safe]
    directory = {safe}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitResult:
    """What a command of git printed, and its exit code."""

    exit_code: int
    out: bytes
    err: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitProgram:
    """Git for one environment's source. Its configuration file is in `folder`; it holds no secret.

    `token` is the token of an https address. It reaches git through a pipe, never through an argument, a variable or
    a file.
    """

    folder: Path
    source: GitSource
    token: str | None = field(default=None, repr=False)

    def prepare(self) -> None:
        """Write git's configuration.

        Raises:
            OSError: The folder cannot be written.
        """
        repository = self.source.repository
        protocol = "ssh" if is_ssh(repository) else "file" if is_local(repository) else "https"
        make_private_folder(self.folder)
        safe = repository.removeprefix("file://") if protocol == "file" else ""
        text = _CONFIGURATION.format(protocol=protocol, safe=_quote(safe), max_mib=self.source.max_mib)
        if safe and not safe.rstrip("/").endswith(".git"):
            # Of a working tree git checks the repository inside of it.
            text += f"    directory = {_quote(safe.rstrip('/') + '/.git')}\n"
        write_private(self.folder / "gitconfig", text.encode())

    def run(
        self,
        *arguments: str,
        git_dir: Path | None = None,
        work_tree: Path | None = None,
        index: Path | None = None,
        stdin: bytes | None = None,
        transfers: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> GitResult:
        """Run git. With `transfers` it talks to the source's server, for up to 10 minutes, with the token.

        No file that it writes is larger than the source may be.

        Raises:
            SourceError: Git is not installed, or did not end in time.
        """
        options = [] if git_dir is None else [f"--git-dir={git_dir}"]
        options += [] if work_tree is None else [f"--work-tree={work_tree}"]
        environ = self._environ() | (dict(variables) if variables else {})
        if index is not None:
            environ["GIT_INDEX_FILE"] = str(index)
        deadline = _TRANSFER if transfers else _READ
        reader = _pipe_of(self.token) if transfers and self.token else None
        try:
            if reader is not None:
                options += ["-c", f"credential.helper={_helper(reader, self.source.token_user)}"]
            # What the shell sets holds for git's own children, too: those write what comes over the network. Without
            # the signal they say why they end. A lower limit that may not be raised goes on holding.
            limited = [
                "sh",
                "-c",
                'trap "" XFSZ; ulimit -f "$0" 2>/dev/null; exec "$@"',
                str(self.source.max_mib * _BLOCKS_OF_A_MIB),
            ]
            program = ProgramRun(
                words=[*limited, "git", *options, *arguments],
                variables=environ,
                limit_seconds=deadline.total_seconds(),
                most_bytes=min(_MOST_BYTES, max(_LEAST_BYTES, self.source.max_mib * _BYTES_OF_A_MIB)),
                stop_when_cut=True,
                given=stdin or b"",
                folder=Path("/"),
                passed=() if reader is None else (reader,),
                # Containers of other users read the files; the folder above is private.
                umask=0o022,
            )
            return _execute(program)
        finally:
            if reader is not None:
                os.close(reader)

    def _environ(self) -> dict[str, str]:
        environ = {name: os.environ[name] for name in (*_PASSED, *_PROXIES) if name in os.environ}
        environ.setdefault("PATH", os.defpath)
        for variable, ours in (("SSL_CERT_FILE", "GIT_SSL_CAINFO"), ("SSL_CERT_DIR", "GIT_SSL_CAPATH")):
            if os.environ.get(variable):
                environ[ours] = os.environ[variable]
        return environ | {
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(self.folder / "gitconfig"),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS": "",
            "SSH_ASKPASS_REQUIRE": "never",
            "GIT_SSH_COMMAND": self._ssh(),
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_ATTR_NOSYSTEM": "1",
            # Only the words of its messages distinguish them.
            "LC_ALL": "C.UTF-8",
        }

    def _ssh(self) -> str:
        options = ["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
        options += ["-o", "ConnectTimeout=15", "-o", "ClearAllForwardings=yes"]
        if self.source.ssh_key is not None:
            options += ["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-i", str(self.source.ssh_key)]
        if self.source.known_hosts is not None:
            options += ["-o", f"UserKnownHostsFile={self.source.known_hosts}", "-o", "GlobalKnownHostsFile=/dev/null"]
        return shlex.join(["ssh", *options])


def _helper(reader: int, user: str) -> str:
    """A credential helper of git that reads the password from a pipe."""
    says = f"printf 'username=%s\\npassword=' {shlex.quote(user)}; cat /dev/fd/{reader}"
    return f'!f() {{ test "$1" != get || {{ {says}; echo; }}; }}; f'


def _pipe_of(token: str) -> int:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        # A pipe takes 64 KiB before its reader begins; a token is far shorter.
        file.write(token.encode()[:4096])
    os.set_inheritable(reader, True)
    return reader


def _quote(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _execute(program: ProgramRun) -> GitResult:
    try:
        done = run_to_end(program)
    except FileNotFoundError as error:
        raise SourceError(
            "The git program was not found;", advice="install git: an environment with a source needs it."
        ) from error
    if done.is_cut:
        raise SourceError(
            f"git {_subcommand(program.words)} printed more than {program.most_bytes // 2**20} MiB;",
            advice="the repository has too many files for its max_mib, or is damaged.",
        )
    if done.code is None:
        raise SourceError(
            f"git {_subcommand(program.words)} did not end within {program.limit_seconds:g} s;",
            advice="is the repository very large, or its server slow?",
        )
    if done.code < 0:
        advice = MORE_MEMORY if done.memory_ran_out else "try again."
        raise SourceError(f"git {_subcommand(program.words)} {done.ending};", advice=advice)
    return GitResult(exit_code=done.code, out=done.output, err=done.err)


def _subcommand(command: Sequence[str]) -> str:
    return next(
        (word for word in command[command.index("git") + 1 :] if not word.startswith("-") and "=" not in word), ""
    )
