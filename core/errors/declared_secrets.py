"""Find the secret values in a Compose file, and the files it names that contain secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.errors.redact import secrets_among, secrets_in
from core.errors.secret_shapes import random_parts

_VARIABLE = re.compile(r"\$\$|\$(?:(\w+)|\{(\w+)(?::?[-+?]([^{}]*))?\})")
# Ids of builds, files and containers look random, but are no secrets.
_IDENTIFIES = re.compile(r"(?i)(?:hash|digest|checksum|sha\d*|md5|revision|commit|version|image|ref|build[_.-]?id)$")
_SHORTEST = 6


@dataclass(slots=True)
class DeclaredSecrets:
    """Return the secret values of a Compose document, and the paths of files with secret values.

    `files` are those of secrets, which are secret as a whole (True), and of configs; `env_files` contain variables.
    Both are as written, with variables filled in.
    """

    values: set[str] = field(default_factory=set)
    files: dict[str, bool] = field(default_factory=dict)
    env_files: set[str] = field(default_factory=set)


def declared_secrets(document: Mapping[str, Any], variables: Mapping[str, str]) -> DeclaredSecrets:
    """Return the values that a Compose document declares as secret, or that look like a secret.

    `variables` are the values that Compose fills in.
    """
    secrets = DeclaredSecrets()
    for section in ("secrets", "configs"):
        for body in _bodies(document.get(section)):
            if body.get("file"):
                secrets.files[fill_in_variables(str(body["file"]), variables)] = section == "secrets"
            content = str(body.get("content") or variables.get(str(body.get("environment")), ""))
            secrets.values.update(secrets_of_file(fill_in_variables(content, variables), whole=section == "secrets"))
    pairs = [(name, fill_in_variables(value, variables)) for name, value in _pairs(document)]
    secrets.env_files.update(value for name, value in pairs if name == "env_file")
    secrets.values.update(secrets_among(pair for pair in pairs if _IDENTIFIES.search(pair[0]) is None))
    for _, value in pairs:
        secrets.values.update(secrets_in(value))
    return secrets


def secrets_of_file(content: str, *, whole: bool) -> Iterator[str]:
    """Return the secrets in a mounted file: all of it, or the values of a configuration that look like secrets.

    A configuration of one word is a secret as a whole.
    """
    text = content.strip()
    if whole or (len(text) >= _SHORTEST and len(text.split()) == 1):
        yield text
    yield from secrets_in(text)
    yield from random_parts(text)


def fill_in_variables(text: str, variables: Mapping[str, str]) -> str:
    """The text as Compose fills it in; a default counts where the variable is not set or empty."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1] or match[2]) or match[3] or ""

    return _VARIABLE.sub(value, text) if "$" in text else text


def _bodies(section: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(section, Mapping):
        yield from (body for body in section.values() if isinstance(body, Mapping))


def _pairs(document: Any) -> Iterator[tuple[str, str]]:
    """Every text of a document with the name it stands under. An entry NAME=VALUE of a list stands under NAME;
    the entries of a list, such as a command's words, are also given as one text."""
    stack: list[tuple[str, Any]] = [("", document)]
    visited_ids = set()
    while stack:
        name, value = stack.pop()
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            before, equals, after = str(value).partition("=")
            yield (before, after) if equals and before.isidentifier() else (name, str(value))
        elif isinstance(value, Mapping | list) and id(value) not in visited_ids:
            # What an alias repeats counts once.
            visited_ids.add(id(value))
            if isinstance(value, Mapping):
                stack += [(str(key) if key != "path" else name, inner) for key, inner in value.items()]
            else:
                # A list of names under `secrets` holds no secret: they stand under no name of their own.
                stack += [(name if name == "env_file" else "", inner) for inner in value]
                words = [str(inner) for inner in value if isinstance(inner, str | int | float)]
                yield "", " ".join(words)
