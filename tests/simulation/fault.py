"""A defect that is put into the product on purpose."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.simulation.actions import Action, Kind
from tests.simulation.installed import product_modules
from tests.simulation.sentences import Sentence

CRASHES, HANGS, CRASHES_LATER = 1, 4, 5
"""The numbers of updates whose version crashes, never becomes ready, or crashes soon after that."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A defect: where it is, what stands there instead, and which sentences it may break."""

    name: str
    place: str
    instead: Callable[[Any], Any]
    breaks: frozenset[Sentence]
    shown_by: tuple[Action, ...]
    """A few events that show it; seeds must find it as well."""
    seed: int = 1

    def put(self) -> None:
        """Put it into the product of this process, in each module that has the function."""
        home, _, name = self.place.rpartition(":")
        owner: Any = importlib.import_module(home.partition("#")[0])
        if "#" in home:
            owner = getattr(owner, home.partition("#")[2])
        right = getattr(owner, name)
        wrong = self.instead(right)
        setattr(owner, name, wrong)
        for module in product_modules():
            if vars(module).get(name) is right:
                setattr(module, name, wrong)


def always(value: Any) -> Callable[[Any], Any]:
    """Instead of a function: one that always returns this."""
    return lambda _: lambda *_, **__: value


def always_later(value: Any) -> Callable[[Any], Any]:
    """The same of a function that is awaited."""

    async def call(*_: Any, **__: Any) -> Any:
        return value

    return lambda _: call


def put(value: Any) -> Callable[[Any], Any]:
    """Instead of a value: this one."""
    return lambda _: value


def events(*happens: tuple[float, Kind, str, int, float]) -> tuple[Action, ...]:
    """These events, after a start."""
    return (Action(1.0, Kind.START), *(Action(*event) for event in happens))


def broken(*sentences: Sentence) -> frozenset[Sentence]:
    """These sentences."""
    return frozenset(sentences)
