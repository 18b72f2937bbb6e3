"""Read from a Dockerfile what an image that is built from it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

_CONTINUED = re.compile(r"\\[ \t]*\n(?:[ \t]*#[^\n]*\n)*")
_ARGUMENT = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """What the last stage of a Dockerfile says. `base` is the image at the start of its chain of stages, and `targets`
    are the places that files are copied to."""

    base: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    targets: tuple[str, ...] = ()
    checked: bool = False


def read_dockerfile(text: str, *, target: str = "", arguments: Mapping[str, str] | None = None) -> BuiltImage:
    """Read a Dockerfile up to its stage `target`, else to its last one; what cannot be read is left out."""
    build_arguments = dict(arguments or {})
    variables: dict[str, str] = {}
    stages: dict[str, BuiltImage] = {}
    name, stage = "", BuiltImage()
    for instruction, operands in _instructions(text):
        match instruction:
            case "ARG" if not stages:
                argument, _, default = operands.partition("=")
                variables[argument.strip()] = build_arguments.get(argument.strip(), default.strip().strip("\"'"))
            case "FROM":
                if target and name == target.lower():
                    break
                words = [word for word in operands.split() if not word.startswith("--")]
                base = _fill_in(words[0], variables) if words else ""
                stage = stages.get(base.lower(), BuiltImage(base=base))
                name = words[2].lower() if len(words) > 2 and words[1].lower() == "as" else str(len(stages))
            case "ENTRYPOINT":
                # A new entrypoint takes the command of the base away.
                stage = replace(stage, entrypoint=_words(operands), command=())
            case "CMD":
                stage = replace(stage, command=_words(operands))
            case "EXPOSE":
                stage = replace(stage, ports=(*stage.ports, *_ports(_fill_in(operands, variables))))
            case "COPY" | "ADD":
                stage = replace(stage, targets=(*stage.targets, *_copy_targets(operands)))
            case "HEALTHCHECK":
                stage = replace(stage, checked=operands.strip().upper() != "NONE")
        if name:
            stages[name] = stage
    return stage


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    for line in _CONTINUED.sub(" ", text.replace("\r\n", "\n")).splitlines():
        instruction, _, operands = line.strip().partition(" ")
        if instruction and not instruction.startswith("#"):
            yield instruction.upper(), operands.strip()


def _fill_in(text: str, variables: Mapping[str, str]) -> str:
    return _ARGUMENT.sub(lambda match: variables.get(match[1] or match[3]) or match[2] or "", text)


def _words(operands: str) -> tuple[str, ...]:
    if operands.startswith("["):
        try:
            listed = json.loads(operands)
        except ValueError:
            return (operands,)
        return tuple(map(str, listed)) if isinstance(listed, list) else ()
    return ("sh", "-c", operands) if operands else ()


def _copy_targets(operands: str) -> tuple[str, ...]:
    return tuple(word.strip("[]\"',") for word in operands.split()[-1:])


def _ports(operands: str) -> Iterator[int]:
    for word in operands.split():
        number, _, protocol = word.partition("/")
        if number.isdigit() and protocol.lower() in ("", "tcp"):
            yield int(number)
