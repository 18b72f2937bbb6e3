"""Encrypted files of variables, of age or SOPS: decrypted in memory, and never written anywhere."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.host.private_files import read_regular
from adapters.host.programs import ProgramRun, run_to_end
from models.failures import EnvironmentFileError
from models.settings import current_settings

_OF_SOPS = re.compile(r"^(?:sops_version|sops_mac)=|^\s{0,4}\"?sops\"?\s*:", re.MULTILINE)
_SOPS_SECONDS = 60
_MOST_BYTES = 16 * 2**20
# What the sops program needs to reach a key: its own settings, and those of the services that keep keys.
_FOR_SOPS = re.compile(
    r"PATH|HOME|LANG|TMPDIR|GNUPGHOME|XDG_CONFIG_HOME|SSL_CERT_(?:FILE|DIR)|(?i:https?_proxy|no_proxy)"
    r"|(?:SOPS|AWS|AZURE|GOOGLE|GCP|CLOUDSDK|VAULT|HUAWEICLOUD)_\w+"
)
# Docker, Compose and the loader of programs read these themselves.
_RESERVED = re.compile(
    r"PATH|HOME|LD_\w+|DOCKER_\w+|COMPOSE_\w+|BUILDKIT_\w+|BUILDX_\w+|OTEL_\w+|GO[A-Z]+|SSL_CERT_\w+|SSH_\w+"
    r"|(?i:https?_proxy|no_proxy|all_proxy|ftp_proxy)|(?:PREFECT|ROAS)_\w+"
)
_LONGEST = 130_000

_kept: dict[Path, tuple[tuple[object, ...], DecryptedFile]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecryptedFile:
    """The content of an encrypted file: text with lines NAME=value, or variables whose values mean themselves."""

    text: str | None = field(default=None, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


def is_encrypted(file: Path) -> bool:
    """Whether a file of variables is encrypted: by its name with age, by what it holds with SOPS.

    Raises:
        OSError: It cannot be read.
    """
    if file.suffix == ".age":
        return True
    return _OF_SOPS.search(read_regular(file).decode("utf-8", "replace")) is not None


def decrypt(file: Path) -> DecryptedFile:
    """Decrypt a file of variables. It is decrypted again only where it or the identity has changed.

    Raises:
        EnvironmentFileError: It cannot be decrypted; the message says what to try.
        OSError: It cannot be read.
    """
    identity = _identity_file()
    state = (identity, _state_of(file), None if identity is None else _state_of(identity))
    entry = _kept.get(file)
    if entry is not None and entry[0] == state:
        return entry[1]
    content = _decrypt_age(file, identity) if file.suffix == ".age" else _decrypt_sops(file, identity)
    _kept[file] = state, content
    return content


def refuse_reserved(file: Path, names: Mapping[str, str]) -> None:
    """Refuse variables that Compose cannot get in its own variables, which is how decrypted ones reach it.

    Raises:
        EnvironmentFileError: One is reserved, or too long.
    """
    for name, value in names.items():
        if _RESERVED.fullmatch(name):
            raise EnvironmentFileError(
                f"Encrypted file {file} sets {name}, which Docker or this program reads itself;",
                advice="put it into a file that is not encrypted, or give it another name.",
            )
        if "\0" in value or len(value.encode()) > _LONGEST:
            raise EnvironmentFileError(
                f"Variable {name} of encrypted file {file} holds a NUL character or more than {_LONGEST:,} bytes;",
                advice="give it as a secret with a file.",
            )


def _identity_file() -> Path | None:
    """Where the age identity is: ROAS_AGE_IDENTITY, else SOPS_AGE_KEY_FILE, else where SOPS looks for it."""
    setting = current_settings().age_identity
    if setting is not None:
        return setting
    if path := os.environ.get("SOPS_AGE_KEY_FILE"):
        return Path(path)
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111 - no home raises there
    by_default = Path(home, "sops", "age", "keys.txt")
    return by_default if by_default.is_file() else None


def _decrypt_age(file: Path, identity: Path | None) -> DecryptedFile:
    # Its import costs what an environment without an encrypted file need not wait for.
    import pyrage

    if identity is None:
        raise EnvironmentFileError(
            f"Encrypted file {file} needs an age identity, and none is set;",
            advice="set ROAS_AGE_IDENTITY to the file that age-keygen wrote.",
        )
    try:
        keys = _identities(identity)
    except (OSError, UnicodeDecodeError, pyrage.IdentityError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no age identity"
        raise EnvironmentFileError(
            f"The age identity {identity} cannot be used: {reason};",
            advice="set ROAS_AGE_IDENTITY to the file that age-keygen wrote.",
        ) from error
    try:
        return DecryptedFile(text=pyrage.decrypt(read_regular(file), keys).decode("utf-8"))
    except pyrage.DecryptError as error:
        raise EnvironmentFileError(
            f"Encrypted file {file} cannot be decrypted with the identity {identity}: {error};",
            advice="encrypt it for the recipient of that identity (age-keygen -y), or name another identity.",
        ) from error
    except UnicodeDecodeError as error:
        raise EnvironmentFileError(
            f"Encrypted file {file} holds no UTF-8 text;", advice="encrypt a text file with lines such as NAME=value."
        ) from error


def _identities(file: Path) -> list[Any]:
    import pyrage

    content = read_regular(file)
    if content.startswith(b"-----BEGIN"):
        return [pyrage.ssh.Identity.from_buffer(content)]
    lines = (line.strip() for line in content.decode("utf-8").splitlines())
    return [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]


def _decrypt_sops(file: Path, identity: Path | None) -> DecryptedFile:
    structured = file.suffix in (".yaml", ".yml", ".json")
    kind = ("json" if file.suffix == ".json" else "yaml") if structured else "dotenv"
    command = ["sops", "decrypt", "--input-type", kind, "--output-type", "json" if structured else "dotenv"]
    environ = {name: value for name, value in os.environ.items() if _FOR_SOPS.fullmatch(name)}
    if identity is not None:
        environ["SOPS_AGE_KEY_FILE"] = str(identity)
    try:
        done = run_to_end(
            ProgramRun(
                words=[*command, str(file)],
                variables={"PATH": os.defpath, **environ},
                limit_seconds=_SOPS_SECONDS,
                most_bytes=_MOST_BYTES,
            )
        )
    except FileNotFoundError as error:
        raise EnvironmentFileError(
            f"File {file} is encrypted with SOPS, and the sops program was not found;",
            advice="install sops (getsops.io), or encrypt the file with age as NAME.age.",
        ) from error
    if done.code is None:
        raise EnvironmentFileError(
            f"sops did not decrypt {file} within {_SOPS_SECONDS} s;",
            advice="does the service that keeps its key answer?",
        )
    if done.is_cut:
        raise EnvironmentFileError(
            f"Encrypted file {file} holds more than {_MOST_BYTES // 2**20} MiB;",
            advice="is it a file of variables? Give a large value as a secret with a file.",
        )
    if done.code != 0:
        lines = [line.strip() for line in done.err.splitlines() if line.strip()]
        message = lines[0][:200] if lines else f"exit code {done.code}"
        raise EnvironmentFileError(
            f"sops could not decrypt {file}: {message};",
            advice="has this user the key? For age set ROAS_AGE_IDENTITY, and try `sops decrypt` by hand.",
        )
    text = done.out
    return DecryptedFile(variables=_flat(file, text)) if structured else DecryptedFile(text=text)


def _flat(file: Path, text: str) -> dict[str, str]:
    content = json.loads(text)
    nested = [name for name, value in content.items() if isinstance(value, dict | list)]
    if nested:
        raise EnvironmentFileError(
            f"Encrypted file {file} has values within {nested[0]}, which cannot be a variable;",
            advice="write each variable as a field of the whole file: NAME: value.",
        )
    return {
        name: "" if value is None else json.dumps(value) if isinstance(value, bool) else str(value)
        for name, value in content.items()
    }


def _state_of(file: Path) -> tuple[int, int, int] | None:
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino
