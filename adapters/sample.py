"""Write the sample application, as it comes with the program, into a folder of its own."""

from __future__ import annotations

import secrets
from pathlib import Path

from adapters.config.environment_files import FILE
from adapters.config.environment_schema import FILE as SCHEMA
from adapters.host.private_files import make_private_folder, write_private
from models.failures import BadInputError, RoasError

_SHIPPED = Path(__file__).parents[1] / "deployments"
_IMAGES = ("prometheus", "redis", "sample-bot")
_PASSWORD = Path("secrets/redis_password")
_FOLDER_MODE = 0o755
_FILE_MODE = 0o644
_PROGRAM_MODE = 0o755

_COMPOSE = (
    ("build: ../images/", "build: images/"),
    # Images of a checkout have these names without the prefix.
    ("image: roas/", "image: roas-sample/"),
    ("`make setup` wrote", "`roas sample` wrote"),
)
_ENVIRONMENT = (
    ("../../models/environment.schema.json", str(SCHEMA)),
    ("Environment `dev`:", "Environment `sample`:"),
    ("Used by `make up` and `roas start dev`.", "`roas start` starts it."),
    ("name: dev", "name: sample"),
    ("../sample/compose.yaml", "compose.yaml"),
    ("../../.secrets/sample_redis_password", str(_PASSWORD)),
    ("notify test dev", "notify test sample"),
)
_README = (
    ("`make up` starts it through the start-up flow.", "`roas start` in this folder starts it."),
    ("`make setup` wrote the password; no command shows it.", "`roas sample` wrote the password."),
    ("../../.secrets/sample_redis_password", str(_PASSWORD)),
)
_DOCKERFILE = (("FROM roas/base:local", "FROM debian:trixie-slim"),)


def write_sample(folder: Path) -> Path:
    """Write Compose file, Dockerfiles, environment file and a new password into an empty or new folder; its roas.yaml.

    Raises:
        BadInputError: The folder has content, or cannot be written.
        RoasError: The files of the installation are missing.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BadInputError(f"{folder} is not an empty folder;", advice="name a new one.")
        texts = {
            "compose.yaml": _adapt("sample/compose.yaml", _COMPOSE),
            "prometheus.yml": _adapt("sample/prometheus.yml", ()),
            "README.md": _adapt("sample/README.md", _README),
            FILE: _adapt("environments/dev.yaml", _ENVIRONMENT),
        }
        for image in _IMAGES:
            for file in sorted((_SHIPPED / "images" / image).iterdir()):
                if file.is_file():
                    texts[f"images/{image}/{file.name}"] = _adapt(
                        f"images/{image}/{file.name}", _DOCKERFILE if file.name == "Dockerfile" else ()
                    )
        for name, text in texts.items():
            _write(folder / name, text)
        make_private_folder(folder / _PASSWORD.parent)
        write_private(folder / _PASSWORD, secrets.token_hex(24).encode())
    except OSError as error:
        raise BadInputError(
            f"{error.filename or folder} cannot be written: {error.strerror};", advice="name another folder."
        ) from error
    return folder / FILE


def _adapt(name: str, changes: tuple[tuple[str, str], ...]) -> str:
    try:
        text = (_SHIPPED / name).read_text(encoding="utf-8")
    except OSError as error:
        raise RoasError(
            f"{_SHIPPED / name} cannot be read: {error.strerror};", advice="install roas-ops again."
        ) from error
    for before, after in changes:
        if before not in text:
            raise RoasError(f"{_SHIPPED / name} has no {before!r};", advice="install roas-ops again.")
        text = text.replace(before, after)
    return text


def _write(path: Path, text: str) -> None:
    """Write a file that the engine's users may read, whatever the umask: containers run as other users."""
    for parent in reversed([folder for folder in path.parents if not folder.exists()]):
        parent.mkdir()
        parent.chmod(_FOLDER_MODE)
    path.write_text(text, encoding="utf-8")
    path.chmod(_PROGRAM_MODE if text.startswith("#!") else _FILE_MODE)
