"""Change one line of an environment file that a user has written, and leave the rest as it is."""

from __future__ import annotations

from pathlib import Path

import yaml

from adapters.config.environment_files import is_compose_file
from adapters.config.environments import read_environment
from adapters.config.yaml_files import read_document
from adapters.host.private_files import replace_content
from models.failures import EnvironmentFileError


def add_channel(path: Path, name: str, block: str) -> bool:
    """Name a notification channel in the `notify` of an environment file; False where it is named there already.

    The file's comments and order stay. It is replaced at once, or not at all.

    Raises:
        EnvironmentFileError: It is no valid environment, is written in a way that a line cannot be added to, or
            cannot be written.
    """
    if block in read_environment(path, name).notify:
        return False
    if is_compose_file(path):
        raise EnvironmentFileError(
            f"{path} is a Compose file, which is left as it is.",
            advice="Write the line there yourself, below x-roas.",
        )
    node, _ = read_document(path)
    text = path.read_text(encoding="utf-8")
    _replace(path, name, _with_channel(text, _field(node, "notify"), _field(node, "project"), block))
    return True


def _field(node: yaml.Node | None, name: str) -> yaml.Node | None:
    """The value of a field of the file; None where the file does not have it."""
    fields = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in fields if key.value == name), None)


def _with_channel(text: str, notify: yaml.Node | None, project: yaml.Node | None, block: str) -> str:
    if isinstance(notify, yaml.SequenceNode) and notify.flow_style:
        at = notify.end_mark.index - 1
        return f"{text[:at].rstrip()}{', ' if notify.value else ''}{block}{text[at:]}"
    if isinstance(notify, yaml.SequenceNode):
        last = notify.value[-1]
        return _with_line(text, last.end_mark.index, f"{' ' * notify.start_mark.column}- {block}")
    if notify is not None:
        # Only an empty value is valid besides a list.
        return f"{text[: notify.start_mark.index]} [{block}]{text[notify.end_mark.index :]}"
    return _with_line(text, project.end_mark.index if project else len(text), f"notify: [{block}]")


def _with_line(text: str, after: int, line: str) -> str:
    """The text with one more line, after the one that the place `after` is in."""
    end = text.find("\n", after)
    head, tail = (text, "") if end < 0 else (text[:end], text[end + 1 :])
    return f"{head.rstrip(chr(10))}\n{line}\n{tail}"


def _replace(path: Path, name: str, text: str) -> None:
    """Put a new text in a file's place once it has been read as an environment."""
    try:
        replace_content(path, text.encode(), lambda new: _check(new, name, path))
    except OSError as error:
        raise EnvironmentFileError(
            f"{path} cannot be written: {error.strerror}.", advice="Write the line there yourself."
        ) from error


def _check(new: Path, name: str, path: Path) -> None:
    try:
        read_environment(new, name)
    except EnvironmentFileError as error:
        raise EnvironmentFileError(
            f"{path} is written in a way that no line can be added to.", advice="Write the line there yourself."
        ) from error
