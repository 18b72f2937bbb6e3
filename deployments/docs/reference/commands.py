"""The page of all commands: what `--help` prints, with a heading and a table each."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from deployments.docs.reference.markdown import code, page, table


def commands_page() -> str:
    """Every command with its arguments, options and exit codes."""
    from cli.main import roas

    parts = [_section(path, command) for path, command in commands_of(roas)]
    exit_codes = [f"- {code.strip().rstrip('.')}" for code in (roas.epilog or "").partition(":")[2].split(";")]
    return page(
        "Commands",
        "`roas COMMAND --help` prints the same. `roas completion bash|zsh|fish` lets a shell complete names and ids.",
        "## Exit codes",
        "\n".join(" ".join(line.split()) for line in exit_codes),
        *parts,
    )


def commands_of(
    group: click.Group, path: tuple[str, ...] = ("roas",)
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group that does something itself, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands_of(command, (*path, name))
        elif command is not None and not command.hidden:
            yield (*path, name), command


def context_of(command: click.Command, name: str | None = None) -> click.Context:
    """What a command needs to describe itself; its options of help and its width are those of `roas`."""
    from cli.main import roas

    return click.Context(command, info_name=name, **roas.context_settings)


def _section(path: tuple[str, ...], command: click.Command) -> str:
    context = context_of(command, path[-1])
    usage = f"{' '.join(path)} {' '.join(command.collect_usage_pieces(context))}"
    options = [option.get_help_record(context) for option in command.params if isinstance(option, click.Option)]
    rows = [(code(names), meaning) for names, meaning in filter(None, options)]
    parts = [f"## {' '.join(path)}", _text(command.help or ""), f"```text\n{usage}\n```"]
    return "\n\n".join([*parts, *([table(("option", "meaning"), rows)] if rows else [])])


def _text(help_text: str) -> str:
    """The paragraphs of a help text; one that click leaves as it is becomes a block of code."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(help_text).partition("\f")[0])
    return "\n\n".join(_paragraph(paragraph) for paragraph in paragraphs)


def _paragraph(text: str) -> str:
    if text.startswith("\b"):
        return f"```text\n{inspect.cleandoc(text[1:])}\n```"
    return re.sub(r"([<>\[\]*_])(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"\\\1", text)
