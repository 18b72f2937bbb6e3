"""A case of the gallery: a small application, how it is broken, and what a person says of it; cases/*.yaml has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from models.errors import Category, Strategy

_CASES = Path(__file__).with_name("cases")


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_tuple(given: object) -> object:
    return (given,) if isinstance(given, str) else given


class Expectation(_Data):
    """What a person who knows the program says of the case, whatever the product says.

    `blame` are the services of which one is rightly blamed, `causes` the categories that are right, `line` the words
    that a person would point at, or several of which one is enough. `actions` are the automatic actions that could
    help; any other one is harmful.
    """

    start: Literal["started", "failed"] = "failed"
    blame: tuple[str, ...] = ()
    causes: tuple[Category, ...] = ()
    line: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = ()
    actions: tuple[Strategy, ...] = ()


class GalleryCase(_Data):
    """One application with an expectation; one that expects neither blame nor cause is noisy but healthy.

    `program` is whose words decide, `broken` how it is broken or why it is noisy. `files` lie beside the Compose file,
    `services` and `volumes` are its content; `executable` files may be run. `@PORT@` is a free port of the host, which
    `holds_port` keeps in use. `environment` are fields of an environment file; without any the Compose file is started
    bare. `then` are arguments of `docker` after a first start that must succeed, with `@PROJECT@` for the project; what
    the command `judged_by` says afterwards is judged. `then_may_fail`: what breaks it may end before it is done.
    `quick` cases are small enough for the gate.
    """

    name: str
    program: str
    broken: str
    services: dict[str, dict[str, Any]]
    volumes: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    executable: tuple[str, ...] = ()
    holds_port: bool = False
    then: tuple[tuple[str, ...], ...] = ()
    judged_by: Literal["start", "collect"] = "start"
    then_may_fail: bool = False
    quick: bool = False
    expect: Expectation

    @property
    def is_healthy(self) -> bool:
        return not self.expect.blame and not self.expect.causes and self.expect.start == "started"


def read_cases() -> list[GalleryCase]:
    """Return all cases in the order of their files.

    Raises:
        ValueError: Two cases have one name.
    """
    cases = list(_read())
    names = [case.name for case in cases]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"names of more than one case: {sorted(twice)}")
    return cases


def _read() -> Iterator[GalleryCase]:
    for path in sorted(_CASES.glob("*.yaml")):
        for document in yaml.safe_load(path.read_text()):
            yield GalleryCase.model_validate(document)
