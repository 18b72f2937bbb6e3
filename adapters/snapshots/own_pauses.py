"""Which containers a snapshot has paused, on disk before it pauses them: what a person paused is never let go on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from adapters.host.private_files import make_private_folder
from models.failures import StillPausedError


class OwnPauses:
    """The pauses of one environment's snapshots, in a private folder of this host's data."""

    def __init__(self, folder: Path, environment: str) -> None:
        self._folder = folder / "paused" / environment

    @contextmanager
    def record_pauses(self, snapshot_id: str, started: Mapping[str, str]) -> Iterator[None]:
        """Remember containers while the body pauses them and lets them go on; for longer where it raises that they do
        not.

        `started` has of each container when it was started, which tells a later pause of it from ours: a container
        that was started anew is paused no more.
        """
        file = make_private_folder(self._folder) / f"{snapshot_id}.json"
        file.write_text(json.dumps(dict(started)))
        try:
            yield
        except StillPausedError:
            raise
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        file.unlink(missing_ok=True)

    def left_pauses(self) -> dict[str, str]:
        """The containers that killed snapshots left paused, and when they had been started."""
        containers: dict[str, str] = {}
        for file in self._files():
            try:
                noted = json.loads(file.read_text())
            except (OSError, ValueError):
                # It was killed while it wrote this, and so before it paused any.
                continue
            if isinstance(noted, dict):
                containers |= {container: started for container, started in noted.items() if isinstance(started, str)}
        return containers

    def forget(self) -> None:
        """They go on again."""
        for file in self._files():
            file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(file for file in self._folder.glob("*.json") if file.is_file())
