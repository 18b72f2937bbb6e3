"""Check that a command line of a document exists: program, command, options, arguments and the names it uses."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cache
from importlib.util import find_spec
from itertools import groupby, product, takewhile

import click
import cyclopts
import yaml

from cli.main import roas
from deployments.docs.reference.commands import context_of
from tests.integration.docs.documents import ROOT, text_of

# Programs of the system; a block that uses another one is not checked by anything, so it fails.
_SYSTEM = {
    "age", "age-keygen", "amtool", "cat", "cd", "chmod", "cosign", "cp", "curl", "du", "echo", "export", "fuser", "git",
    "install", "ln", "mkdir", "oras", "pg_dump", "pg_restore", "pre-commit", "redis-cli", "rm", "scp", "sed", "sh",
    "ssh", "systemctl",
}  # fmt: skip
_JOINS = {"||", "&&", "|"}
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*")


class UnknownCommandError(AssertionError):
    """A document shows a command that does not exist."""


def commands_of(script: str) -> list[list[str]]:
    """The words of each command line of a shell block, without assignments before the program."""
    lines = (shlex.split(line, comments=True) for line in script.replace("\\\n", " ").splitlines())
    commands = (list(words) for line in lines for joins, words in groupby(line, _JOINS.__contains__) if not joins)
    commands = (list(takewhile(">".__ne__, words)) for words in commands)
    return [words for words in map(_without_assignments, commands) if words]


def expand_usage(usage: str) -> list[list[str]]:
    """`a|b ENV [ID]` in every spelling that it stands for."""
    words = usage.replace("\\|", "|").split()
    spellings = product(*([*word.strip("[]").split("|"), *([""] if word.startswith("[") else [])] for word in words))
    return [[word for word in spelling if word] for spelling in spellings]


def check_command(words: list[str], *, name_only: bool = False) -> None:
    """Raise UnknownCommandError if the command line could not work; a mere name of a command has no arguments."""
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    checks = {"make": _check_make, "docker": _check_docker, "prefect": _check_prefect}
    if program == "roas":
        _check_roas(rest, name_only=name_only)
    elif program in checks:
        checks[program](rest)
    elif program == "python" and rest[:1] == ["-m"]:
        _check_module(rest[1], rest[2:])
    elif program == "uv":
        _require(rest[:2] == ["tool", "install"], words)
    elif program == "pytest":
        _require(all((ROOT / word.partition("::")[0]).exists() for word in rest if "/" in word), words)
    else:
        _require(program in _SYSTEM or (ROOT / program).is_file(), words)


def roas_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The click command that the words name, and the words after it."""
    command: click.Command = roas
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        _require(found is not None, ["roas", *words])
        assert found is not None
        command = found
        rest.pop(0)
    return command, rest


def _check_roas(words: list[str], *, name_only: bool) -> None:
    command, rest = roas_command(words)
    if name_only and not rest:
        return
    # Click keeps the option of help that a command is first asked for.
    context = context_of(command)
    try:
        given, left, order = command.make_parser(context).parse_args(rest)
        is_whole = bool(order) or not isinstance(command, click.Group) or command.invoke_without_command
        _require(not left and is_whole, ["roas", *words])
        for parameter in command.params:
            _check_parameter(parameter, given.get(parameter.name or ""), context)
    except click.UsageError as error:
        raise UnknownCommandError(f"roas {' '.join(words)}: {error.format_message()}") from error


def _check_parameter(parameter: click.Parameter, value: object, context: click.Context) -> None:
    given = isinstance(value, str | tuple) and bool(value)
    if parameter.required and not given:
        raise click.MissingParameter(ctx=context, param=parameter)
    if isinstance(parameter.type, click.Choice) and isinstance(value, str) and not _PLACEHOLDER.fullmatch(value):
        parameter.type.convert(value, parameter, context)


def _check_make(words: list[str]) -> None:
    for target in words:
        _require(re.search(rf"^{re.escape(target)}:", text_of("Makefile"), re.MULTILINE) is not None, ["make", *words])


def _check_docker(words: list[str]) -> None:
    if words[:1] == ["roas"]:
        roas_command(words[1:])
        return
    if words[0] == "compose":
        _check_compose(words[1:])
    elif words[0] == "exec":
        _require(len(words) > 2, ["docker", *words])
    else:
        group = words[:2] if words[0] in ("image", "network", "system") else words[:1]
        _check_options(["docker", *group], words[len(group) :])


def _check_compose(words: list[str]) -> None:
    rest = list(words)
    while rest[0].startswith("--"):
        _check_options(["docker", "compose"], [rest.pop(0)])
        rest.pop(0)
    command, *rest = rest
    if command == "publish":
        # Compose has it since 2.34, and an older one may be installed here.
        return
    if command == "exec":
        while rest[0].startswith("-"):
            _check_options(["docker", "compose", command], [rest.pop(0)])
        _require(rest[0] in _services(), ["docker compose", *words])
        check_command(rest[2:] if rest[1] == "with-secrets" else rest[1:])
        return
    _check_options(["docker", "compose", command], rest)
    if command in ("build", "down"):
        # Of the user's own application.
        return
    names = [word.partition(":")[0] for word in rest if not word.startswith("-")]
    if command == "cp":
        # One side of a copy is a service.
        names = [name for name in names if name in _services()] or names[:1]
    _require(set(names) <= _services(), ["docker compose", *words])


@cache
def _services() -> frozenset[str]:
    """Services of the control plane and the sample, and the placeholder for one."""
    files = ("docker-compose.yml", "deployments/sample/compose.yaml")
    return frozenset({"SERVICE"}.union(*(yaml.safe_load(text_of(file))["services"] for file in files)))


def _check_prefect(words: list[str]) -> None:
    # Prefect's app parses without running anything; its public `app` runs at once.
    from prefect.cli._app import _app

    deployments = {word for word in words if "/" in word}
    _require(deployments <= _deployments(), ["prefect", *words])
    try:
        _app.parse_args(words, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise UnknownCommandError(f"prefect {' '.join(words)}: {error}") from error


def _deployments() -> set[str]:
    """The deployments of prefect.yaml and of the tutorials' applications, as in `prefect deployment run FLOW/NAME`."""
    declared = yaml.safe_load(text_of("prefect.yaml"))["deployments"]
    flows = {one["entrypoint"].rpartition(".")[2].replace("_", "-") for one in declared}
    return {f"{flow}/{name}" for flow in flows for name in ("dev", "prod", "shop", "cafe")}


def _check_module(module: str, words: list[str]) -> None:
    try:
        found = find_spec(module)
    except ModuleNotFoundError:
        found = None
    _require(found is not None, ["python -m", module])
    if module.endswith(".worker"):
        # It passes its options on to Prefect's command.
        _check_prefect(["worker", "start", *words])
    else:
        _require(not [word for word in words if word.startswith("-")], ["python -m", module, *words])


def _check_options(command: list[str], words: list[str]) -> None:
    text = _help(tuple(command))
    for option in (word.partition("=")[0] for word in words if word.startswith("-")):
        _require(re.search(rf"(?<![\w-]){option}(?![\w-])", text) is not None, [*command, option])


@cache
def _help(command: tuple[str, ...]) -> str:
    """The help text of a command; docker answers an unknown one with its general help."""
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    _require(done.returncode == 0 and " ".join(command) in done.stdout, list(command))
    return done.stdout


def _without_assignments(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words


def _require(holds: bool, words: list[str]) -> None:
    if not holds:
        raise UnknownCommandError(" ".join(words))
