"""Prefect's settings in a process that imported it earlier, with other variables or in another folder."""

from __future__ import annotations

import sys


def take_settings_over() -> None:
    """Let Prefect read its variables, files and profile again, and set its logging up by them.

    Nothing is done where Prefect was not imported yet: it reads them when it is.
    """
    if "prefect" not in sys.modules:
        return
    from prefect.context import refresh_global_settings_context
    from prefect.logging.configuration import setup_logging

    refresh_global_settings_context()
    setup_logging(incremental=False)
