"""The records that a recovery needs, as they were read last: in a file of this host, for when the stores are away.

A process that starts while they are away goes on by these.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from adapters.host.private_files import MIB, make_private_folder, read_regular, write_private
from models.records import RecoveryRecords

log = logging.getLogger("roas")

_AT_MOST = 64 * MIB


class LastRecords:
    """The file of one environment."""

    def __init__(self, folder: Path, environment: str) -> None:
        self._file = folder / f"{environment}.json"
        self._environment = environment
        self._kept: bytes | None = None

    def read(self) -> RecoveryRecords | None:
        """Return what was kept last, without the patterns; None where nothing was, or it cannot be read."""
        with suppress(OSError, ValueError):
            records = _as_json.validate_json(read_regular(self._file, at_most=_AT_MOST))
            if records.environment == self._environment:
                return records
        return None

    def keep(self, records: RecoveryRecords) -> None:
        """Write records that differ from those kept last; a disk that does not take them is logged."""
        # Patterns are the same for all environments, and the program brings its own.
        data = _as_json.dump_json(replace(records, patterns=None))
        if data == self._kept:
            return
        try:
            make_private_folder(self._file.parent)
            write_private(self._file, data)
        except OSError as error:
            log.warning("%s was not written, so a restart while the stores are away knows less: %s", self._file, error)
            return
        self._kept = data


_as_json: TypeAdapter[RecoveryRecords] = TypeAdapter(RecoveryRecords)
