"""Prefect's client sends usage data only where the user asks for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

IS_SENT = "from prefect._internal.analytics.enabled import is_telemetry_enabled as sent; print(sent())"
FLOWS = "import flows"
TAKEN_OVER = "from flows.server.engine_settings import take_settings_over as take; take()"
BARE = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}


@pytest.mark.parametrize(
    ("program", "asked", "sent"),
    [
        (FLOWS, {}, "False"),
        (TAKEN_OVER, {"DO_NOT_TRACK": "0"}, "True"),
        pytest.param(FLOWS, {"DO_NOT_TRACK": "0"}, "True", marks=pytest.mark.campaign),
        pytest.param(TAKEN_OVER, {}, "False", marks=pytest.mark.campaign),
    ],
)
def test_usage_data_is_sent_only_where_it_is_asked_for(program: str, asked: dict[str, str], sent: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; {IS_SENT}"], env=BARE | asked, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == sent
