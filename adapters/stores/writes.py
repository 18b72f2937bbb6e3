"""What one thing that goes into the stores is, so that it may wait in a journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from adapters.stores.stores import Stores


@dataclass(slots=True)
class Names:
    """The ids that the stores gave to errors and tickets which were recorded under another one before."""

    errors: dict[str, str] = field(default_factory=dict)
    tickets: dict[str, str] = field(default_factory=dict)

    def error(self, error_id: str) -> str:
        """The id that the store knows an error by."""
        return self.errors.get(error_id, error_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One thing that goes into the stores. `kept`: it is worth keeping until the stores are back."""

    kept: ClassVar[bool] = True

    def apply(self, stores: Stores, names: Names) -> Any:
        """Write it.

        Raises:
            StoreError: A store did not take it, and nothing of it happened.
        """
        raise NotImplementedError
