"""Failures of Compose as our errors: its own message without progress lines, and what to do about it."""

from __future__ import annotations

import re
from pathlib import Path

from adapters.host.programs import ProgramResult
from core.common.exit_codes import MORE_MEMORY
from core.common.safe_text import printable
from core.errors.redact import Redactor
from models.failures import ComposeError, EnginePermissionError, EngineUnreachableError, RoasError

_ADVICE = (
    (r"is not a docker command|unknown shorthand flag: 'f'", "Install the Compose 2 plugin of Docker."),
    (
        r"pull access denied|manifest (for .* )?(unknown|not found)|repository .* not found|unauthorized",
        "Check the image's name and tag, and that the engine is logged in to its registry.",
    ),
    (
        r"lookup .*(no such host|server misbehaving|timeout|i/o)|tls handshake|dial tcp .*refused",
        "The image's registry cannot be reached from the engine: check DNS, proxy and network, or load the image.",
    ),
    (r"failed to solve: process", "Correct that step of the Dockerfile."),
    (r"no matching manifest for", "The image is not made for this machine's platform."),
    (r"no space left on device", "Free space on the engine's disk; `docker system df` shows what is used."),
    (r"port is already allocated|address already in use", "Free that port, or publish another one."),
    (r"is already in use by container", "Another container has that name: remove or rename one."),
    (r"address pools?.*(subnet|fully)|pool overlaps", "Remove unused networks, or give other subnets."),
    (r"invalid mount|bind source path does not exist", "Make that path on the host."),
    (
        r"env file (\S+/)[^/\s]+ not found",
        r"Make that file, or correct its name; its folder: ls -la \1",
    ),
    (r"env_file", "Make that file, or mark it as not required."),
    (r"no such file or directory.*\.ya?ml|\.ya?ml: no such file", "Check compose_files in the environment."),
    (r"required variable|missing a value", "Set that variable before starting."),
    (r"yaml: (line|unmarshal|did|found)|mapping values|did not find expected", "Correct the file at that place."),
    (r"dependency cycle|cycle found", "Take one depends_on out of the circle."),
    (
        r"undefined (service|network|volume|secret|config)|refers to undefined",
        "Declare it, or correct the name.",
    ),
    (
        r"additional propert|must be a|unsupported|invalid|cannot unmarshal|validating",
        "Compare that field with the Compose file format.",
    ),
)
_KILLED = re.compile(r"\b137\b|\bkilled\b", re.IGNORECASE)
_LOGGED = re.compile(r'time="[^"]*" level=(?P<level>\w+) msg=(?P<message>".*?(?<!\\)"|\S+)')


def compose_failure(command: str, done: ProgramResult, *, engine: str, redactor: Redactor) -> RoasError:
    """Turn the output of a failed Compose command into an error, redacted; `engine` is the engine's address."""
    out, err = done.out, done.err
    message = redactor.text(_error_message(printable(err or out)))
    if re.search(r"cannot connect to the docker daemon|error during connect", message, re.IGNORECASE):
        return EngineUnreachableError(engine)
    if re.search(r"permission denied while trying to connect", message, re.IGNORECASE):
        return EnginePermissionError(
            f"This user may not talk to the Docker engine at {engine}.",
            advice="Join the group that owns the socket, or use sudo.",
        )
    hints = ((re.search(text, message, re.IGNORECASE), hint) for text, hint in _ADVICE)
    advice = next((match.expand(hint) for match, hint in hints if match is not None), "")
    if "failed to solve: process" in message:
        # The step that failed says why on the other stream, where Compose shows the build's progress.
        message = f"{message}; its last output: {redactor.text(_last_of_build(printable(out)))}"
    if done.memory_ran_out and (not advice or _KILLED.search(message)):
        # Through the docker command it is a plugin, whose end docker itself does not explain.
        message, advice = f"{message}; the kernel killed a process meanwhile, since memory ran out", MORE_MEMORY
    output = redactor.text(printable("\n".join(filter(None, (out.strip(), err.strip())))))
    if done.code is not None and done.code < 0:
        return ComposeError(f"{command} {done.ending}.", advice=advice, output=output)
    return ComposeError(f"{command} failed: {message}", advice=advice, output=output)


def unusable_file(file: Path, error: OSError | UnicodeDecodeError) -> ComposeError:
    """The error for a file that cannot be read as text."""
    reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
    return ComposeError(f"File {file} cannot be used: {reason};", advice="give a text file of at most 1 MiB.")


def warnings(err: str, redactor: Redactor) -> tuple[str, ...]:
    """Compose's warnings, redacted, each once."""
    matches = [_LOGGED.match(line) for line in redactor.text(printable(err)).splitlines()]
    messages = [_unquote(match["message"]) for match in matches if match is not None and match["level"] == "warning"]
    return tuple(dict.fromkeys(messages))


def _error_message(output: str) -> str:
    """The error in Compose's output, without progress lines, warnings and time stamps."""
    errors = []
    for line in output.splitlines():
        logged = _LOGGED.match(line)
        if logged is not None:
            if logged["level"] in ("error", "fatal"):
                errors.append(_unquote(logged["message"]))
        elif line.strip():
            errors.append(line.strip())
    for index, line in enumerate(errors):
        # Progress lines come before the error; all lines after it belong to it.
        if re.match(r"(Error|failed to|unable to|service \S+)\b", line):
            return " ".join(errors[index : index + 6])
    return errors[-1] if errors else "no reason was given"


def _last_of_build(progress: str) -> str:
    """The last lines that a build step printed, without its number and time."""
    printed = re.findall(r"^#\d+ [\d.]+ (.+)$", progress, re.MULTILINE)
    return " / ".join(printed[-3:]) or "nothing"


def _unquote(quoted: str) -> str:
    return quoted[1:-1].replace('\\"', '"').replace("\\\\", "\\") if quoted.startswith('"') else quoted
