"""What undoes a drill, on the disk: it stays until it is undone, and a damaged file is said."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.drills import DrillRecord, Fault
from models.environments import Environment
from models.failures import BadInputError, EngineError
from tasks.deployment.lease import alone_in
from tasks.recovery.drills import end_drill, end_left_drill, keep_drill, open_drill
from tasks.runtime.project import Project
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

NOW = datetime.now(UTC)
DRILL = DrillRecord(
    container_id="c" * 64, deployment_id="shop-1", service="web", fault=Fault.UNHEALTHY, made_at=NOW, until=NOW
)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))
    return tmp_path / "drills/shop.json"


def away(tmp_path: Path) -> Project:
    """An environment whose engine does not answer."""
    engine = f"unix://{tmp_path}/none.sock"
    return Project(Environment(name="shop", project="shop", compose_files=(Path("compose.yaml"),), engine=engine))


async def test_what_cannot_be_undone_yet_stays_open(place: Path, tmp_path: Path) -> None:
    await keep_drill("shop", DRILL)
    assert place.stat().st_mode & 0o777 == 0o600
    with pytest.raises(EngineError):
        await end_drill(away(tmp_path))
    assert open_drill("shop") == DRILL
    place.unlink()
    assert await end_drill(away(tmp_path)) is None


@pytest.mark.parametrize("damage", [b"", b"{", b'{"fault": "burn"}', b"\xff", b"[1]"])
async def test_a_damaged_file_is_named_and_kept(place: Path, tmp_path: Path, damage: bytes) -> None:
    await keep_drill("shop", DRILL)
    place.write_bytes(damage)
    for ending in (end_drill(away(tmp_path)), end_left_drill("shop")):
        with pytest.raises(BadInputError, match=r"drills/shop\.json"):
            await ending
    assert place.read_bytes() == damage


async def test_one_drill_at_a_time_until_its_process_ends(place: Path) -> None:
    read, write = os.pipe()
    if not (child := os.fork()):
        with alone_in("shop", "drill"):
            os.write(write, b".")
            signal.pause()
    os.read(read, 1)
    with alone_in("shop", "drill") as other:
        assert other is not None
        assert f"pid {child}" in other
        # Its process lives and its time is not over, so it is left alone.
        await keep_drill("shop", DRILL.model_copy(update={"until": datetime.max.replace(tzinfo=UTC, year=2999)}))
        await end_left_drill("shop")
        assert open_drill("shop") is not None
    os.kill(child, signal.SIGKILL)
    await asyncio.to_thread(os.waitpid, child, 0)
    with alone_in("shop", "drill") as other:
        assert other is None
