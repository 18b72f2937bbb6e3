"""Secrets and variables for Compose: read from files and the process, kept in memory, never written or logged."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv.main import DotEnv
from dotenv.variables import parse_variables

from adapters.compose.encrypted import decrypt, is_encrypted, refuse_reserved
from adapters.compose.secret_commands import printed_secret
from adapters.compose.sources import read_sources, variables_in
from adapters.host.private_files import MIB, read_regular
from core.deployment.release import VALUES
from models.environments import Environment, Secret
from models.failures import EnvironmentFileError

_SET_BY_ENVIRONMENT = frozenset(
    {"COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "COMPOSE_ENV_FILES", "DOCKER_CONTEXT", "DOCKER_HOST"}
)
# Variables that Docker's command line and a build need. None carries a secret.
_ALWAYS_PASSED = re.compile(
    r"PATH|HOME|PWD|USER|LOGNAME|HOSTNAME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|TERM|XDG_(?:RUNTIME_DIR|CONFIG_HOME)"
    r"|(?i:https?_proxy|no_proxy|all_proxy|ftp_proxy)|SSL_CERT_(?:FILE|DIR)|SSH_AUTH_SOCK"
    r"|DOCKER_(?:CONFIG|CERT_PATH|TLS|TLS_VERIFY|API_VERSION|BUILDKIT|DEFAULT_PLATFORM)|BUILDX_(?:BUILDER|CONFIG)"
    r"|COMPOSE_(?:PARALLEL_LIMIT|HTTP_TIMEOUT|BAKE|IGNORE_ORPHANS|DOCKER_CLI_BUILD)"
)
# Variables of this control plane: no application gets them, even if its environment declares them.
_CONTROL_PLANE = re.compile(r"(?:PREFECT|ROAS)_\w+|PG(?:PASSWORD|PASSFILE|SERVICEFILE)")
# Credentials of the operator's accounts: an application gets one only where its environment declares the name.
_CLOUD = re.compile(
    r"(?:AWS|AZURE|ARM|GOOGLE|GCP|GCLOUD|CLOUDSDK|DIGITALOCEAN|CLOUDFLARE|HCLOUD|OCI|VAULT|KUBE|NPM|PYPI|TWINE|GITHUB"
    r"|GITLAB|GH|CI)_\w*(?:KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?|CONFIG)\w*|AWS_\w+|KUBECONFIG"
    r"|PG(?:USER|HOST|HOSTADDR|PORT|DATABASE|SERVICE|SSL\w+)"
)
CONTROL_PLANE_SECRETS = ("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_KEY", "PGPASSWORD")
_SHORTEST_SECRET = 8
# Linux takes a variable of at most 131,072 bytes, with its name.
_LONGEST_VARIABLE = 130_000
_OF_A_RUNNER = "PREFECT__FLOW_RUN_ID"

_REFERENCE = re.compile(r"\$\{([^}:]*)")


def secret_values(environment: Environment) -> dict[str, str]:
    """The value of every available secret, by name; `missing_secrets` gives the reason for each other one."""
    return {name: value for name, (value, _) in _secret_values(environment).items() if value}


def missing_secrets(environment: Environment) -> dict[str, str]:
    """Why each secret that cannot be had is missing, by name."""
    return {name: why for name, (value, why) in _secret_values(environment).items() if not value}


def process_environment(
    environment: Environment, variables: Mapping[str, str], document: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """The process environment for Compose: the variables it may see, the secrets, and the engine's address.

    Compose sees the variables that Docker's command line needs and those that the environment declares. On the command
    line it also sees those that the Compose files (or the release's `document`) name, as with `docker compose`; in a
    worker's run it does not, since a worker's variables are not its user's, and neither with files of a source, whose
    authors are not on this machine. Secrets for the source itself are left out. None overrides the environment's files,
    project, profiles or engine. The values that a release's document carries override all others.
    """
    allowed = _declared_names(environment)
    of_source = frozenset(environment.source.secrets if environment.source else ())
    if _OF_A_RUNNER not in variables and environment.source is None:
        allowed |= _names_in(environment, document)
    allowed_values = {
        name: value
        for name, value in variables.items()
        if (name in allowed or _ALWAYS_PASSED.fullmatch(name))
        and name not in _SET_BY_ENVIRONMENT | of_source
        and not _is_withheld(name, environment, variables)
    }
    secrets = {name: value for name, value in secret_values(environment).items() if name not in of_source}
    release_values = (document or {}).get(VALUES) or {}
    return {
        **decrypted_variables(environment, allowed_values),
        **allowed_values,
        **secrets,
        **release_values,
        "DOCKER_HOST": environment.engine,
    }


def decrypted_variables(environment: Environment, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of encrypted files that no later file sets as well; Compose cannot read these files itself.

    Raises:
        EnvironmentFileError: A file cannot be decrypted, or has a variable that Docker reads itself.
    """
    decrypted_values: dict[str, str] = {}
    for file in environment.env_files:
        if not os.access(file, os.R_OK):
            continue
        values = _variables_in(file, {**variables, **decrypted_values})
        if is_encrypted_file(file):
            refuse_reserved(file, values)
            decrypted_values |= values
        else:
            decrypted_values = {name: value for name, value in decrypted_values.items() if name not in values}
    return decrypted_values


def plain_env_files(environment: Environment) -> tuple[Path, ...]:
    """The files of variables that Compose reads itself. Where all are encrypted an empty one keeps it from `.env`."""
    plain = tuple(file for file in environment.env_files if not is_encrypted_file(file))
    return plain or ((Path(os.devnull),) if environment.env_files else ())


def is_encrypted_file(file: Path) -> bool:
    """Whether a file of variables is encrypted; False where it cannot be read, which Compose reports."""
    try:
        return is_encrypted(file)
    except (OSError, ValueError):
        return False


def withheld_variables(environment: Environment, variables: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that are set and that the Compose files name, but that no application may see."""
    names = read_sources(environment.compose_files).variables | _declared_names(environment)
    return tuple(sorted(name for name in names & variables.keys() if _is_withheld(name, environment, variables)))


def _declared_names(environment: Environment) -> frozenset[str]:
    return frozenset({*environment.variables, *(secret.name for secret in environment.secrets)})


def _names_in(environment: Environment, document: Mapping[str, Any] | None) -> frozenset[str]:
    names = read_sources(environment.compose_files).variables
    return names if document is None else names | variables_in([json.dumps(document)], [document])


def _is_withheld(name: str, environment: Environment, variables: Mapping[str, str]) -> bool:
    if _CONTROL_PLANE.fullmatch(name):
        return True
    credentials = (variables.get(variable, "") for variable in CONTROL_PLANE_SECRETS)
    if any(len(value) >= _SHORTEST_SECRET and value in variables.get(name, "") for value in credentials):
        return True
    return _CLOUD.fullmatch(name) is not None and name not in _declared_names(environment)


def variables_of(environment: Environment, variables: Mapping[str, str]) -> dict[str, str]:
    """Every variable that Compose can interpolate, with its value; the process's variables override files.

    Without env_files in the environment, Compose reads `.env` beside the first Compose file.

    Raises:
        EnvironmentFileError: A file of variables is no regular file, too large, or no UTF-8 text.
    """
    files = environment.env_files or (environment.compose_files[0].parent / ".env",)
    values: dict[str, str] = {}
    for file in files:
        if os.access(file, os.R_OK):
            values.update(_variables_in(file, variables))
    return {**values, **variables}


def _variables_in(file: Path, variables: Mapping[str, str]) -> dict[str, str]:
    try:
        if is_encrypted(file):
            decrypted = decrypt(file)
            if decrypted.text is None:
                return dict(decrypted.variables)
            text = decrypted.text
        else:
            text = read_regular(file).decode("utf-8")
        _check_expansion(text)
    except (OSError, ValueError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise EnvironmentFileError(
            f"File of variables {file} cannot be used: {getattr(error, 'strerror', None) or reason}.",
            advice="Give a text file with lines such as NAME=value.",
        ) from error
    values: dict[str, str] = {}
    # dotenv_values would interpolate from the whole process environment.
    for name, value in DotEnv(None, StringIO(text), interpolate=False).parse():
        env = {**variables, **values}
        values[name] = "".join(atom.resolve(env) for atom in parse_variables(value or ""))
    return values


def _check_expansion(text: str) -> None:
    """Refuse variables whose values include each other until they fill the memory."""
    sizes: dict[str, int] = {}
    total = 0
    for name, value in DotEnv(None, StringIO(text), interpolate=False).parse():
        if value is not None:
            named = _REFERENCE.findall(value)
            sizes[name] = len(value) + sum(
                sizes.get(reference, len(os.environ.get(reference, ""))) for reference in named
            )
            total += sizes[name]
        if total > MIB:
            raise ValueError(f"with variables filled in it is larger than {MIB:,} bytes")


def _secret_values(environment: Environment) -> dict[str, tuple[str, str]]:
    """Each secret's value, or an empty one and why it cannot be had."""
    variables = variables_of(environment, os.environ)
    return {secret.name: _look_up(secret, variables, environment) for secret in environment.secrets}


def _look_up(secret: Secret, variables: Mapping[str, str], environment: Environment) -> tuple[str, str]:
    if secret.command is not None:
        ours = {name: value for name, value in os.environ.items() if not _CONTROL_PLANE.fullmatch(name)}
        value, why = printed_secret(secret.command, ours)
        return _usable(value, f"what command {secret.command[0]} printed", "") if value else ("", why)
    if secret.file is None:
        if secret.name in variables and _is_withheld(secret.name, environment, os.environ):
            return "", f"variable {secret.name} belongs to the control plane, and no application gets it"
        return _usable(variables.get(secret.name, ""), f"variable {secret.name}", "is not set or empty")
    try:
        value = read_regular(secret.file).decode("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        return "", f"file {secret.file} cannot be read: {reason}"
    return _usable(value, f"file {secret.file}", "is empty")


def _usable(value: str, source: str, why_empty: str) -> tuple[str, str]:
    """A secret that can be a variable, or why it cannot."""
    if "\0" in value:
        return "", f"{source} holds a NUL character"
    if len(value.encode()) > _LONGEST_VARIABLE:
        return "", f"{source} holds more than {_LONGEST_VARIABLE:,} bytes"
    return value, f"{source} {why_empty}"
