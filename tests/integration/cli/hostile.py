"""Hostile input, and `roas` run in this process with it: arguments, variables, standard input and files."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from unittest import mock

import click
from hypothesis import strategies as st

from cli.exit_codes import run_command
from cli.main import roas

EXAMPLES = int(os.environ.get("ROAS_FUZZ_EXAMPLES", "1"))
"""How many times as many examples as in the gate."""

COMMON = {"deadline": None, "derandomize": EXAMPLES == 1, "database": None}

TEXTS = (
    "",
    " ",
    "-",
    "--",
    "--help",
    "-1",
    "%s%n{0}$(id)`id`;'\"\\",
    "a\nb\r\nc\td",
    "\x1b[31m\x1b]52;c;aGk=\x07\x9b2J",
    "\u202egnp.exe\u2066\u200b\ufeff",
    "\udcff\udcfe",
    "Zeitüberschreitung \U0001f600 ﷽",
    "a" * 100_000,
    "../../../../etc/passwd",
    "/dev/zero",
    "/dev/full",
    "/proc/self/mem",
    "~nosuchuser/x",
    "~",
    "x" * 300 + "/y",
    "dev@{upstream}",
    "[::1",
    "(" * 2000,
    "*",
    ".",
    "..",
)

NUMBERS = (
    *("0", "-0", "-1", "1", "1.5", "1e400", "-1e400", "nan", "-nan", "inf", "1_0", "0x10", "\u0663", "", " 1 "),
    *("1" * 5000, "9" * 19, "-" + "9" * 30, "1e-400", "abc", "1,5", "1;2"),
)

DURATIONS = ("1d", "999999999999d", "-1h", "1.5h", "0s", "3651d", "\u0663h", "1" * 5000 + "s", "h", "1 h", "1H")

VARIABLES_OF_OTHERS = (
    *("PREFECT_API_URL", "DOCKER_HOST", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "COLUMNS", "TERM", "NO_COLOR"),
    *("LANG", "LC_ALL", "HOME", "XDG_CONFIG_HOME", "TZ", "USER", "LOGNAME", "FORCE_COLOR"),
)

# One for all runs: the engine's log keeps the standard error that it finds first.
_ERRORS = TemporaryFile("a+b")  # noqa: SIM115
_STANDARD_ERROR = io.TextIOWrapper(
    os.fdopen(os.dup(_ERRORS.fileno()), "wb"), encoding="utf-8", errors="backslashreplace", write_through=True
)

text = st.one_of(
    st.sampled_from(TEXTS),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40),
)
number = st.one_of(st.sampled_from(NUMBERS), st.integers().map(str), st.floats().map(str))


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended."""

    code: int
    output: str
    errors: str


class HostileFolder:
    """A folder with an environment, hostile files and the stores, deep enough that `..` stays inside."""

    def __init__(self, folder: Path) -> None:
        self.cwd = folder / "a/b/c/d/e/f"
        self.cwd.mkdir(parents=True)
        self.environments = folder / "environments"
        self.environments.mkdir()
        self.data = folder / "data"
        (self.cwd / "compose.yaml").write_text("services: {a: {image: 'roas-test/none:1'}}\n")
        (self.cwd / "file").write_text("text")
        (self.cwd / "folder").mkdir()
        os.mkfifo(self.cwd / "fifo")
        (self.cwd / "loop").symlink_to("loop")
        (self.cwd / "device").symlink_to("/dev/zero")
        (self.cwd / "binary").write_bytes(bytes(range(256)))
        (self.cwd / "nul.yaml").write_bytes(b"services: {a\0: {}}\n")
        (self.cwd / "deep.yaml").write_text("[" * 3000)
        (self.cwd / "long").write_text("x" * 200_000)
        (self.cwd / "large.yaml").write_text("a: " + "x" * 2_000_000)
        (self.cwd / "secret").write_text("unreadable to others")
        (self.cwd / "secret").chmod(0)
        self.write_environment("good", "{}")

    def write_environment(self, name: str, text: str | bytes) -> None:
        """NAME.yaml; `{}` is an environment with nothing but what is required."""
        if text == "{}":
            text = f"project: roas-fuzz\ncompose_files: [{self.cwd}/compose.yaml]\nengine: unix://{self.cwd}/no.sock\n"
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        (self.environments / f"{name}.yaml").write_bytes(data)

    @property
    def paths(self) -> st.SearchStrategy[str]:
        """Paths of all kinds, none of which lets a command write outside of this place."""
        names = sorted(path.name for path in self.cwd.iterdir())
        impossible = ["/dev/null/x", "/proc/x", "/sys/x", "a" * 300, "a/" * 3000, "file/x", "../x", "~nosuchuser/x"]
        plain = st.text(st.characters(exclude_characters="\0/", exclude_categories=("Cs",)), min_size=1, max_size=20)
        return st.one_of(st.sampled_from([*names, *impossible, "\udcff"]), plain.filter(lambda name: name != ".."))

    def run(self, *words: str, said: bytes = b"", variables: Mapping[str, str] | None = None) -> Done:
        """Run `roas` with these words. Nothing can answer at the Prefect address, so no flow begins."""
        own = {
            "ROAS_DATA_DIR": str(self.data),
            "ROAS_ENVIRONMENTS_DIR": str(self.environments),
            "PREFECT_API_URL": "not an address",
            "DOCKER_HOST": f"unix://{self.cwd}/no.sock",
            **(variables or {}),
        }
        with ExitStack() as stack:
            output = stack.enter_context(TemporaryFile())
            stack.enter_context(_surroundings(self.cwd, own, words))
            stack.enter_context(_streams(said, output))
            code = run_command(roas)
            sys.stdout.flush()
            return Done(code=code, output=_text(output), errors=_text(_ERRORS))


def check(done: Done) -> None:
    """Fail unless a command ended as it may: done, failed or bad input, in a few lines without a traceback.

    Raises:
        AssertionError: It did not.
    """
    assert done.code in (0, 1, 2), done
    assert "Traceback" not in done.output + done.errors, done
    assert "\x1b" not in done.errors, done
    if done.code == 2:
        assert 1 <= len(done.errors.splitlines()) <= 25 or "Usage: " in done.errors, done


def commands() -> dict[tuple[str, ...], click.Command]:
    """Every command of `roas` by its arguments."""

    def walk(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from walk(inner, (*words, name))
        else:
            yield words, command

    return dict(walk(roas, ()))


def calls(
    words: Sequence[str], command: click.Command, place: HostileFolder
) -> st.SearchStrategy[tuple[list[str], ...]]:
    """Calls of a command: a usable one, and one for each argument and option in which that one is hostile."""
    return st.tuples(*(_call(words, command, place, attacked) for attacked in (None, *command.params)))


def hostile_value(parameter: click.Parameter, place: HostileFolder) -> st.SearchStrategy[str]:
    """Values for an argument or option by its type: nearly usable ones, and hostile ones."""
    kind = parameter.type
    if isinstance(kind, click.IntRange | click.FloatRange):
        return number
    if isinstance(kind, click.Path):
        return place.paths
    if parameter.name == "length":
        return st.one_of(st.sampled_from(DURATIONS), number, text)
    return text


def _call(
    words: Sequence[str], command: click.Command, place: HostileFolder, attacked: click.Parameter | None
) -> st.SearchStrategy[list[str]]:
    parts = [
        _option(one, place, one is attacked)
        if isinstance(one, click.Option)
        else _argument(one, place, one is attacked)
        for one in sorted(command.params, key=lambda one: isinstance(one, click.Argument))
    ]
    return st.tuples(*parts).map(lambda drawn: [*words, *(word for part in drawn for word in part)])


def _argument(argument: click.Parameter, place: HostileFolder, attacked: bool) -> st.SearchStrategy[list[str]]:
    if not attacked:
        # One that may be left out is left out half the time.
        usable = _usable(argument).map(lambda value: [value])
        return usable if argument.required else st.one_of(st.just([]), usable)
    hostile = hostile_value(argument, place)
    # Without the dashes a value that begins with one is an option.
    return st.one_of(hostile.map(lambda value: ["--", value]), hostile.map(lambda value: [value]))


def _option(option: click.Option, place: HostileFolder, attacked: bool) -> st.SearchStrategy[list[str]]:
    name = option.opts[-1]
    if attacked:
        hostile = hostile_value(option, place)
        return hostile.map(lambda value: [f"{name}={value}"] if option.is_flag else [name, value])
    if option.name == "follow":
        # With it a command goes on until it is stopped.
        return st.just([])
    usable = st.just([name]) if option.is_flag else _usable(option).map(lambda value: [name, value])
    return usable if option.required else st.one_of(st.just([]), usable)


def _usable(parameter: click.Parameter) -> st.SearchStrategy[str]:
    kind = parameter.type
    if isinstance(kind, click.Choice):
        return st.sampled_from([str(one) for one in kind.choices])
    if isinstance(kind, click.IntRange | click.FloatRange):
        return st.just("1")
    if isinstance(kind, click.Path):
        return st.just("compose.yaml" if kind.file_okay else "folder")
    return st.just("1h" if parameter.name == "length" else "good")


@contextmanager
def _surroundings(cwd: Path, variables: Mapping[str, str], words: Sequence[str]) -> Iterator[None]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ROAS_", "PREFECT_", "COMPOSE_", "DOCKER_"))
    }
    before = Path.cwd()
    os.chdir(cwd)
    try:
        with (
            mock.patch.dict(os.environ, {**kept, **variables}, clear=True),
            mock.patch.object(sys, "argv", ["roas", *words]),
        ):
            yield
    finally:
        os.chdir(before)


@contextmanager
def _streams(said: bytes, output: IO[bytes]) -> Iterator[None]:
    _ERRORS.truncate(0)
    kept = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = io.TextIOWrapper(io.BytesIO(said), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(os.fdopen(os.dup(output.fileno()), "wb"), encoding="utf-8")
    sys.stderr = _STANDARD_ERROR
    try:
        yield
    finally:
        sys.stdin.close()
        sys.stdout.close()
        sys.stdin, sys.stdout, sys.stderr = kept


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


__all__ = ["COMMON", "EXAMPLES", "Done", "HostileFolder", "calls", "check", "commands", "number", "text"]
