"""The maintenance of this host that is open, on the disk, and the process that carries it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from adapters.host.local_lock import LocalLock
from adapters.host.private_files import make_private_folder, read_regular, sync_folder, write_private
from adapters.host.processes import this_process
from models.failures import BadInputError
from models.maintenance import Maintenance
from models.settings import current_settings
from tasks.runtime.hosts import this_host


@contextmanager
def maintaining_alone() -> Iterator[str | None]:
    """Be the only process that carries a maintenance of this host; yields the other one, None without."""
    lock = _lock()
    try:
        yield lock.take(f"{this_process()} since {datetime.now(UTC):%H:%M:%S} UTC")
    finally:
        lock.release()


def carrier() -> str | None:
    """The process that carries a maintenance of this host; None where none does."""
    return _lock().holder()


def keep_maintenance(maintenance: Maintenance) -> Maintenance:
    """Write a maintenance down before what it says is done; it survives a kill and a power failure."""
    return _write(_place(), maintenance)


def close_maintenance(maintenance: Maintenance) -> None:
    """End a maintenance; the last one can still be read."""
    _write(_last(), maintenance)
    _place().unlink(missing_ok=True)
    sync_folder(_place().parent)


def open_maintenance() -> Maintenance | None:
    """The maintenance of this host that has not ended; None without one.

    Raises:
        BadInputError: Its record is damaged, or another host's.
    """
    maintenance = _read(_place())
    if maintenance is not None and maintenance.host_id != this_host().host_id:
        what = f"{_place()} is of a maintenance of {maintenance.host}, which is another host;"
        raise BadInputError(what, advice="remove the file: it came with a copied data folder.")
    return maintenance


def last_maintenance() -> Maintenance | None:
    """The maintenance that is open, else the last one that ended."""
    return open_maintenance() or _read(_last())


def _write(place: Path, maintenance: Maintenance) -> Maintenance:
    make_private_folder(place.parent)
    write_private(place, maintenance.model_dump_json().encode())
    sync_folder(place.parent)
    return maintenance


def _read(place: Path) -> Maintenance | None:
    try:
        return Maintenance.model_validate_json(read_regular(place))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise BadInputError(
            f"The record of a maintenance cannot be read from {place};",
            advice="`roas history` shows what it stopped: start that, and remove the file.",
        ) from error


def _lock() -> LocalLock:
    return LocalLock(current_settings().data_dir.absolute() / "held" / "host.maintenance.lock")


def _place() -> Path:
    return current_settings().data_dir.absolute() / "maintenance" / "open.json"


def _last() -> Path:
    return _place().with_name("last.json")
