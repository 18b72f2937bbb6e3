"""Requests to the engine's API, parsed so strictly that the broker and the engine cannot read them differently."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlencode

import orjson

from models.failures import RequestRefusedError

OLDEST_VERSION = (1, 41)

_TARGET = re.compile(r"(?P<path>/[A-Za-z0-9_.:/@-]*)(?:\?(?P<query>[!-~]*))?")
_VERSION = re.compile(r"/v([0-9]{1,2})\.([0-9]{1,3})(?=/)")
_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTarget:
    """What a request names: `version` is a prefix such as "/v1.45" or empty, `path` the rest."""

    version: str
    path: str
    query: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """The target in its one canonical spelling."""
        return f"{self.version}{self.path}" + (f"?{urlencode(self.query)}" if self.query else "")


def refuse(what: str, advice: str = "") -> NoReturn:
    """Raise the refusal of a request; `what` holds names of settings and objects, never a secret's value."""
    raise RequestRefusedError(f"{what}." if advice else what, advice=advice)


def show_words(text: str) -> str:
    """Words of a request in one printable line of bounded length."""
    printable = "".join(char if char.isprintable() else "?" for char in text[: _SHOWN + 1])
    return f"{printable[:_SHOWN]}..." if len(printable) > _SHOWN else printable


def read_target(target: str) -> RequestTarget:
    """Parse the target of a request line.

    Docker's clients encode nothing in a path but the @ of a digest; anything else encoded could only hide one
    address in another. Raises RequestRefusedError for an absolute, encoded or traversing target, or an old API version.
    """
    match = _TARGET.fullmatch(target.replace("%40", "@", 1))
    if match is None:
        refuse(f"the address {show_words(target)} is not a plain path")
    path = match["path"]
    version = _VERSION.match(path)
    if version is not None:
        if (int(version[1]), int(version[2])) < OLDEST_VERSION:
            refuse(f"API version {version[1]}.{version[2]} is older than {OLDEST_VERSION[0]}.{OLDEST_VERSION[1]}")
        path = path[version.end() :]
    if any(part in ("", ".", "..") for part in path[1:].split("/")):
        refuse(f"the address {show_words(target)} is not a plain path")
    return RequestTarget(version="" if version is None else version[0], path=path, query=_query(match["query"] or ""))


def _query(text: str) -> tuple[tuple[str, str], ...]:
    if not text:
        return ()
    if ";" in text:
        refuse("the query has a semicolon")
    try:
        parameters = parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=20, errors="strict")
    except ValueError:
        refuse("the query does not parse")
    names = [name for name, _ in parameters]
    if len(set(names)) != len(names):
        refuse("the query gives a parameter twice")
    return tuple(parameters)


def read_json(body: bytes) -> dict[str, Any]:
    """Parse a JSON object in which no key stands twice. Raises RequestRefusedError for anything else."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError):
        refuse("the body is not valid JSON")
    if not isinstance(value, dict):
        refuse("the body is not a JSON object")
    return value


def write_json(value: Any) -> bytes:
    """The canonical form of a value. Raises RequestRefusedError for half a surrogate pair or too large a number."""
    try:
        return orjson.dumps(value)
    except TypeError:
        refuse("the body holds a text or number that JSON cannot carry")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        refuse(f"the body gives {show_words(twice)} twice")
    return members


def _no_number(text: str) -> NoReturn:
    refuse(f"the body holds {text}, which is no JSON number")
