"""Environment files: parse YAML into a validated Environment, with errors a user can act on."""

from __future__ import annotations

import difflib
import os
import re
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from adapters.config.compose_extension import FIELD, Said, said_in_compose_files, with_said
from adapters.config.compose_files import compose_files_of, project_name_of
from adapters.config.docker_contexts import engine_of_context
from adapters.config.environment_files import chosen_folder, environment_files, name_of, no_environments, places
from adapters.config.environment_names import COMPOSE_FILES, SUFFIXES, environment_names
from adapters.config.yaml_files import parse_compose_file, parse_document, read_content, read_documents
from adapters.gate.expression_syntax import syntax_mistake
from adapters.git.places import current_checkout
from models.environments import Environment
from models.failures import BadInputError, EnvironmentFileError
from models.settings import Settings, current_settings
from models.sources import GitSource, OciSource

_MISTAKES_SHOWN = 20
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def load_environment(name: str, directory: Path) -> Environment:
    """Read NAME.yaml of a folder; relative paths in it are relative to that folder.

    Without an engine or context in the file, DOCKER_HOST counts, else DOCKER_CONTEXT, else the local socket.

    Raises:
        EnvironmentFileError: There is no such file, or it is not a valid environment; the message names
            the file, the line, the field and what is allowed.
    """
    return read_environment(_find(name, directory))


def declared_environment(name: str, settings: Settings) -> Environment:
    """Read the environment of that name where its file is found (adapters/config/environment_files.py).

    Raises:
        EnvironmentFileError: As for `load_environment`; where there is no such file, the message has the places that
            were looked at.
    """
    path = environment_file(name, settings)
    # A file that a list of files names may have another name than its environment.
    return read_environment(path, None if settings.config is None and chosen_folder(settings) is not None else name)


def environment_file(name: str, settings: Settings) -> Path:
    """Find the file of the environment of that name.

    Raises:
        EnvironmentFileError: There is no such file.
    """
    folder = None if settings.config else chosen_folder(settings)
    if folder is not None:
        return _find(name, folder)
    files = environment_files(settings)
    if name in files:
        return files[name]
    if not files:
        raise no_environments(settings, name)
    where = settings.config or places(settings)
    raise EnvironmentFileError(f"There is no environment {name!r}. Looked in {where}.", advice=_advice(name, files))


def read_environment(path: Path, name: str | None = None) -> Environment:
    """Read one environment file, and what its Compose files say beyond it; a Compose file with `x-roas` is one, too.

    Without a name its own is the file's, without the suffix, and of a Compose file the project's.

    Raises:
        EnvironmentFileError: As for `load_environment`.
    """
    node, data = _parse(path)
    is_compose = FIELD in data
    if is_compose:
        data = _of_compose_itself(path)
    said = [] if "source" in data else said_in_compose_files(_compose_files_named(path, data))
    data = with_said(data, said)
    if other := next((one for one in said if one.path != path and not one.place and "needs" in one.value), None):
        # Other environments ask for them, and read each file alone.
        place = f"{other.path}:{_line(other.node, ('needs',))}"
        raise EnvironmentFileError(f"{place}: {FIELD}: needs does not belong here.", advice=f"Move it to {path}.")
    if not is_compose:
        said.insert(0, Said(path, node, (), None))
    expected = name or (name_of(path) if is_compose else path.stem)
    data.setdefault("name", expected)
    if data["name"] != expected:
        reason = f"the file is named {path.stem!r}" if name is None or name == path.stem else f"{name!r} was read there"
        raise EnvironmentFileError(
            f"{path}:{_line(node, ('name',))}: name is {data['name']!r}, but {reason}.",
            advice="Make the two the same, or leave name out."
            if name is None
            else "Write name: and small letters, digits, - and _ on one line, or leave name out.",
        )
    if "engine" in data and data.get("context") is not None:
        at = _lines(said, [(("context",), "engine is given, too. Leave one of the two out.")])
        raise EnvironmentFileError(at[0], advice="")
    data |= _engine(data)
    try:
        environment = Environment.model_validate(data)
    except ValidationError as error:
        raise _refusal(said, error) from error
    _check_words(said, environment)
    return _with_paths_from(path.absolute().parent, environment)


def environment_for_compose_files(files: Sequence[Path], project: str | None = None, *, cwd: Path) -> Environment:
    """Make an environment for Compose files without an environment file.

    The project's name is determined as Compose does: the given one, COMPOSE_PROJECT_NAME, `name` in the files,
    else the first file's folder.

    Raises:
        EnvironmentFileError: A file is missing, or no usable project name can be found.
    """
    paths = [_compose_file(file, cwd) for file in files]
    named = project or os.environ.get("COMPOSE_PROJECT_NAME") or _declared_name(paths)
    name = named or _normalise(paths[0].parent.name)
    if not _NAME.fullmatch(name):
        raise EnvironmentFileError(
            f"{name!r} cannot be the name of a Compose project.",
            advice="Give one with -p NAME: small letters, digits, - and _.",
        )
    profiles = tuple(filter(None, os.environ.get("COMPOSE_PROFILES", "").split(",")))
    data: dict[str, Any] = {
        "name": name,
        "project": name,
        "compose_files": tuple(paths),
        "env_files": tuple(cwd / file for file in os.environ.get("COMPOSE_ENV_FILES", "").split(",") if file),
        "profiles": profiles,
    }
    said = said_in_compose_files(paths)
    data = with_said(data, said)
    data |= _engine(data)
    try:
        return _with_paths_from(paths[0].parent, Environment.model_validate(data))
    except ValidationError as error:
        if said:
            raise _refusal(said, error) from error
        first = error.errors(include_url=False)[0]
        name = {"engine": "DOCKER_HOST", "profiles": "COMPOSE_PROFILES"}.get(str(first["loc"][0]), "The Compose file")
        raise EnvironmentFileError(f"{name} cannot be used: {_explain(first)}") from error


def _compose_file(file: Path, cwd: Path) -> Path:
    try:
        path = (cwd / _expand_home(file)).resolve()
        if path.is_file():
            return path
    except (OSError, RuntimeError) as error:
        # A name too long, or links that lead in a circle.
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise EnvironmentFileError(
            f"Compose file {file} cannot be read: {reason}.", advice="Check the path given with -f."
        ) from error
    raise EnvironmentFileError(f"Compose file {path} does not exist.", advice="Check the path given with -f.")


def _expand_home(path: Path) -> Path:
    """Expand `~` and `~USER` in a path.

    Raises:
        EnvironmentFileError: There is no such user.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise EnvironmentFileError(
            f"{path} names the home of a user who is not there.", advice="Give the whole path."
        ) from error


def _find(name: str, directory: Path) -> Path:
    names = environment_names(directory)
    candidates = [directory / f"{name}{suffix}" for suffix in SUFFIXES] if _NAME.fullmatch(name) else []
    for path in candidates:
        if path.is_file():
            return path
    raise EnvironmentFileError(f"There is no environment {name!r} in {directory}.", advice=_advice(name, names))


def _advice(name: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known there: {', '.join(sorted(names)) or 'none'}."


def _engine(data: Mapping[str, Any]) -> dict[str, str]:
    """The engine where the file names none itself: that of its context, else as the docker command chooses."""
    context = data.get("context") or (None if os.environ.get("DOCKER_HOST") else os.environ.get("DOCKER_CONTEXT"))
    if "engine" in data:
        return {}
    if isinstance(context, str) and context:
        return {"engine": engine_of_context(context)}
    return {"engine": os.environ["DOCKER_HOST"]} if os.environ.get("DOCKER_HOST") else {}


def _of_compose_itself(path: Path) -> dict[str, Any]:
    """The fields that a Compose file with `x-roas` gives without it."""
    project = project_name_of(path.parent) or name_of(path)
    beside = compose_files_of(path.parent) if path.name in COMPOSE_FILES else ()
    return {"project": project, "compose_files": [str(file) for file in (beside if path in beside else (path,))]}


def _compose_files_named(path: Path, data: Mapping[str, Any]) -> list[Path]:
    """The Compose files that an environment's file names; what is no path is left to the check of the whole."""
    named = data.get("compose_files")
    return [path.parent / _expand_home(Path(file)) for file in named or () if isinstance(file, str) and file.strip()]


def declared_values(path: Path) -> Mapping[str, Any]:
    """The fields of an environment file as they are written, unchecked, without those of other Compose files.

    Raises:
        EnvironmentFileError: It cannot be read, or is no mapping.
    """
    data = _parse(path)[1]
    own = data.get(FIELD, data)
    return own if isinstance(own, dict) else {}


def line_of_field(path: Path, loc: Sequence[int | str]) -> int:
    """The line, from 1, of a field of an environment file.

    Raises:
        EnvironmentFileError: It cannot be read, or is no mapping.
    """
    node, data = _parse(path)
    return _line(node, (FIELD, *loc) if FIELD in data else loc)


def _parse(path: Path) -> tuple[yaml.Node, dict[str, Any]]:
    node, data = _document_of(read_content(path), path)
    if node is None or not isinstance(data, dict):
        raise EnvironmentFileError(
            f"{path}:1: an environment is a mapping of fields.",
            advice=f"Allowed: {', '.join(Environment.model_fields)}.",
        )
    return node, dict(data)


@lru_cache(maxsize=128)
def _document_of(content: bytes, path: Path) -> tuple[yaml.Node | None, Any]:
    """What a file declares. A watch asks for it several times a minute, and it seldom changes."""
    if FIELD.encode() not in content:
        return parse_document(content, path)
    documents = parse_compose_file(content, path) or [(None, None)]
    return next((one for one in documents if isinstance(one[1], dict) and FIELD in one[1]), documents[0])


def _refusal(said: Sequence[Said], error: ValidationError) -> EnvironmentFileError:
    """All mistakes of the files in one error, without values, since one may be a password."""
    mistakes = error.errors(include_url=False, include_input=False)
    found = [(mistake["loc"], _explain(mistake)) for mistake in mistakes[:_MISTAKES_SHOWN]]
    lines = _lines(said, found)
    if len(mistakes) > _MISTAKES_SHOWN:
        lines.append(f"{said[0].path}: {len(mistakes) - _MISTAKES_SHOWN} more mistakes like these.")
    return EnvironmentFileError("\n".join(lines), advice="")


def _check_words(said: Sequence[Said], environment: Environment) -> None:
    """Refuse a policy whose expression has a mistake in its syntax, and a schedule whose times are not understood.

    Raises:
        EnvironmentFileError: One is so; the message has its position.
    """
    found: list[tuple[tuple[int | str, ...], str]] = []
    for place, policy in enumerate(environment.gate.policies if environment.gate else ()):
        mistake = None if policy.expression is None else syntax_mistake(policy.expression)
        if mistake is not None:
            found.append((("gate", "policies", place, "expression"), f"{mistake}."))
    if environment.schedules:
        from core.runtime.clock import read_times
    for name, schedule in environment.schedules.items():
        try:
            read_times(schedule.at)
        except BadInputError as error:
            found.append((("schedules", name, "at"), str(error)))
    if found:
        raise EnvironmentFileError("\n".join(_lines(said, found)), advice="")


def _lines(said: Sequence[Said], mistakes: Sequence[tuple[tuple[int | str, ...], str]]) -> list[str]:
    """Mistakes by their lines, each in the file that says most of where it stands."""

    def depth(one: Said, loc: tuple[int | str, ...]) -> int:
        at = len(one.place)
        return at + len(list(_walk(one.node, loc[at:]))) if loc[:at] == one.place else -1

    entries = []
    for loc, text in mistakes:
        one = max(said, key=partial(depth, loc=loc))
        inner = loc[len(one.place) :]
        field = ".".join((*one.place, *([_field(one.node, inner)] if inner else [])))
        entries.append((str(one.path), _line(one.node, inner), field, text))
    return [f"{path}:{line}: {field}: {text}" for path, line, field, text in sorted(entries)]


def _explain(mistake: ErrorDetails) -> str:
    loc = mistake["loc"]
    if mistake["type"] == "extra_forbidden":
        allowed = sorted(_fields_beside(loc))
        near = difflib.get_close_matches(str(loc[-1]), allowed, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        return f"there is no such field.{guess} Allowed here: {', '.join(allowed)}."
    if mistake["type"] == "missing":
        return "this field is required."
    if mistake["type"] == "string_pattern_mismatch":
        pattern = mistake.get("ctx", {}).get("pattern", "")
        allowed_as = _PATTERNS.get(pattern, f"allowed is what matches {pattern}")
        return f"not a usable value; {allowed_as}."
    return f"{mistake['msg'].removeprefix('Value error, ')}."


_PATTERNS = {
    r"^[a-z0-9][a-z0-9_-]{0,62}$": "allowed are small letters, digits, - and _, at most 63",
    r"^(unix|tcp|ssh|http|https)://.+": "allowed are addresses like unix:///var/run/docker.sock, "
    "tcp://HOST:2375 or ssh://USER@HOST",
    r"^[a-z0-9][a-z0-9_-]{0,62}(/[a-zA-Z0-9][a-zA-Z0-9_.-]*)?$": "allowed are ENVIRONMENT and ENVIRONMENT/SERVICE",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "allowed are names of variables: letters, digits and _",
}


def _line(node: yaml.Node, loc: Sequence[int | str]) -> int:
    """The line, from 1, of the deepest part of `loc` that the file has."""
    line = node.start_mark.line
    for _, child, key in _walk(node, loc):
        line = (key or child).start_mark.line
    return line + 1


def _field(node: yaml.Node, loc: Sequence[int | str]) -> str:
    """`loc` without the names that pydantic adds for members of a union."""
    real = [part for part, _, _ in _walk(node, loc)]
    if loc and (not real or real[-1] != loc[-1]):
        real.append(loc[-1])
    return ".".join(str(part) for part in real) or "the file"


def _walk(node: yaml.Node, loc: Sequence[int | str]) -> Iterator[tuple[int | str, yaml.Node, yaml.Node | None]]:
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            for key, child in node.value:
                if key.value == str(part):
                    yield part, child, key
                    node = child
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            yield part, node, None


def _fields_beside(loc: Sequence[int | str]) -> set[str]:
    """The fields allowed where the last part of `loc` stands."""
    here: Any = Environment
    for part in loc[:-1]:
        here = _inside(here, part)
    return set(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else set()


def _inside(kind: Any, part: int | str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _inside(arguments[0], part)
    if origin in (Union, types.UnionType):
        for option in arguments:
            if _tag(option) == part:
                return get_args(option)[0] if get_origin(option) is Annotated else option
            inner = _inside(option, part)
            if inner is not None:
                return inner
        return None
    if origin in (dict, Mapping):
        return arguments[1]
    if origin in (tuple, list):
        return arguments[0]
    if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
        return typing.get_type_hints(kind, include_extras=True)[str(part)]
    return None


def _tag(option: Any) -> str | None:
    if get_origin(option) is Annotated:
        return next((one.tag for one in get_args(option)[1:] if isinstance(one, Tag)), None)
    if isinstance(option, type) and issubclass(option, BaseModel) and "kind" in option.model_fields:
        return str(get_args(typing.get_type_hints(option)["kind"])[0])
    return None


def _with_paths_from(folder: Path, environment: Environment) -> Environment:
    def resolve(path: Path) -> Path:
        return Path(os.path.normpath(folder / _expand_home(path)))

    def resolve_in_checkout(path: Path) -> Path:
        if environment.source is None:
            return resolve(path)
        checkout = current_checkout(current_settings().data_dir, environment.name) / environment.source.path
        return Path(os.path.normpath(checkout / _expand_home(path)))

    return environment.model_copy(
        update={
            "compose_files": tuple(resolve_in_checkout(path) for path in environment.compose_files),
            "env_files": tuple(resolve_in_checkout(path) for path in environment.env_files),
            "source": environment.source and _with_files_from(resolve, environment.source),
            "secrets": tuple(
                secret if secret.file is None else secret.model_copy(update={"file": resolve(secret.file)})
                for secret in environment.secrets
            ),
            "schedules": {
                name: one if one.ping_file is None else one.model_copy(update={"ping_file": resolve(one.ping_file)})
                for name, one in environment.schedules.items()
            },
        }
    )


def _with_files_from(resolved: Callable[[Path], Path], source: GitSource | OciSource) -> GitSource | OciSource:
    if isinstance(source, OciSource):
        key = source.verify and source.verify.model_copy(update={"key": resolved(source.verify.key)})
        return source.model_copy(update={"verify": key})
    named = ("ssh_key", "known_hosts", "allowed_signers", "gpg_keys")
    files = {name: getattr(source, name) for name in named}
    return source.model_copy(update={name: resolved(file) for name, file in files.items() if file is not None})


def _declared_name(paths: Sequence[Path]) -> str | None:
    """The `name` of the last file that has one; a name with variables is refused."""
    for path in reversed(paths):
        try:
            documents = read_documents(path)
        except EnvironmentFileError:
            # Compose reads the same file next and reports the mistake.
            continue
        named = [
            document["name"]
            for document in documents
            if isinstance(document, dict) and isinstance(document.get("name"), str)
        ]
        if named and "$" in named[-1]:
            raise EnvironmentFileError(
                f"{path} makes its project name from a variable.", advice="Give the name with -p NAME."
            )
        if named:
            return str(named[-1])
    return None


def _normalise(folder: str) -> str:
    return re.sub(r"[^-_a-z0-9]", "", folder.lower()).lstrip("_-")
