"""Secret values of an environment: declared by it, or written in its Compose files and the files they name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from glob import escape
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv.main import DotEnv

from adapters.compose.sources import read_sources
from adapters.compose.variables import CONTROL_PLANE_SECRETS, decrypted_variables, secret_values, variables_of
from adapters.host.kept_files import copies_folder
from adapters.host.pending_rotation import pending_file, pending_rotation
from adapters.host.private_files import read_regular
from core.deployment.release import VALUES
from core.errors.declared_secrets import DeclaredSecrets, declared_secrets, fill_in_variables, secrets_of_file
from core.errors.redact import secrets_among
from models.environments import Environment
from models.failures import RoasError
from models.settings import current_settings

_LARGEST_FILE_BYTES = 64 * 1024

Signature = tuple[object, ...]
_kept: dict[Signature, tuple[Signature, tuple[Path, ...], frozenset[str]]] = {}


def concealed_values(environment: Environment) -> frozenset[str]:
    """Every value that must be redacted for an environment; read again when one of its files has changed.

    Files that cannot be read are left out: validation reports them, and no container gets their values.
    """
    key: Signature = (environment.name, environment.project, environment.compose_files, environment.env_files)
    entry = _kept.get(key)
    if entry is not None and entry[0] == _signature(entry[1], environment):
        return entry[2]
    files, values = _read(environment)
    _kept[key] = _signature(files, environment), files, values
    return values


def secrets_of_document(environment: Environment, document: Mapping[str, Any]) -> frozenset[str]:
    """Every value that must be redacted of a release's document that carries the values of its variables."""
    if (values := document.get(VALUES)) is None:
        return frozenset()
    declared = {values.get(secret.name, "") for secret in environment.secrets}
    secrets = {*declared, *declared_secrets(document, values).values, *secrets_among(values.items())}
    return frozenset(secrets - {""})


def _read(environment: Environment) -> tuple[tuple[Path, ...], frozenset[str]]:
    variables = variables_of(environment, os.environ)
    values = {*secret_values(environment).values(), *secrets_among(variables.items())}
    values |= {*decrypted_variables(environment, os.environ).values()}
    for name in CONTROL_PLANE_SECRETS:
        # user:password, as basic authentication has it
        values.update({variables.get(name, ""), variables.get(name, "").partition(":")[2]})
    sources = read_sources(environment.compose_files)
    declarations = [declared_secrets(document, variables) for document in sources.documents]
    folders = {file.parent.absolute() for file in (*environment.compose_files, *sources.files)}
    read = {*environment.compose_files, *environment.env_files, *sources.files}
    read |= {secret.file for secret in environment.secrets if secret.file is not None}
    read |= {file.parent / ".env" for file in environment.compose_files}
    data_dir = current_settings().data_dir
    copies = copies_folder(data_dir, environment.name)
    read |= {copies, pending_file(data_dir, environment.name)}
    with suppress(RoasError):
        if (rotation := pending_rotation(data_dir, environment.name)) is not None:
            values |= {rotation.old, rotation.new}
    for declaration in declarations:
        values |= declaration.values | _secrets_of_files(declaration, folders, variables, read, copies)
    return tuple(sorted(read)), frozenset(value for value in values if value)


def _secrets_of_files(
    declared: DeclaredSecrets, folders: Iterable[Path], variables: Mapping[str, str], read: set[Path], copies: Path
) -> set[str]:
    values: set[str] = set()
    for name, is_secret in declared.files.items():
        for text in _texts_and_copies(name, folders, copies, read):
            values.update(secrets_of_file(text, whole=is_secret))
    for name in declared.env_files:
        for text in _texts_and_copies(name, folders, copies, read):
            pairs = DotEnv(None, StringIO(text), interpolate=False).parse()
            values.update(secrets_among([(name, fill_in_variables(value or "", variables)) for name, value in pairs]))
    return values


def _texts_and_copies(name: str, folders: Iterable[Path], copies: Path, read: set[Path]) -> Iterator[str]:
    """The texts of a file, also as releases kept it: a container may have it from there."""
    folders_of_copies = [copy.parent for copy in copies.glob(f"*/{escape(Path(name).name)}")]
    yield from _texts(name, folders, read)
    yield from _texts(Path(name).name, folders_of_copies, read)


def _texts(name: str, folders: Iterable[Path], read: set[Path]) -> Iterator[str]:
    """The text of a file, searched in each folder that its relative path may start from."""
    for path in [Path(folder, name) for folder in folders]:
        read.add(path)
        with suppress(OSError, ValueError):
            yield read_regular(path, at_most=_LARGEST_FILE_BYTES).decode("utf-8", "replace")


def _signature(files: Iterable[Path], environment: Environment) -> Signature:
    # Only these of the process's own variables may change after its start.
    parts: list[object] = [*map(os.environ.get, CONTROL_PLANE_SECRETS), environment.secrets]
    if any(secret.command for secret in environment.secrets):
        parts.append(secret_values(environment))
    for file in files:
        try:
            state = file.stat()
        except (OSError, ValueError):
            parts.append(None)
        else:
            parts.append((state.st_mtime_ns, state.st_size, state.st_ino))
    return tuple(parts)
