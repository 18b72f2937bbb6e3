"""Prefect's settings in a process that imported it earlier, with other variables or in another folder."""

from __future__ import annotations

import os
import sys


def take_settings_over() -> None:
    """Let Prefect read its variables, files and profile again, and set its logging up by them.

    It sends no usage data unless a variable asks for it. Nothing else is done where Prefect was not imported yet: it
    reads them when it is.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if "prefect" not in sys.modules:
        return
    from prefect.context import refresh_global_settings_context
    from prefect.logging.configuration import setup_logging

    refresh_global_settings_context()
    setup_logging(incremental=False)
