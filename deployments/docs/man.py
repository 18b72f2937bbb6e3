"""Write a man page for `roas` and each of its commands: `python -m deployments.docs.man [FOLDER]`, by default man/."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path

import click
from click_man.man import ManPage

from deployments.docs.reference.commands import commands_of, context_of

ROOT = Path(__file__).parents[2]

_SHORT_HELP = 200
_LINE = 78
_SPECIAL = re.compile(r"^(?=[.'])", re.MULTILINE)


def write_man_pages(folder: Path) -> list[Path]:
    """Write the pages into a folder; their files."""
    from cli.main import roas

    folder.mkdir(parents=True, exist_ok=True)
    commands = dict(commands_of(roas))
    files = [_write(folder, ("roas",), roas, [(" ".join(path[1:]), command) for path, command in commands.items()])]
    return files + [_write(folder, path, command, []) for path, command in commands.items()]


def _write(folder: Path, path: tuple[str, ...], command: click.Command, below: list[tuple[str, click.Command]]) -> Path:
    context = context_of(command, " ".join(path))
    page = ManPage(" ".join(path))
    page.version = version("roas-ops")
    page.short_help = _text(command.get_short_help_str(_SHORT_HELP))
    page.description = _text(command.help or "")
    page.synopsis = _text(" ".join(command.collect_usage_pieces(context)))
    records = [option.get_help_record(context) for option in command.params if isinstance(option, click.Option)]
    page.options = [(names, _text(meaning)) for names, meaning in filter(None, records)]
    lines = [str(page).rstrip("\n").replace(page.command.upper(), "-".join(path).upper(), 1)]
    if below:
        lines.append(".SH COMMANDS")
        lines += [f".TP\n\\fBroas {name}\\fP\n{_text(child.get_short_help_str(_SHORT_HELP))}" for name, child in below]
    lines += [".SH EXIT STATUS", _text(_exit_codes())]
    if not below:
        lines += [".SH SEE ALSO", r"\fBroas\fP(1)"]
    file = folder / f"{'-'.join(path)}.1"
    file.write_text("\n".join(lines) + "\n")
    return file


def _exit_codes() -> str:
    from cli.main import roas

    return " ".join((roas.epilog or "").partition(":")[2].split())


def _text(text: str) -> str:
    """Text in which nothing is a request to troff; what click leaves as it is keeps its lines."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text).partition("\f")[0])
    return "\n.PP\n".join(_paragraph(paragraph) for paragraph in paragraphs)


def _paragraph(text: str) -> str:
    lines = inspect.cleandoc(text.replace("\b", "").strip("\n"))
    if not text.startswith("\b"):
        lines = textwrap.fill(" ".join(lines.split()), _LINE, break_long_words=False, break_on_hyphens=False)
    escaped = _SPECIAL.sub(r"\\&", lines.replace("\\", r"\e"))
    return f".nf\n{escaped}\n.fi" if text.startswith("\b") else escaped


if __name__ == "__main__":
    write_man_pages(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "man")
