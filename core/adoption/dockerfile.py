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
    given = dict(arguments or {})
    known: dict[str, str] = {}
    stages: dict[str, BuiltImage] = {}
    name, stage = "", BuiltImage()
    for instruction, rest in _instructions(text):
        match instruction:
            case "ARG" if not stages:
                argument, _, default = rest.partition("=")
                known[argument.strip()] = given.get(argument.strip(), default.strip().strip("\"'"))
            case "FROM":
                if target and name == target.lower():
                    break
                words = [word for word in rest.split() if not word.startswith("--")]
                base = _filled_in(words[0], known) if words else ""
                stage = stages.get(base.lower(), BuiltImage(base=base))
                name = words[2].lower() if len(words) > 2 and words[1].lower() == "as" else str(len(stages))
            case "ENTRYPOINT":
                # A new entrypoint takes the command of the base away.
                stage = replace(stage, entrypoint=_words(rest), command=())
            case "CMD":
                stage = replace(stage, command=_words(rest))
            case "EXPOSE":
                stage = replace(stage, ports=(*stage.ports, *_ports(_filled_in(rest, known))))
            case "COPY" | "ADD":
                stage = replace(stage, targets=(*stage.targets, *_copied_to(rest)))
            case "HEALTHCHECK":
                stage = replace(stage, checked=rest.strip().upper() != "NONE")
        if name:
            stages[name] = stage
    return stage


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    for line in _CONTINUED.sub(" ", text.replace("\r\n", "\n")).splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction and not instruction.startswith("#"):
            yield instruction.upper(), rest.strip()


def _filled_in(text: str, known: Mapping[str, str]) -> str:
    return _ARGUMENT.sub(lambda found: known.get(found[1] or found[3]) or found[2] or "", text)


def _words(rest: str) -> tuple[str, ...]:
    if rest.startswith("["):
        try:
            listed = json.loads(rest)
        except ValueError:
            return (rest,)
        return tuple(map(str, listed)) if isinstance(listed, list) else ()
    return ("sh", "-c", rest) if rest else ()


def _copied_to(rest: str) -> tuple[str, ...]:
    return tuple(word.strip("[]\"',") for word in rest.split()[-1:])


def _ports(rest: str) -> Iterator[int]:
    for word in rest.split():
        number, _, protocol = word.partition("/")
        if number.isdigit() and protocol.lower() in ("", "tcp"):
            yield int(number)
