"""The decorator of our tasks: Prefect's, but it does not walk through each argument in search of other runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prefect import Task
from prefect.utilities.annotations import opaque

if TYPE_CHECKING:
    from prefect import task
else:

    def task(**options: Any) -> Any:
        """Make a task of a coroutine function, with Prefect's options."""
        return lambda function: _Task(fn=function, **options)


P = ParamSpec("P")
R = TypeVar("R")
_OF_PREFECT = frozenset({"return_state", "wait_for"})


class _Task(Task[P, R]):
    """A run is shown behind the runs that an argument itself came from, whatever else is in the argument.

    An application, its containers and its plan have thousands of parts, which Prefect would visit twice for each run.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task as a run."""
        named: dict[str, Any] = {
            name: value if name in _OF_PREFECT else opaque(value) for name, value in kwargs.items()
        }
        return super().__call__(*map(opaque, args), **named)


__all__ = ["task"]
