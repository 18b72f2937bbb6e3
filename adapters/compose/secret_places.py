"""Where the value of a secret is written, and which services get it; a new value is put there."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv.parser import Binding, parse_stream

from adapters.compose.encrypted import decrypt
from adapters.compose.variables import is_encrypted_file
from adapters.git.places import current_checkout
from adapters.host.private_files import read_regular, sync_folder
from models.environments import Environment, Secret
from models.failures import BadInputError, EnvironmentFileError
from models.settings import current_settings

_BEGIN = re.compile(r"\s*(?:export\s+)?")


def secret_of(environment: Environment, name: str) -> Secret:
    """A secret of an environment by its name.

    Raises:
        BadInputError: There is none; the message names those there are.
    """
    if (secret := next((each for each in environment.secrets if each.name == name), None)) is not None:
        return secret
    known = ", ".join(each.name for each in environment.secrets) or "none"
    raise BadInputError(
        f"{name} is not a secret of {environment.name}, which has: {known};", advice="name one of them."
    )


def file_of_secret(environment: Environment, secret: Secret) -> Path:
    """The file that has the value of a secret, and that may be written.

    Raises:
        BadInputError: It comes from elsewhere, or the file is not ours to write; the message says what to do.
    """
    name, file = secret.name, secret.file
    if secret.command is not None:
        raise _not_ours(name, f"its value comes from the command {secret.command[0]}", "what that prints")
    if file is None and name in os.environ:
        raise _not_ours(name, "it comes from a variable of this process, which no file changes", "the variable")
    if file is None:
        beside = environment.compose_files[0].parent / ".env"
        files = [each for each in environment.env_files or (beside,) if each.is_file()]
        file = next((each for each in reversed(files) if _sets(each, name)), None)
        if file is not None and is_encrypted_file(file):
            raise _not_ours(name, f"this program writes no encrypted file, and {file} is one", "that file")
    if file is None:
        raise BadInputError(f"{name} has no value;", advice="set it in a file of env_files, and start the environment.")
    file = file.resolve()
    if environment.source is not None and file.is_relative_to(
        current_checkout(current_settings().data_dir, environment.name).resolve()
    ):
        raise _not_ours(name, f"{file} is part of a checkout, which only a sync changes", "the repository")
    if not os.access(file, os.R_OK | os.W_OK) or not os.access(file.parent, os.W_OK):
        raise _not_ours(name, f"this user may not write {file} and its folder", "their modes, or the password by hand")
    return file


def text_of_secret(file: Path, secret: Secret, value: str) -> tuple[str, str]:
    """What a file has of a secret now, and what it has to have instead for a value."""
    content = _read(file)
    if secret.file is not None:
        return content, value + content[len(content.rstrip("\r\n")) :]
    text = _bindings(content, secret.name)[-1].original.string
    begin, end = _BEGIN.match(text), "\n" if text.endswith("\n") else ""
    return text, f"{begin[0] if begin else ''}{secret.name}={value}{end}"


def put_secret(file: Path, name: str, text: str, instead_of: str, *, is_whole: bool) -> None:
    """Put a text in the place of another one; does nothing where it is there already. Mode and owner stay.

    Raises:
        EnvironmentFileError: The file has neither, so somebody has changed it meanwhile; or it cannot be written.
    """
    try:
        content = _read(file)
        parts = [content] if is_whole else [each.original.string for each in parse_stream(StringIO(content))]
        at = [n for n, part in enumerate(parts) if part in (text, instead_of)]
        if not at:
            raise EnvironmentFileError(
                f"{file} was changed meanwhile, so {name} is not written there;", advice="compare it with the server's."
            )
        if parts[at[-1]] == text:
            return
        parts[at[-1]] = text
        status = file.stat()
        handle, fresh = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as written:
                written.write("".join(parts))
                os.fchmod(handle, status.st_mode & 0o7777)
                if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(handle, status.st_uid, status.st_gid)
                written.flush()
                os.fsync(handle)
            Path(fresh).replace(file)
        except BaseException:
            Path(fresh).unlink(missing_ok=True)
            raise
        sync_folder(file.parent)
    except OSError as error:
        raise EnvironmentFileError(f"{file} cannot be written: {error.strerror};", advice="mend that.") from error


def receivers(document: Mapping[str, Any], secret: Secret, value: str) -> frozenset[str]:
    """The services of a rendered document that get a secret: its value in any field, or its file."""
    file, needle = str(secret.file), json.dumps(value)[1:-1]
    declared = {**_section(document, "secrets"), **_section(document, "configs")}
    sources = {n for n, body in declared.items() if body.get("file") == file or body.get("environment") == secret.name}

    def gets(body: Mapping[str, Any]) -> bool:
        mounts = [entry for kind in ("secrets", "configs", "volumes") for entry in body.get(kind) or ()]
        return needle in json.dumps(body) or any(entry.get("source") in {file, *sources} for entry in mounts)

    return frozenset(name for name, body in _section(document, "services").items() if gets(body))


def _section(document: Mapping[str, Any], name: str) -> dict[str, Mapping[str, Any]]:
    return dict(document.get(name) or {})


def _not_ours(name: str, why: str, change: str) -> BadInputError:
    return BadInputError(
        f"{name} is not rotated: {why};",
        advice=f"change {change}, change the password at its server, then `roas start`.",
    )


def _bindings(content: str, name: str) -> list[Binding]:
    return [binding for binding in parse_stream(StringIO(content)) if binding.key == name]


def _sets(file: Path, name: str) -> bool:
    if is_encrypted_file(file):
        content = decrypt(file)
        return name in content.variables or bool(_bindings(content.text or "", name))
    return bool(_bindings(_read(file), name))


def _read(file: Path) -> str:
    try:
        return read_regular(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise EnvironmentFileError(f"{file} holds no UTF-8 text;", advice="write plain text there.") from error
