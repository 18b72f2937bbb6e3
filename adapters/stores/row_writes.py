"""Rows of the monitoring store that come often, as a write that may wait in a journal."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Literal

from adapters.stores.repositories.health import ProbeCells
from adapters.stores.series import bury
from adapters.stores.stores import Stores
from adapters.stores.transactions import Bound, Together
from adapters.stores.writes import Names, Write
from models.failures import StoreConstraintError
from models.metrics import Metric

log = logging.getLogger("roas")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRows(Write):
    """Samples, and answers of probes. A row that a rule forbids is kept in dead_letters."""

    samples: tuple[Metric, ...] = ()
    answers: tuple[ProbeCells, ...] = ()
    kind: Literal["rows"] = "rows"

    def __len__(self) -> int:
        return len(self.samples) + len(self.answers)

    @classmethod
    def join(cls, writes: Iterable[KeepRows]) -> KeepRows:
        """Put the rows of several writes into one."""
        writes = tuple(writes)
        return cls(
            samples=tuple(chain.from_iterable(write.samples for write in writes)),
            answers=tuple(chain.from_iterable(write.answers for write in writes)),
        )

    def apply(self, stores: Stores, names: Names) -> None:
        """Write the rows that are not there yet, all in one transaction; where a rule forbids one, by halves."""
        try:
            with stores.databases["monitoring"].write() as connection:
                inside = Together({"monitoring": Bound("monitoring", connection)})
                inside.metrics.add(self.samples)
                inside.health.put_probes(self.answers)
        except StoreConstraintError as error:
            if len(self) == 1:
                self._bury(stores, str(error))
                return
            # What was written twice is there once, so the halves need no transaction around them.
            for half in self._halve():
                half.apply(stores, names)

    def _halve(self) -> tuple[KeepRows, KeepRows]:
        middle = len(self) // 2
        first, rest = self.samples[:middle], self.samples[middle:]
        of_answers = middle - len(first)
        return (
            KeepRows(samples=first, answers=self.answers[:of_answers]),
            KeepRows(samples=rest, answers=self.answers[of_answers:]),
        )

    def _bury(self, stores: Stores, reason: str) -> None:
        target, row = "metric_samples", dict[str, Any]()
        if self.samples:
            row = asdict(self.samples[0])
        else:
            target, row = "probe_results", self.answers[0]._asdict()
        log.error("batch writer: a row for %s was refused and is kept in dead_letters: %s", target, reason)
        with stores.databases["monitoring"].write() as connection:
            bury(connection, target, reason, row)
