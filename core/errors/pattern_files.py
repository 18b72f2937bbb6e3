"""Read files of patterns: YAML in, patterns with their examples out, and what is wrong with them.

A file describes one program:

    program: redis
    patterns:
      - id: redis_busy
        means: Redis loads its data or runs a script, and answers when it is done.
        category: redis_state
        severity: medium
        strategy: wait_and_retry
        precedence: trap+1          # a level of core.errors.match, and how far above or below it
        expression:                 # RE2, letter case ignored; one of them matches
          - loading redis is loading
        match: [...]                # at least three lines as the program prints them
        no_match: [...]             # at least two near misses
        source: redis/src/server.c

`%{NAME}` in an expression stands for words of the file `words.yaml`, which several files share.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import yaml

from core.errors.match import LEVELS, BadPatternError, PatternSet, check_pattern
from models.errors import Category, DescribedPattern, Pattern, Severity, Strategy, Verdict
from models.failures import BadInputError

_Kind = TypeVar("_Kind", Category, Severity, Strategy)

LEAST_MATCHES, LEAST_NEAR_MISSES = 3, 2

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KEYS = (
    "id", "means", "category", "severity", "strategy", "precedence", "expression", "match", "no_match", "source",
)  # fmt: skip
_ID = re.compile(r"[a-z][a-z0-9_]{2,59}")
_WORDS = re.compile(r"%\{([A-Z_]+)\}")
_PRECEDENCE = re.compile(r"([a-z]+)(?: ?([+-]) ?(\d{1,2}))?")


class BadPatternFileError(BadInputError):
    """A file of patterns cannot be read."""


def read_words(text: str) -> dict[str, str]:
    """Read the shared words: their names, and the expressions that they stand for.

    Raises BadPatternFileError.
    """
    words = _mapping(_parse(text, "words.yaml"), "words.yaml")
    read: dict[str, str] = {}
    for name, expression in words.items():
        read[str(name)] = _expand(str(expression), read, "words.yaml")
    return read


def read_patterns(text: str, name: str, words: Mapping[str, str]) -> tuple[DescribedPattern, ...]:
    """Read the patterns of a file. `name` is the file's, for messages; `words` come from `read_words`.

    Raises BadPatternFileError: the message names the file, the pattern and the key.
    """
    content = _mapping(_parse(text, name), name)
    program = content.get("program")
    if not isinstance(program, str) or not isinstance(content.get("patterns"), list):
        raise _bad(name, "it needs `program: NAME` and a list `patterns:`")
    if unknown := set(content) - {"program", "patterns"}:
        raise _bad(name, f"it has the unknown key {min(map(str, unknown))}")
    return tuple(_describe(entry, program, name, words) for entry in content["patterns"])


def lint_patterns(patterns: Sequence[DescribedPattern], benign_lines: Sequence[str]) -> tuple[str, ...]:
    """Sentences on what is wrong with patterns and their examples; nothing if all is well.

    `benign_lines` are known to be harmless: only a benign pattern may match one.
    """
    counts = Counter(pattern.pattern.name for pattern in patterns)
    faults = [f"{name}: the id occurs {count} times." for name, count in counts.items() if count > 1]
    for pattern in patterns:
        faults += [f"{pattern.pattern.name}: {fault}" for fault in _faults(pattern, benign_lines)]
    return tuple(faults)


def never_deciding(patterns: Sequence[DescribedPattern], classify: Callable[[str], Verdict]) -> tuple[str, ...]:
    """Names of the patterns that decide none of their own examples; `classify` knows all patterns."""
    return tuple(
        pattern.pattern.name
        for pattern in patterns
        if all(classify(text).pattern_name != pattern.pattern.name for text in pattern.match)
    )


def _faults(pattern: DescribedPattern, benign_lines: Sequence[str]) -> Iterable[str]:
    if len(set(pattern.match)) < LEAST_MATCHES:
        yield f"it has {len(set(pattern.match))} different examples under match; {LEAST_MATCHES} are the least."
    if len(set(pattern.no_match)) < LEAST_NEAR_MISSES:
        yield (
            f"it has {len(set(pattern.no_match))} different examples under no_match; {LEAST_NEAR_MISSES} are the least."
        )
    complaints = check_pattern(pattern.pattern, benign_lines)
    yield from complaints
    try:
        alone = PatternSet([pattern.pattern])
    except BadPatternError as error:
        if not complaints:
            yield str(error)
        return
    yield from (f'it does not match its example "{text}".' for text in pattern.match if not alone.find(text))
    yield from (f'it matches its near miss "{text}".' for text in pattern.no_match if alone.find(text))


def _describe(entry: Any, program: str, name: str, words: Mapping[str, str]) -> DescribedPattern:
    fields = _mapping(entry, name)
    which = f"{name}, pattern {fields.get('id', '?')}"
    for key in _KEYS:
        if key not in fields:
            raise _bad(which, f"the key {key} is missing")
    if unknown := set(fields) - set(_KEYS):
        raise _bad(which, f"it has the unknown key {min(map(str, unknown))}")
    if not _ID.fullmatch(str(fields["id"])):
        raise _bad(which, "an id has 3 to 60 small letters, digits and underscores")
    expressions = _texts(fields["expression"], which, "expression")
    return DescribedPattern(
        pattern=Pattern(
            name=fields["id"],
            regex="|".join(_expand(expression, words, which) for expression in expressions),
            category=_member(Category, fields["category"], which),
            severity=_member(Severity, fields["severity"], which),
            strategy=_member(Strategy, fields["strategy"], which),
            priority=_priority(fields["precedence"], which),
        ),
        program=program,
        means=str(fields["means"]),
        match=_texts(fields["match"], which, "match"),
        no_match=_texts(fields["no_match"], which, "no_match"),
        source=str(fields["source"]),
    )


def _priority(precedence: Any, which: str) -> int:
    match = _PRECEDENCE.fullmatch(str(precedence))
    if match is None or match[1] not in LEVELS:
        levels = ", ".join(LEVELS)
        raise _bad(which, f"precedence is one of {levels}, with +N or -N behind it where needed, not {precedence}")
    return LEVELS[match[1]] + int(f"{match[2] or '+'}{match[3] or 0}")


def _member(kind: type[_Kind], value: Any, which: str) -> _Kind:
    try:
        return kind(value)
    except ValueError as error:
        raise _bad(which, f"{value} is no {kind.__name__.lower()}; there are {', '.join(kind)}") from error


def _expand(expression: str, words: Mapping[str, str], which: str) -> str:
    for name in _WORDS.findall(expression):
        if name not in words:
            raise _bad(which, f"words.yaml has no %{{{name}}}")
    return _WORDS.sub(lambda match: f"(?:{words[match[1]]})", expression)


def _texts(value: Any, which: str, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise _bad(which, f"{key} is a list of texts")
    return tuple(value)


def _mapping(value: Any, which: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(which, "a mapping of keys to values is expected")
    return value


def _parse(text: str, name: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader, of C where PyYAML has it
    except yaml.YAMLError as error:
        raise _bad(name, f"it is not YAML: {error}") from error


def _bad(which: str, why: str) -> BadPatternFileError:
    return BadPatternFileError(f"{which}: {why}.", advice="`roas patterns lint FILE` checks a file of patterns.")
