"""Options and arguments that several `roas` commands share, and how they combine."""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

import click

from cli import completers
from flows.common.terminal import echo
from models.failures import BadInputError, NotFoundError
from models.settings import WORK_POOL, current_settings

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = timedelta(days=3650)
_MIB = 1024 * 1024


class Number(click.FloatRange):
    """A number in a range, and not NaN, which click accepts in every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert the text, or fail with click's error."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


def duration(text: str) -> timedelta:
    """Parse a duration such as 30m, 2h or 1d.

    Raises:
        BadParameter: It is not a duration, or longer than ten years.
    """
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a duration; write a number and s, m, h or d, such as 2h.")
    length = timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    if length > _LONGEST:
        raise click.BadParameter(f"{text!r} is longer than {_LONGEST.days} days.")
    return length


def moment_or_age(text: str, now: datetime) -> datetime:
    """Parse a moment in the past: an age such as 10m or 2h, or an ISO time, which is of UTC where it names no zone.

    Raises:
        BadParameter: It is neither.
    """
    try:
        at = datetime.fromisoformat(text.strip())
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    try:
        return now - duration(text)
    except click.BadParameter as error:
        raise click.BadParameter(
            f"{text!r} is no time; write an age such as 10m or 2h, or a time such as 2026-11-30T14:00."
        ) from error


def read_input() -> str:
    """Read all of standard input; bytes that are not UTF-8 become U+FFFD, as in a container's log.

    Raises:
        BadInputError: It is closed, or larger than 1 MiB.
    """
    text = _standard_input().read(_MIB + 1)
    if len(text) > _MIB:
        raise BadInputError("Standard input is larger than 1 MiB;", advice="give less of it.")
    # PostgreSQL cannot store NUL.
    return text.replace("\0", "\ufffd")


def input_lines() -> Iterator[str]:
    """Read the lines of standard input as `read_input` does, each of at most 1 MiB.

    Raises:
        BadInputError: It is closed, or a line is longer.
    """
    stream = _standard_input()
    for number, line in enumerate(iter(lambda: stream.readline(_MIB + 1), ""), start=1):
        if len(line) > _MIB:
            raise BadInputError(f"Line {number} of standard input is longer than 1 MiB;", advice="give shorter lines.")
        yield line


def _standard_input() -> TextIO:
    if sys.stdin is None:
        raise BadInputError("Standard input is closed;", advice="pipe the text in, or give it as an argument.")
    if sys.stdin.isatty():
        echo("reading from the terminal: type the text, then Ctrl-D on a line of its own", err=True)
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    return sys.stdin


as_json = click.option("--json", "json_wanted", is_flag=True, help="Print one JSON document, for programs.")
as_html = click.option(
    "--html",
    "html_file",
    metavar="FILE",
    help="Write one HTML page to FILE, readable by you alone; - for standard output.",
)


def _with_records(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    return known_environment(name)


def known_environment(name: str | None) -> str | None:
    """Accept an environment that has a file or a record: one of bare Compose files has no file.

    Raises:
        BadInputError: It has neither.
    """
    if name is None:
        return None
    from adapters.config.environment_files import chosen_folder, known_environments, places

    settings = current_settings()
    declared = known_environments(settings)
    if name in declared:
        return name
    from tasks.reporting.read import environments_on_record

    names = {*declared, *environments_on_record()}
    if name not in names:
        where = settings.config or chosen_folder(settings) or places(settings)
        raise BadInputError(
            f"There is no environment {name!r} in {where}, and nothing is recorded of one;",
            advice=f"known are: {', '.join(sorted(names)) or 'none'}.",
        )
    return name


def is_environment(name: str | None, read: Callable[[str], object]) -> bool:
    """Whether it is an environment, or none is named; False where `read` knows it as the id of something else.

    Raises:
        BadInputError: It is neither.
    """
    try:
        known_environment(name)
    except BadInputError as unknown:
        try:
            read(name or "")
        except NotFoundError:
            raise unknown from None
        return False
    return True


def _option_of_one(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    return _with_records(context, parameter, name or (None if context.resilient_parsing else _nearest_environment()))


of_records = click.argument(
    "environment", required=False, metavar="[ENV]", callback=_with_records, shell_complete=completers.environments
)
of_its_records = click.argument(
    "environment", required=False, metavar="[ENV]", callback=_option_of_one, shell_complete=completers.environments
)
in_environment = click.option(
    "--env",
    "environment",
    help="Only in this environment.",
    callback=_with_records,
    shell_complete=completers.environments,
)
quiet = click.option("-q", "--quiet", "only_outcome", is_flag=True, help="Print only errors and the result.")


def _work_pool(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and (not value.isascii() or re.fullmatch(WORK_POOL, value) is None):
        raise BadInputError(
            "--pool is not the name of a work pool;", advice="use letters, digits and . _ - in at most 63 characters."
        )
    return value


def pool_option(text: str) -> Callable[[Command], Command]:
    """The option for a work pool, with its help."""
    return click.option("--pool", metavar="NAME", callback=_work_pool, help=text)


by_exit_code = click.option(
    "--exit-code", "differs_is_failure", is_flag=True, help="Exit with 1 where there is a difference, as git diff does."
)
waiting = click.option(
    "--wait",
    "wait_seconds",
    type=Number(0, 86_400),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long for another operation on the environment to end, instead of being refused.",
)


def application_options(command: Command) -> Command:
    """Add ENV, or Compose files without an environment file, as `name` and `compose` of `named`."""

    @functools.wraps(command)
    def run(*, environment: str | None, files: tuple[Path, ...], project: str | None, **params: Any) -> Any:
        if not files and "services" in params and leaves_environment_out(environment):
            environment, params["services"] = None, (environment, *params["services"])
        name, compose = resolve_names(environment, files, project)
        return command(name=name, compose=compose, **params)

    for option in (
        click.option("-p", "--project", help="Project name for -f; by default the folder's name."),
        click.option(
            *("-f", "--file", "files"),
            multiple=True,
            type=click.Path(dir_okay=False, path_type=Path),
            help="A Compose file, for an application without an environment file; may be repeated.",
        ),
        click.argument("environment", required=False, metavar="[ENV]", shell_complete=completers.environments),
    ):
        run = option(run)
    return cast(Command, run)


def leaves_environment_out(word: str | None) -> bool:
    """Whether the word in the place of ENV is no environment while one is meant without its name.

    So `roas logs web` in the folder of a roas.yaml prints the log of its service web.
    """
    from adapters.config.environment_files import known_environments, meant_environment

    settings = current_settings()
    if word is None or meant_environment(settings) is None or word in known_environments(settings):
        return False
    from tasks.reporting.read import environments_on_record

    return word not in environments_on_record()


def resolve_names(
    environment: str | None, files: tuple[Path, ...], project: str | None
) -> tuple[str, list[str] | None]:
    """The environment's name, and the Compose files if it has no environment file.

    An application that was started from bare Compose files is known by its name from then on.
    """
    if environment is None and not files:
        environment = _nearest_environment()
    if environment is not None and files:
        raise BadInputError("Give an environment or -f, not both.")
    if environment is not None:
        if project is not None:
            raise BadInputError("-p goes with -f: an environment's file names its own project.")
        from adapters.config.environment_files import known_environments
        from adapters.config.environments import declared_environment, environment_for_compose_files

        if environment not in known_environments(current_settings()):
            from tasks.reporting.read import remembered_compose_files

            if remembered := remembered_compose_files(environment):
                files = tuple(Path(file) for file in remembered)
                bare = environment_for_compose_files(files, project=environment, cwd=Path.cwd())
                return bare.name, list(remembered)
        # Validate the whole file, to report a mistake before a server is started for the run.
        return declared_environment(environment, current_settings()).name, None
    from adapters.config.environments import environment_for_compose_files

    bare = environment_for_compose_files(list(files), project=project, cwd=Path.cwd())
    return bare.name, [str(path.absolute()) for path in files]


def _nearest_environment() -> str:
    """The environment of the nearest roas.yaml or of --config, where none is named; says which one that is.

    Raises:
        BadInputError: There is none, or more than one can be meant.
    """
    from adapters.config.environment_files import chosen_folder, known_environments, meant_environment, places

    settings = current_settings()
    default_environment = meant_environment(settings)
    if default_environment is None:
        names = () if chosen_folder(settings) else known_environments(settings)
        if settings.config is None and chosen_folder(settings) is None and not names:
            raise BadInputError(
                f"Which environment? There is none. Looked for {places(settings)}.",
                advice="`roas init` beside a Compose file writes one; -f FILE names a Compose file.",
            )
        example = names[0] if names else "dev"
        raise BadInputError("Which environment?", advice=f"Name one (roas start {example}), or a Compose file (-f).")
    name, file = default_environment
    if not click.get_current_context().params.get("only_outcome"):
        echo(f"environment {name}, of {file}", err=True)
    return name
