"""A few of the campaign's harms in parallel on a real engine; `python -m tests.e2e.healing` runs all of them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.healing.endured import survive
from tests.e2e.healing.harms import HARMS
from tests.e2e.healing.scenes import Sample, Stranger

pytestmark = [
    pytest.mark.engine,
    pytest.mark.flow,
    # Longer than a harm is given, so that its complaints are read also from a busy machine.
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.campaign,
]

NAMES = frozenset(
    {
        "redis killed",
        "bot stopped by a person",
        "port taken by a left-over of the project",
        "redis wants another password (NOAUTH)",
    }
)
QUIET_SECONDS = 2.0


@contextmanager
def living(name: str, folder: Path) -> Iterator[Sample]:
    """A sample of that name, taken away at the end."""
    sample = Sample(environments=folder, name=name)
    try:
        yield sample
    finally:
        sample.clean()


async def test_harms_are_healed_or_become_one_ticket_and_nobody_else_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    harms = [harm for harm in HARMS if harm.name in NAMES]
    assert len(harms) == len(NAMES)
    stranger = Stranger(f"stranger-{secrets.token_hex(4)}")
    stranger.begin()

    async def complaints(number: int) -> list[str]:
        with living(f"sample-{number}", tmp_path) as sample:
            survived = await survive(harms[number], sample, quiet=QUIET_SECONDS)
            return survived.complaints()

    try:
        before = stranger.shows()
        said = await asyncio.gather(*(complaints(number) for number in range(len(harms))))
        assert dict(zip((harm.name for harm in harms), said, strict=True)) == {harm.name: [] for harm in harms}
        assert stranger.shows() == before
    finally:
        stranger.end()
