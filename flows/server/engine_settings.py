"""Prefect's settings in a process that imported it earlier, with other variables or in another folder."""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from string import Template
from typing import Any

_RARE = (
    "prefect.automations",
    "prefect.events.actions",
    "prefect.events.filters",
    "prefect.events.schemas.automations",
    "prefect.events.schemas.deployment_triggers",
)
"""Modules of Prefect whose validators no command needs: they take 2 MiB of a process that stays."""

_IN_LOGGING_TEMPLATE = {"PREFECT_LOGGING_LEVEL", "PREFECT_SERVER_LOGGING_LEVEL", "PREFECT_INTERNAL_LOGGING_LEVEL"}


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


def prepare_for_forks() -> None:
    """Make once what is otherwise made at its first use, so in each fork.

    That is Prefect's validators and logging configuration, and the patterns of errors, which take a fifth of a second.
    """
    from adapters.pattern_files import shipped_set
    from flows.server.embedded import RUN_SETTINGS

    for name, value in RUN_SETTINGS.items():
        os.environ.setdefault(name, value)
    _complete_models()
    _remember_logging_config()
    shipped_set()


def _complete_models() -> None:
    from pydantic import BaseModel

    models: list[type[BaseModel]] = [BaseModel]
    for model in models:
        models.extend(model.__subclasses__())
        if model is not BaseModel and not (model.__pydantic_complete__ or model.__module__ in _RARE):
            model.model_rebuild(raise_errors=False)


def _remember_logging_config() -> None:
    """Keep Prefect's logging configuration for the same settings: it fills a template with all of them each time."""
    from prefect.context import refresh_global_settings_context
    from prefect.logging import configuration
    from prefect.settings import get_current_settings

    default = configuration.DEFAULT_LOGGING_SETTINGS_PATH
    if not set(Template(default.read_text(encoding="utf-8")).get_identifiers()) <= _IN_LOGGING_TEMPLATE:
        return
    load, configs = configuration.load_logging_config, dict[str, dict[str, Any]]()

    def remembered_settings(path: Path) -> dict[str, Any]:
        if path != default:
            return load(path)
        settings = get_current_settings()
        levels = settings.logging.level, settings.server.logging_level, settings.internal.logging_level
        variables = sorted(item for item in os.environ.items() if item[0].startswith("PREFECT_LOGGING_"))
        of = repr((levels, variables))
        if of not in configs:
            configs[of] = load(path)
        return copy.deepcopy(configs[of])

    configuration.load_logging_config = remembered_settings
    refresh_global_settings_context()
    remembered_settings(default)
