"""Exit codes of `roas`, and one line on standard error for each kind of failure."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import click

from core.common.safe_text import printable
from flows.common.terminal import echo
from models.failures import BadInputError, RoasError

SUCCESS = 0

FAILED = 1
"""An operation failed, or the requested thing does not exist."""

BAD_INPUT = 2
"""An argument, option, variable or file cannot be used."""

UNEXPECTED = 3
"""A bug in this program; a log file has the traceback."""

INTERRUPTED = 130
"""Ctrl-C."""

_LOG = "unexpected-errors.log"
_LOG_BYTES = 1024 * 1024
_LONGEST_LINE = 2000
_MOST_LINES = 20
_LONGEST_TRACEBACK = 64 * 1024


def run_command(command: click.Command) -> int:
    """Run a command with the arguments of this process and return its exit code."""
    output = _prepare_streams()
    if output is None:
        _print_error("Standard output is closed. Open it, or send it to a file or to /dev/null.")
        return FAILED
    code = _run(command, output)
    trouble = output.finish()
    if trouble is None:
        return code
    if isinstance(trouble, BrokenPipeError):
        # The reader of a pipe has closed it (`roas history | head`).
        return SUCCESS
    _print_error(f"Standard output cannot be written: {trouble.strerror}.")
    return code or FAILED


class _CheckedOutput(io.TextIOWrapper):
    """Standard output that keeps its own write error, to distinguish it from the same error of a store."""

    trouble: OSError | None = None
    is_used = False

    def write(self, text: str, /) -> int:
        self.is_used = True
        try:
            return super().write(text)
        except OSError as error:
            self.trouble = error
            raise

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self.trouble = error
            raise

    def finish(self) -> OSError | None:
        """Flush; the error of this or an earlier write, or None."""
        with suppress(OSError):
            self.flush()
        if self.trouble is not None:
            # Python flushes once more at exit, which must not fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
        return self.trouble


def _run(command: click.Command, output: _CheckedOutput) -> int:
    try:
        _check_process()
        code = command.main(standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else SUCCESS
    except click.exceptions.Abort:
        return _report(output, INTERRUPTED, "stopped")
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return BAD_INPUT
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "roas"
        return _report(output, BAD_INPUT, error.format_message(), f"See `{path} --help`.")
    except click.ClickException as error:
        return _report(output, error.exit_code, error.format_message())
    except RoasError as error:
        code = BAD_INPUT if isinstance(error, BadInputError) else FAILED
        return _report(output, code, str(error).removesuffix(error.advice).rstrip(), error.advice)
    except Exception as error:  # noqa: BLE001 - the last place that can inform the user
        # The caller reports an error of the output.
        return SUCCESS if error is output.trouble else _report(output, UNEXPECTED, describe_unexpected(error))
    return code if isinstance(code, int) else SUCCESS


def _prepare_streams() -> _CheckedOutput | None:
    """Make the standard streams safe to use; None if standard output is closed."""
    # A store's file must not get the number of a closed stream, or output would be written into it.
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if sys.stdout is None:
        return None
    stream = cast(io.TextIOWrapper, sys.stdout)
    # Under LANG=C a name in another alphabet must not fail a command.
    output = _CheckedOutput(
        stream.buffer,
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
    stream.detach()
    sys.stdout = output
    return output


def _check_process() -> None:
    """Check the arguments and the current directory.

    Raises:
        BadInputError: An argument is not UTF-8 text, or the current directory was removed.
    """
    for number, argument in enumerate(sys.argv[1:], start=1):
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise BadInputError(
                f"Argument {number}, {argument!r}, is not UTF-8 text;",
                advice="give it in UTF-8, or without these bytes.",
            )
    try:
        Path.cwd()
    except OSError as error:
        raise BadInputError(
            f"The current directory cannot be used: {error.strerror};", advice="change to one that exists."
        ) from error


def _report(output: _CheckedOutput, code: int, what: str, advice: str = "") -> int:
    """Print an error for a person, and under --json for a program, too; return the exit code."""
    _print_error(f"{what} {advice}".strip())
    words = sys.argv[1:]
    if "--json" in words[: words.index("--") if "--" in words else None] and not output.is_used:
        # An error of the output is reported at the end.
        with suppress(OSError):
            output.write(json.dumps({"error": printable(what), "advice": printable(advice), "exit_code": code}) + "\n")
    return code


def describe_unexpected(error: Exception) -> str:
    """Write the traceback to a log file that only this user can read, and return one line with its path."""
    kind = type(error).__name__
    try:
        from core.errors.redact import Redactor, secrets_among

        redactor = Redactor(secrets_among(os.environ.items()))
        message = redactor.text(printable(str(error)))
        trace = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace").decode()
        location = f"the traceback is in {_keep_traceback(redactor.text(trace))}"
    except Exception as another:  # noqa: BLE001 - the first error is reported anyway
        message, location = "", f"its traceback could not be kept ({type(another).__name__})"
    first = message.strip().partition("\n")[0][:200]
    return f"unexpected error: {kind}{f': {first}' if first else ''}; {location}. Please report it."


def _keep_traceback(trace: str) -> Path:
    """Append to the log in the data folder, or if that fails to a temporary file."""
    heading = f"--- {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, process {os.getpid()}\n"
    entry = (heading + trace[-_LONGEST_TRACEBACK:] + "\n").encode()
    for log in _logs():
        with suppress(OSError, RoasError):
            if log.is_file() and log.stat().st_size > _LOG_BYTES:
                log.replace(log.with_name(f"{log.name}.1"))
            handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(entry)
            return log
    handle, name = tempfile.mkstemp(prefix="roas-", suffix=".log")
    with os.fdopen(handle, "wb") as file:
        file.write(entry)
    return Path(name)


def _logs() -> Iterator[Path]:
    from adapters.host.private_files import make_private_folder
    from models.settings import current_settings

    with suppress(OSError, RoasError):
        yield make_private_folder(current_settings().data_dir.absolute()) / _LOG


def _cut_middle(line: str) -> str:
    """Cut the middle out of a long line; its end says what to try."""
    half = _LONGEST_LINE // 2
    return line if len(line) <= _LONGEST_LINE else f"{line[:half]} ... {line[-half:]}"


def _print_error(text: str) -> None:
    """Print an error on standard error, printable and short enough for a screen."""
    lines = printable(text).splitlines() or [""]
    shown = [_cut_middle(line) for line in lines[:_MOST_LINES]]
    if len(lines) > _MOST_LINES:
        shown.append(f"... and {len(lines) - _MOST_LINES} more lines")
    # Standard error may be full or closed as well; the exit code remains.
    with suppress(OSError):
        echo("roas: " + "\n".join(shown), err=True)
